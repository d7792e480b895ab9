"""Karpathy's own split files and COCO's own captions are read. A refusal elsewhere names the right reader."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from blipbench.data.captions import read_captions
from blipbench.data.retrieval import read_retrieval
from blipbench.errors import DataError


def sentences(*texts: str) -> list[dict[str, Any]]:
    return [{"raw": text, "tokens": text.split(), "imgid": 0, "sentid": 0} for text in texts]


SPLITS = {
    "dataset": "coco",
    "images": [
        {
            "filepath": "val2014",
            "filename": "COCO_val2014_7.jpg",
            "cocoid": 7,
            "split": "test",
            "sentences": sentences("A cat.", "Two!"),
        },
        {"filename": "b.jpg", "split": "restval", "sentences": sentences("A dog.")},
        {"filename": "c.jpg", "split": "train", "sentences": sentences("A cow.")},
        {
            "filepath": "val2014",
            "filename": "COCO_val2014_9.jpg",
            "cocoid": 9,
            "split": "test",
            "sentences": sentences("A hen."),
        },
    ],
}
COCO = {
    "info": {},
    "images": [{"id": 9, "file_name": "9.jpg"}, {"id": 7, "file_name": "7.jpg"}, {"id": 8, "file_name": "8.jpg"}],
    "annotations": [
        {"image_id": 7, "id": 1, "caption": "A cat."},
        {"image_id": 9, "id": 2, "caption": "A hen."},
        {"image_id": 7, "id": 3, "caption": "Two!"},
    ],
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "val2014").mkdir()
    for name in ("val2014/COCO_val2014_7.jpg", "val2014/COCO_val2014_9.jpg", "b.jpg", "c.jpg", "9.jpg", "7.jpg"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    return tmp_path


def write(root: Path, content: Any) -> Path:
    (root / "t.json").write_text(json.dumps(content))
    return root / "t.json"


def test_a_split_of_karpathys_file_is_read_for_retrieval(root: Path) -> None:
    arguments = {"name": "x", "max_words": 30, "reader": "karpathy_splits"}
    test = read_retrieval(root, write(root, SPLITS), split="test", **arguments)
    assert test.names == ["val2014/COCO_val2014_7.jpg", "val2014/COCO_val2014_9.jpg"]
    assert test.texts == ["a cat", "two", "a hen"]
    assert test.image_of_text.tolist() == [0, 0, 1]
    assert read_retrieval(root, root / "t.json", split="train", **arguments).names == ["b.jpg", "c.jpg"]


def test_a_split_of_karpathys_file_is_read_for_captioning_with_cocos_ids(root: Path) -> None:
    data = read_captions(root, write(root, SPLITS), None, name="x", split="test", reader="karpathy_splits")
    assert data.image_ids == [7, 9]
    assert data.references == [["A cat.", "Two!"], ["A hen."]]


def test_an_absent_split_is_refused(root: Path) -> None:
    with pytest.raises(DataError, match="has no images of the split 'val'"):
        read_captions(root, write(root, SPLITS), None, name="x", split="val", reader="karpathy_splits")


def test_cocos_captions_keep_the_order_of_its_images_and_their_ids(root: Path) -> None:
    data = read_captions(root, write(root, COCO), None, name="x", split="val", reader="coco_captions")
    assert (data.image_ids, data.names) == ([9, 7], ["9.jpg", "7.jpg"])  # 8 has no caption
    assert data.references == [["A hen."], ["A cat.", "Two!"]]
    retrieval = read_retrieval(root, root / "t.json", name="x", split="val", max_words=30, reader="coco_captions")
    assert retrieval.texts == ["a hen", "a cat", "two"]


@pytest.mark.parametrize("content, reader", [(SPLITS, "karpathy_splits"), (COCO, "coco_captions")])
def test_another_reader_names_the_one_that_fits(root: Path, content: Any, reader: str) -> None:
    with pytest.raises(DataError, match=f"which the reader {reader} reads"):
        read_retrieval(root, write(root, content), name="x", split="test", max_words=30)


@pytest.mark.parametrize(
    "record, message",
    [
        ({"filename": "../b.jpg", "split": "test", "sentences": sentences("A.")}, "leaves the data folder"),
        ({"filename": "b.jpg", "split": "test", "sentences": []}, "'sentences' is empty"),
        ({"filename": "b.jpg", "split": "test", "sentences": [{"tokens": []}]}, "has no 'raw'"),
        ({"filename": 3, "split": "test", "sentences": sentences("A.")}, "'filename' is a number"),
        (SPLITS["images"][0], "is also that of record 1"),
        ([], "is a list"),
    ],
)
def test_a_faulty_record_of_a_split_file_is_named(root: Path, record: Any, message: str) -> None:
    content = {**SPLITS, "images": [*SPLITS["images"], record]}
    with pytest.raises(DataError, match=rf"t\.json: images, record 5: .*{message}"):
        read_captions(root, write(root, content), None, name="x", split="test", reader="karpathy_splits")


@pytest.mark.parametrize(
    "change, message",
    [
        ({"images": [{"id": 7}], "annotations": [{"image_id": 7, "caption": "A."}]}, "image 7: it has no 'file_name'"),
        ({"annotations": [{"image_id": 5, "caption": "A."}]}, "record 1: image_id 5 is not among the images"),
        ({"annotations": []}, "no image has a caption"),
        ({"images": 3}, "has no list 'images'"),
    ],
)
def test_a_faulty_coco_file_is_refused(root: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_captions(root, write(root, {**COCO, **change}), None, name="x", split="val", reader="coco_captions")
