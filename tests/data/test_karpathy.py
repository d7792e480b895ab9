"""Reading Karpathy-format annotations: what is read, and what is refused with which message."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from blipbench.data.dataset import RetrievalDataset
from blipbench.data.files import find_annotation, read_annotation
from blipbench.data.retrieval import read_retrieval
from blipbench.errors import DataError, UsageError

GOLDEN = Path(__file__).parents[1] / "golden"


def write(root: Path, records: Any, images: tuple[str, ...] = ("a.jpg", "b.jpg", "c.jpg")) -> Path:
    for image in images:
        (root / image).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), "teal").save(root / image)
    annotation = root / "test.json"
    annotation.write_text(records if isinstance(records, str) else json.dumps(records))
    return annotation


def read(root: Path, records: Any, **settings: Any) -> RetrievalDataset:
    annotation = write(root, records)
    return read_retrieval(root, annotation, name="retrieval_mine", split="test", max_words=30, **settings)


def refusal(root: Path, records: Any) -> str:
    with pytest.raises(DataError) as caught:
        read(root, records)
    assert caught.value.exit_code == 1
    assert str(root / "test.json") in str(caught.value)
    return str(caught.value)


class TestReading:
    def test_the_golden_annotation_gives_the_texts_the_reference_used(self) -> None:
        annotation = GOLDEN / "data" / "coco_karpathy_test.json"
        dataset = read_retrieval(GOLDEN / "data", annotation, name="retrieval_coco", split="test", max_words=30)
        expected = json.loads((GOLDEN / "retrieval_k6.json").read_text())
        assert dataset.texts == expected["texts"]
        assert dataset.image_of_text.tolist() == expected["txt2img"]

    def test_texts_belong_to_the_image_of_their_record(self, tmp_path: Path) -> None:
        dataset = read(
            tmp_path, [{"image": "b.jpg", "caption": ["One.", "Two."]}, {"image": "a.jpg", "caption": ["3"]}]
        )
        assert dataset.names == ["b.jpg", "a.jpg"]
        assert dataset.sources == [(tmp_path / "b.jpg",), (tmp_path / "a.jpg",)]
        assert dataset.texts == ["one", "two", "3"]
        assert dataset.image_of_text.dtype == np.int32
        assert dataset.image_of_text.tolist() == [0, 0, 1]

    def test_images_may_lie_in_a_folder_named_images(self, tmp_path: Path) -> None:
        annotation = write(tmp_path, [{"image": "val/x.jpg", "caption": ["x"]}], images=("images/val/x.jpg",))
        dataset = read_retrieval(tmp_path, annotation, name="mine", split="test", max_words=30)
        assert dataset.sources == [(tmp_path / "images" / "val" / "x.jpg",)]

    def test_rows_of_a_train_file_are_grouped_by_image(self, tmp_path: Path) -> None:
        rows = [("a.jpg", "one", 7), ("b.jpg", "two", 8), ("a.jpg", "three", 7)]
        dataset = read(tmp_path, [{"image": i, "caption": c, "image_id": n} for i, c, n in rows])
        assert dataset.names == ["a.jpg", "b.jpg"]
        assert dataset.texts == ["one", "three", "two"]
        assert dataset.image_of_text.tolist() == [0, 0, 1]

    def test_a_caption_without_words_stays_a_text_as_in_the_reference(self, tmp_path: Path) -> None:
        assert read(tmp_path, [{"image": "a.jpg", "caption": ["...", "a dog"]}]).texts == ["", "a dog"]

    def test_a_symbolic_link_may_lead_out_of_the_folder(self, tmp_path: Path) -> None:
        Image.new("RGB", (8, 8)).save(tmp_path / "elsewhere.png")
        root = tmp_path / "root"
        root.mkdir()
        (root / "link.png").symlink_to(tmp_path / "elsewhere.png")
        assert read(root, [{"image": "link.png", "caption": ["x"]}]).sources == [(root / "link.png",)]


RECORDS = [{"image": name, "caption": [name, "and more"]} for name in ("a.jpg", "b.jpg", "gone.jpg")]


class TestLimit:
    def test_the_first_images_are_kept_with_all_their_texts(self, tmp_path: Path) -> None:
        dataset = read(tmp_path, RECORDS[:2], limit=1)
        assert (dataset.names, len(dataset.texts), dataset.total_images) == (["a.jpg"], 2, 2)

    def test_files_beyond_the_limit_need_not_be_there(self, tmp_path: Path) -> None:
        assert read(tmp_path, RECORDS, limit=2).names == ["a.jpg", "b.jpg"]

    def test_a_limit_of_none_is_wrong_usage(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="--limit 0"):
            read(tmp_path, RECORDS, limit=0)


class TestMissingFiles:
    def test_missing_images_are_counted_and_the_first_is_named(self, tmp_path: Path) -> None:
        records = [{"image": name, "caption": ["x"]} for name in ("a.jpg", "val/x.jpg", "y.jpg")]
        with pytest.raises(DataError) as caught:
            read(tmp_path, records)
        assert str(caught.value) == (
            f"retrieval_mine: 2 of 3 images are missing under {tmp_path}, first: val/x.jpg; "
            "run `blipbench data prepare retrieval_mine`"
        )

    def test_an_empty_file_counts_as_missing(self, tmp_path: Path) -> None:
        (tmp_path / "empty.jpg").touch()
        with pytest.raises(DataError, match=r"1 of 1 images is missing .* first: empty.jpg \(an empty file\)"):
            read(tmp_path, [{"image": "empty.jpg", "caption": ["x"]}])

    @pytest.mark.parametrize("image", [".", "n" * 300])
    def test_what_cannot_be_a_file_counts_as_missing(self, tmp_path: Path, image: str) -> None:
        with pytest.raises(DataError, match="1 of 1 images is missing"):
            read(tmp_path, [{"image": image, "caption": ["x"]}])


class TestFindAnnotation:
    @pytest.mark.parametrize("folder", [".", "annotations"])
    def test_it_is_found_in_the_root_or_in_annotations(self, tmp_path: Path, folder: str) -> None:
        (tmp_path / folder).mkdir(exist_ok=True)
        place = tmp_path / folder / "t.json"
        place.write_text("[]")
        assert find_annotation(tmp_path, "t.json", "mine") == place

    def test_both_places_and_the_way_out_are_named(self, tmp_path: Path) -> None:
        with pytest.raises(DataError) as caught:
            find_annotation(tmp_path, "t.json", "mine")
        for part in (tmp_path / "t.json", tmp_path / "annotations" / "t.json", "blipbench data prepare mine"):
            assert str(part) in str(caught.value)

    def test_a_root_that_is_no_folder_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="nowhere is not a folder"):
            find_annotation(tmp_path / "nowhere", "t.json", "mine")

    @pytest.mark.parametrize("filename", ["../../etc/passwd", "/etc/passwd"])
    def test_it_may_not_leave_the_root(self, tmp_path: Path, filename: str) -> None:
        with pytest.raises(DataError, match=r"annotation file '.*etc/passwd' (leaves|is absolute)"):
            find_annotation(tmp_path, filename, "mine")


GOOD = {"image": "a.jpg", "caption": ["x"]}


class TestBadAnnotations:
    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ('[{"image": "a.jpg",\n "caption": ]', "is not JSON: Expecting value at line 2, column 13"),
            ("", "is not JSON: Expecting value at line 1, column 1"),
            ("[" * 100_000, "is nested too deeply"),
            ('[{"image": 1' + "0" * 5000 + "}]", "is not JSON that can be read"),
            ("{}", "holds an object, not a list; expected a list of"),
            ("[]", "holds an empty list"),
            ('{"images": ["a.jpg"], "captions": [["x"], ["y"]]}', "holds an object, not a list; expected a list of"),
        ],
    )
    def test_what_is_not_a_json_list_is_refused(self, tmp_path: Path, content: str, message: str) -> None:
        assert message in refusal(tmp_path, content)

    def test_bytes_that_are_not_text_are_refused(self, tmp_path: Path) -> None:
        (tmp_path / "t.json").write_bytes(b'["\xff\xfe"]')
        with pytest.raises(DataError, match=r"t\.json is not JSON: byte 2 is not utf-8 text"):
            read_annotation(tmp_path / "t.json", "expected a list")

    @pytest.mark.parametrize(
        ("record", "message"),
        [
            ("a.jpg", "record 2: is a string"),
            (None, "record 2: is null"),
            ({"caption": ["x"]}, "record 2: has no 'image'"),
            ({"image": "b.jpg"}, "record 2: has no 'caption'"),
            ({"image": 5, "caption": ["x"]}, "record 2: 'image' is a number"),
            ({"image": "", "caption": ["x"]}, "record 2: image '' is not a file name"),
            ({"image": "b\0.jpg", "caption": ["x"]}, "record 2: image 'b\\x00.jpg' is not a file name"),
            ({"image": "b.jpg", "caption": []}, "record 2: image 'b.jpg' has an empty caption list"),
            ({"image": "b.jpg", "caption": "x"}, "record 2: 'caption' is a string, not a list of strings"),
            ({"image": "b.jpg", "caption": ["x", None]}, "record 2: caption 2 is null, not a string"),
            ({"image": "b.jpg", "caption": ["x", ["y"]]}, "record 2: caption 2 is a list, not a string"),
            ({"image": "b.jpg", "caption": ["\ud83d"]}, "record 2: caption 1 holds half a surrogate pair"),
        ],
    )
    def test_a_malformed_record_is_refused_by_number(self, tmp_path: Path, record: Any, message: str) -> None:
        assert message in refusal(tmp_path, [GOOD, record])

    @pytest.mark.parametrize("image", ["../../etc/passwd", "val/../../x.jpg", ".."])
    def test_an_image_may_not_leave_the_root(self, tmp_path: Path, image: str) -> None:
        record = {"image": image, "caption": ["x"]}
        assert f"record 2: image {image!r} leaves the data folder" in refusal(tmp_path, [GOOD, record])

    def test_an_image_may_not_be_absolute(self, tmp_path: Path) -> None:
        record = {"image": str(tmp_path / "b.jpg"), "caption": ["x"]}
        assert "is absolute" in refusal(tmp_path, [GOOD, record])

    @pytest.mark.parametrize("other", ["a.jpg", "./a.jpg", "val/../a.jpg"])
    def test_the_same_image_twice_is_refused_with_both_records(self, tmp_path: Path, other: str) -> None:
        message = refusal(tmp_path, [GOOD, {"image": "b.jpg", "caption": ["y"]}, {"image": other, "caption": ["z"]}])
        assert "records 1 and 3 are the same image" in message

    def test_strings_where_an_evaluation_file_has_lists_are_refused(self, tmp_path: Path) -> None:
        message = refusal(tmp_path, [{"image": "a.jpg", "caption": "one"}, {"image": "b.jpg", "caption": "two"}])
        assert "record 1: 'caption' is a string, but there is no 'image_id'" in message

    def test_a_list_in_a_train_file_is_refused(self, tmp_path: Path) -> None:
        message = refusal(tmp_path, [{"image": "a.jpg", "caption": "one", "image_id": 1}, GOOD])
        assert "record 2: 'caption' is a list, but record 1 has a string" in message

    def test_an_image_with_two_ids_is_refused(self, tmp_path: Path) -> None:
        message = refusal(tmp_path, [{"image": "a.jpg", "caption": "one", "image_id": n} for n in (1, 2)])
        assert "image 'a.jpg' has image_id 1 in record 1 and 2 in 2" in message

    def test_an_id_with_two_images_is_refused(self, tmp_path: Path) -> None:
        message = refusal(tmp_path, [{"image": n, "caption": "one", "image_id": "5"} for n in ("a.jpg", "b.jpg")])
        assert "image_id '5' is 'a.jpg' in record 1 and 'b.jpg' in 2" in message

    def test_the_message_counts_the_other_faults(self, tmp_path: Path) -> None:
        message = refusal(tmp_path, [GOOD, {"image": "b.jpg", "caption": []}, {"image": "c.jpg"}])
        assert message.endswith("(and 1 more: `blipbench data verify retrieval_mine` lists all)")

    def test_faults_beyond_the_limit_are_found(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="record 2"):
            read(tmp_path, [GOOD, {"image": "b.jpg"}], limit=1)


def test_the_annotation_is_identified_by_the_sha256_of_its_bytes(tmp_path: Path) -> None:
    first, second = tmp_path / "a.json", tmp_path / "b.json"
    first.write_text("[1]")
    shutil.copy(first, second)
    assert read_annotation(first, "") == read_annotation(second, "")
    second.write_text("[1] ")
    assert read_annotation(first, "")[1] != read_annotation(second, "")[1]
