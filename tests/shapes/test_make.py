"""The shapes data set on disk: formats, determinism, completion after an interruption, refusals."""

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from blipbench.config.tasks import load_task
from blipbench.data.captions import read_captions
from blipbench.data.msrvtt import read_msrvtt
from blipbench.data.nlvr import read_nlvr
from blipbench.data.retrieval import read_retrieval
from blipbench.data.vqa import read_vqa
from blipbench.errors import DataError, UsageError
from blipbench.shapes import make_shapes, shapes_vocabulary, split_sizes
from blipbench.shapes.sampling import sample_scene

SEED = 3


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("shapes") / "world"
    make_shapes(out, images=6, seed=SEED)
    return out


def digests(folder: Path) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def read(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    return rows


def test_the_same_seed_gives_the_same_bytes(made: Path, tmp_path: Path) -> None:
    make_shapes(tmp_path, images=6, seed=SEED)
    assert digests(tmp_path) == digests(made)


def test_images_do_not_depend_on_how_many_are_made(made: Path, tmp_path: Path) -> None:
    make_shapes(tmp_path, images=3, seed=SEED)
    few = {name: digest for name, digest in digests(tmp_path).items() if name.endswith(".jpg")}
    assert few.items() <= digests(made).items()
    assert read(tmp_path / "shapes_karpathy_test.json") == read(made / "shapes_karpathy_test.json")[:3]


def test_another_seed_gives_other_images(made: Path, tmp_path: Path) -> None:
    make_shapes(tmp_path, images=6, seed=SEED + 1)
    assert not {v for k, v in digests(tmp_path).items() if k.endswith(".jpg")} & set(digests(made).values())


def test_eval_annotations_list_five_captions_an_image(made: Path) -> None:
    rows = read(made / "shapes_karpathy_test.json")
    assert [row["image"] for row in rows] == [f"images/test/shapes_test_{index:06d}.jpg" for index in range(6)]
    assert all(set(row) == {"image", "caption"} and len(row["caption"]) == 5 for row in rows)


def test_train_annotations_have_one_row_a_caption(made: Path) -> None:
    rows = read(made / "shapes_karpathy_train.json")
    assert len(rows) == 24 * 5
    assert set(rows[0]) == {"image", "caption", "image_id"}
    assert len({row["image_id"] for row in rows}) == len({row["image"] for row in rows}) == 24


def test_every_named_image_is_a_jpeg_of_the_scenes_size(made: Path) -> None:
    for index, row in enumerate(read(made / "shapes_karpathy_test.json")):
        scene = sample_scene(SEED, "test", index)
        with Image.open(made / str(row["image"])) as image:
            image.load()
            assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (scene.width, scene.height))
            assert 112 <= image.width <= 160
            assert 96 <= image.height <= 144


def test_the_summary_and_progress_count_every_image(tmp_path: Path) -> None:
    calls: list[int] = []
    summary = make_shapes(tmp_path / "new" / "folder", images=2, seed=0, progress=calls.append)
    training = {"train": 8, "web": 2, "motion": 1, "cards": 8}
    assert summary.images == {**training, "val": 1, "test": 2, "nocaps": 3, "video": 2}
    assert calls == list(range(1, 28))
    assert all(path.is_file() for path in summary.annotations)


def test_several_processes_draw_the_same_files(tmp_path: Path) -> None:
    for workers in (1, 2):
        out = tmp_path / str(workers)
        make_shapes(out, 1, SEED, splits=("web", "motion", "cards"), train_images=160, workers=workers)
    assert digests(tmp_path / "1") == digests(tmp_path / "2")


def test_sizes_follow_the_test_split() -> None:
    sizes = {"train": 4000, "val": 200, "test": 1000, "web": 1000, "nocaps": 1000, "video": 1000}
    sizes |= {"motion": 600, "cards": 4000}
    assert split_sizes(1000) == sizes
    assert split_sizes(1000, train_images=80) == {**sizes, "train": 80, "web": 20, "motion": 12, "cards": 80}
    assert split_sizes(1, splits=("val",)) == {"val": 1}


def test_making_it_again_replaces_what_was_there(made: Path, tmp_path: Path) -> None:
    make_shapes(tmp_path, images=7, seed=SEED + 1)
    make_shapes(tmp_path, images=6, seed=SEED)
    assert digests(tmp_path) == digests(made)


def test_an_interrupted_run_leaves_no_annotations_and_can_be_completed(made: Path, tmp_path: Path) -> None:
    def interrupt(done: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_shapes(tmp_path, images=6, seed=SEED, progress=interrupt)
    assert [path.name for path in tmp_path.glob("*.*")] == ["shapes.json"]
    make_shapes(tmp_path, images=6, seed=SEED)
    assert digests(tmp_path) == digests(made)


def test_a_folder_of_another_making_is_refused_untouched(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"photo")
    with pytest.raises(UsageError, match="is not empty and contains no shapes data set"):
        make_shapes(tmp_path, images=1, seed=0)
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.jpg"]


def test_a_file_as_out_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(UsageError, match="is a file; use a folder"):
        make_shapes(tmp_path / "out", images=1, seed=0)


def test_a_folder_that_cannot_be_made_is_a_data_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot write the shapes data set"):
        make_shapes(tmp_path / "file" / "out", images=1, seed=0)


def test_a_training_set_of_no_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--train-images 0: must be at least 1"):
        make_shapes(tmp_path, images=1, seed=0, train_images=0)


@pytest.mark.parametrize(
    ("images", "seed", "splits", "message"),
    [
        (0, 0, ("test",), "--images 0: must be at least 1"),
        (1, -1, ("test",), "--seed -1: must be 0 or greater"),
        (1, 0, ("dev",), "found dev; use one or more of train, val, test, web, nocaps, video, motion, cards"),
        (1, 0, (), "found no split; use one or more of train, val, test, web, nocaps, video, motion, cards"),
    ],
)
def test_a_bad_argument_is_named(tmp_path: Path, images: int, seed: int, splits: tuple[str, ...], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_shapes(tmp_path, images=images, seed=seed, splits=splits)


def test_train_files_are_shaped_as_the_official_ones(made: Path) -> None:
    assert {tuple(row) for row in read(made / "vqa_train.json")} == {
        ("question_id", "question", "answer", "image", "dataset")
    }
    assert len({row["question_id"] for row in read(made / "vqa_train.json")}) == 24 * 5
    assert {row["label"] for row in read(made / "nlvr_train.json")} == {"True", "False"}
    assert {tuple(row) for row in read(made / "shapes_video_train.json")} == {("image", "caption", "image_id")}
    assert {tuple(row) for row in read(made / "shapes_web_train.json")} == {("image", "caption")}


def test_the_webs_truth_is_kept_row_by_row(made: Path) -> None:
    web, truth = read(made / "shapes_web_train.json"), read(made / "shapes_web_truth.json")
    assert [row["image"] for row in web] == [row["image"] for row in truth]
    assert {row["truth"] for row in truth} <= {"clean", "wrong", "irrelevant"}


def test_the_vocabulary_lies_beside_the_data(made: Path) -> None:
    assert (made / "vocab.txt").read_text().splitlines() == shapes_vocabulary()


def test_the_retrieval_reader_takes_every_karpathy_file(made: Path) -> None:
    for name, images, texts in (
        ("shapes_karpathy_train", 24, 120),
        ("shapes_karpathy_val", 1, 5),
        ("shapes_karpathy_test", 6, 30),
        ("shapes_video_train", 4, 4),
    ):
        data = read_retrieval(made, made / f"{name}.json", name="x", split="test", max_words=30)
        assert (len(data.sources), len(data.texts)) == (images, texts)


def test_the_caption_reader_finds_the_same_references_in_either_file(made: Path) -> None:
    annotation = made / "shapes_karpathy_test.json"
    alone = read_captions(made, annotation, None, name="x", split="test")
    official = read_captions(made, annotation, made / "shapes_karpathy_test_gt.json", name="x", split="test")
    assert alone.references == official.references
    assert alone.image_ids == official.image_ids == list(range(6))


def test_the_nocaps_reader_finds_ten_references_and_three_domains(made: Path) -> None:
    references = made / "nocaps_val_captions.json"
    data = read_captions(made, made / "nocaps_val.json", references, name="x", split="val", reader="nocaps")
    assert {len(references) for references in data.references} == {10}
    assert Counter(data.domains) == {"in-domain": 2, "near-domain": 2, "out-domain": 2}


@pytest.mark.parametrize("split", ["val", "test"])
def test_the_vqa_reader_finds_ten_answers_and_their_types(made: Path, split: str) -> None:
    data = read_vqa(
        made,
        made / f"vqa_{split}.json",
        name="x",
        split=split,
        answer_list="answer_list.json",
        ground_truth=f"v2_mscoco_{split}{2014 if split == 'val' else 2015}_annotations.json",
    )
    assert data.answers is not None and {len(answers) for answers in data.answers} == {10}
    assert data.answer_types is not None and set(data.answer_types) <= {"yes/no", "number", "other"}
    assert len(data.questions) == 2 * len(data.sources)
    assert load_task("vqa_shapes").settings.k_test <= len(data.answer_list) <= 64


def test_the_nlvr_reader_takes_all_three_splits(made: Path) -> None:
    for split, most in (("train", 5 * 24), ("dev", 1), ("test", 6)):
        data = read_nlvr(made, made / f"nlvr_{split}.json", name="x", split="test", max_words=40)
        assert 0 < len(data.sentences) <= most


def test_the_video_reader_finds_every_clip(made: Path) -> None:
    data = read_msrvtt(made, made / "msrvtt_test.jsonl", name="x", split="test", max_words=40)
    assert len(data.sources) == len(set(data.texts)) == 6
