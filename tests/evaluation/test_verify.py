"""`data verify` lists everything that is wrong with the data of a task, not only the first problem."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from blipbench.config.tasks import load_task
from blipbench.evaluation.verify import VerifyReport, verify_task

PROTOCOLS: dict[str, Any] = {  # reader -> what the task states beyond the common keys
    "karpathy": {"protocol": "retrieval", "settings": {"k_test": 4}},
    "karpathy_splits": {"protocol": "retrieval", "settings": {"k_test": 4}},
    "coco_captions": {"protocol": "captioning"},
    "nocaps": {"protocol": "captioning"},
    "table": {"protocol": "captioning"},
    "vqa": {"protocol": "vqa", "settings": {"mode": "generate"}},
    "nlvr": {"protocol": "nlvr"},
}


def make(root: Path, names: str = "abcd") -> list[dict[str, Any]]:
    """Images, and their captions in the reader karpathy's format."""
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    for name in names:
        Image.fromarray(noise).save(root / f"{name}.jpg")
    return [{"image": f"{name}.jpg", "caption": [f"A {name}.", "Two."]} for name in names]


def annotation(reader: str, names: str) -> Any:
    """An annotation of the images, whose second record is faulty."""
    files = [f"{name}.jpg" for name in names]
    match reader:
        case "karpathy":
            content: Any = [{"image": file, "caption": ["A."]} for file in files]
        case "karpathy_splits":
            images = [{"filename": file, "split": "test", "sentences": [{"raw": "A."}]} for file in files]
            return {"images": [images[0], 7, *images[1:]]}
        case "coco_captions":
            images = [{"id": number, "file_name": file} for number, file in enumerate(files)]
            captions = [{"image_id": image["id"], "caption": "A."} for image in images]
            return {"images": [images[0], 7, *images[1:]], "annotations": captions}
        case "nocaps":
            content = [{"image": file, "img_id": number} for number, file in enumerate(files)]
        case "table":
            content = [{"image": file, "text": "A."} for file in files]
        case "vqa":
            content = [{"image": file, "question_id": number, "question": "?"} for number, file in enumerate(files)]
        case _:
            content = [{"images": [file, file], "sentence": "A.", "label": "True"} for file in files]
    return [content[0], 7, *content[1:]]


def verify(root: Path, content: Any, reader: str = "karpathy", **settings: Any) -> VerifyReport:
    (root / "t.json").write_text(content if isinstance(content, str) else json.dumps(content))
    data: dict[str, Any] = {"reader": reader, "annotations": {"test": "t.json"}, "max_words": 30}
    if reader == "table":
        data["columns"] = {"image": "image", "caption": "text"}
    task = {"name": "mine", "title": "t", "main_metric": "m", "model": {"image_size": 32}, "data": data}
    (root / "mine.yaml").write_text(yaml.safe_dump({**task, **PROTOCOLS[reader]}))
    task_of_file = load_task(str(root / "mine.yaml"))
    return verify_task(task_of_file, root, None, **{"deep": False, "workers": 0, **settings})


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("deep", [False, True])
def test_sound_data_is_ok_and_counted(tmp_path: Path, deep: bool) -> None:
    report = verify(tmp_path, make(tmp_path), deep=deep)
    assert report.ok
    assert report.lines()[0] == "mine (test): 4 images, 8 texts"
    assert report.lines()[-1].startswith("ok: every image")


@pytest.mark.parametrize("reader", PROTOCOLS)
def test_every_reader_lists_bad_records_missing_images_and_bad_headers_at_once(tmp_path: Path, reader: str) -> None:
    make(tmp_path, "abc")
    (tmp_path / "b.jpg").write_text("page")
    (tmp_path / "c.jpg").unlink()
    report = verify(tmp_path, annotation(reader, "abc"), reader)
    assert len(report.problems) == 3
    for problem, part in zip(report.problems, ("2: ", "missing under", "b.jpg: not an image"), strict=True):
        assert part in problem
    assert "3 problems:" in report.lines()


@pytest.mark.parametrize("reader", PROTOCOLS)
def test_every_reader_finds_an_image_that_cannot_be_decoded(tmp_path: Path, reader: str) -> None:
    make(tmp_path, "abc")
    truncate(tmp_path / "b.jpg")
    content = annotation(reader, "abc")
    (content if isinstance(content, list) else content["images"]).pop(1)
    assert verify(tmp_path, content, reader).ok  # its header is whole
    report = verify(tmp_path, content, reader, deep=True)
    assert [problem.split(":")[0] for problem in report.problems] == [str(tmp_path / "b.jpg")]


def test_faults_in_a_table_are_all_listed(tmp_path: Path) -> None:
    make(tmp_path, "ab")
    rows = [{"image": "a.jpg"}, {"image": "../b.jpg", "text": "x"}, {"image": "b.jpg", "text": [3]}, {"text": "y"}]
    report = verify(tmp_path, rows, "table")
    assert [problem.split(": ", 2)[1] for problem in report.problems] == ["row 2", "row 3", "row 4"]
    report = verify(tmp_path, [*rows[:1], {"image": "b.jpg", "text": ""}, {"image": "a.jpg", "text": ""}], "table")
    assert [problem.split(": ")[1] for problem in report.problems] == [
        "a.jpg has no caption in text; it needs one",
        "b.jpg has no caption in text; it needs one",
    ]


def test_faults_in_coco_captions_are_all_listed(tmp_path: Path) -> None:
    make(tmp_path, "ab")
    images = [{"id": 1, "file_name": "a.jpg"}, {"id": 1, "file_name": "b.jpg"}, {"id": 3}]
    captions = [{"image_id": 1, "caption": "A."}, {"image_id": 9, "caption": "A."}, {"image_id": 1, "caption": 5}]
    report = verify(tmp_path, {"images": images, "annotations": captions}, "coco_captions")
    places = [problem.split(": ")[1] for problem in report.problems]
    assert places == ["images, record 2", "annotations, record 2", "annotations, record 3", "image 3"]


def test_faults_in_the_reference_captions_are_found(tmp_path: Path) -> None:
    make(tmp_path, "a")
    (tmp_path / "t.json").write_text(json.dumps([{"image": "a.jpg", "img_id": 1}]))
    (tmp_path / "gt.json").write_text(json.dumps({"images": [{"id": 1}, 7], "annotations": []}))
    data = {"reader": "nocaps", "annotations": {"test": "t.json"}, "references": {"test": "gt.json"}, "max_words": 30}
    task = {"name": "mine", "title": "t", "main_metric": "m", "model": {"image_size": 32}, "data": data}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({**task, "protocol": "captioning"}))
    report = verify_task(load_task(str(tmp_path / "mine.yaml")), tmp_path, None, deep=False, workers=0)
    assert len(report.problems) == 2
    assert "gt.json: images, record 2" in report.problems[0]
    assert "gt.json has no caption of image 1" in report.problems[1]


def test_the_same_image_in_two_records_is_a_problem(tmp_path: Path) -> None:
    records = [*make(tmp_path), {"image": "e.jpg", "caption": []}, {"image": "./d.jpg", "caption": ["again"]}]
    text = "\n".join(verify(tmp_path, records).problems)
    assert "record 5: image 'e.jpg' has an empty" in text
    assert "records 4 and 6 are the same" in text


@pytest.mark.parametrize("workers", [0, 2])
def test_the_deep_check_finds_every_truncated_image(tmp_path: Path, workers: int) -> None:
    records = make(tmp_path)
    truncate(tmp_path / "b.jpg")
    truncate(tmp_path / "d.jpg")
    report = verify(tmp_path, records, deep=True, workers=workers)
    assert [problem.split(":")[0] for problem in report.problems] == [str(tmp_path / "b.jpg"), str(tmp_path / "d.jpg")]


def test_an_absent_annotation_is_a_problem_not_an_error(tmp_path: Path) -> None:
    verify(tmp_path, [])
    (tmp_path / "t.json").unlink()
    report = verify_task(load_task(str(tmp_path / "mine.yaml")), tmp_path, None, deep=False, workers=0)
    assert not report.ok
    assert "run `blipbench data prepare mine`" in report.lines()[-1]


def test_malformed_json_is_a_problem_not_an_error(tmp_path: Path) -> None:
    assert "line 1, column 4" in verify(tmp_path, "[1,").problems[0]


def test_empty_captions_are_noted_but_allowed(tmp_path: Path) -> None:
    report = verify(tmp_path, [*make(tmp_path, "a"), *[{**make(tmp_path, "b")[0], "caption": ["!"]}]])
    assert report.ok
    assert "note: 1 texts are empty after normalisation; they count as texts" in report.lines()


@pytest.mark.parametrize("deep", [False, True])
def test_progress_reaches_the_number_of_images(tmp_path: Path, deep: bool) -> None:
    seen: list[tuple[int, int]] = []
    verify(tmp_path, make(tmp_path), deep=deep, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (4, 4)
