"""Captioning's annotations: what is read from them, and what is said of those that are wrong."""

import json
from pathlib import Path
from typing import Any

import pytest
from goldens import Golden

from blipbench.data.captioned import CaptionedImage
from blipbench.data.captions import CaptionDataset, number_images, read_captions
from blipbench.errors import DataError, UsageError

COCO = [
    {"image": "val2014/COCO_val2014_000000391895.jpg", "caption": ["A man.", "A BIKE!"]},
    {"image": "val2014/COCO_val2014_000000060623.jpg", "caption": ["A girl."]},
]
NOCAPS = [{"image": "val/a.jpg", "img_id": 7}, {"image": "val/b.jpg", "img_id": 0}]
OFFICIAL = {
    "images": [
        {"id": 0, "domain": "near-domain"},
        {"id": 7, "domain": "out-domain"},
        {"id": 9, "domain": "in-domain"},
    ],
    "annotations": [
        {"image_id": 7, "id": 0, "caption": "One."},
        {"image_id": 0, "id": 1, "caption": "Two."},
        {"image_id": 7, "id": 2, "caption": "Three."},
    ],
}


def write(folder: Path, name: str, content: Any) -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def with_images(folder: Path, records: Any) -> None:
    for record in records:
        path = folder / record["image"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"an image")


def coco(folder: Path, records: Any = COCO, references: Path | None = None, limit: int | None = None) -> CaptionDataset:
    annotation = write(folder, "test.json", records)
    return read_captions(folder, annotation, references, name="caption_coco", split="test", limit=limit)


def nocaps(folder: Path, records: Any = NOCAPS, official: Any = None) -> CaptionDataset:
    annotation = write(folder, "val.json", records)
    references = write(folder, "official.json", official) if official is not None else None
    return read_captions(folder, annotation, references, name="nocaps", split="val", reader="nocaps")


def refusal(folder: Path, records: Any = NOCAPS, official: Any = None) -> str:
    with pytest.raises(DataError) as caught:
        nocaps(folder, records, official)
    return str(caught.value)


def test_the_golden_files_are_read(golden: Golden) -> None:
    annotation = golden.data / "coco_karpathy_test.json"
    dataset = read_captions(golden.data, annotation, None, name="caption_coco", split="test")
    assert dataset.counts == {"images": 12, "references": 60}
    assert dataset.image_ids == list(range(12))
    dataset = read_captions(
        golden.data, golden.data / "nocaps_val.json", None, name="nocaps", split="val", reader="nocaps"
    )
    assert dataset.counts == {"images": 12, "references": 0}
    assert dataset.image_ids[:3] == [1000, 1007, 1014]


def test_an_images_id_is_in_its_name_and_its_captions_stay_as_typed(tmp_path: Path) -> None:
    with_images(tmp_path, COCO)
    dataset = coco(tmp_path)
    assert dataset.image_ids == [391895, 60623]
    assert dataset.references == [["A man.", "A BIKE!"], ["A girl."]]
    assert dataset.domains == [None, None]
    assert dataset.limited_from is None


@pytest.mark.parametrize("names", [["a.jpg", "b_2.jpg"], ["x/7.jpg", "y/7.jpg"]])
def test_images_whose_names_give_no_ids_are_numbered(names: list[str]) -> None:
    images = number_images([CaptionedImage(name, name, ["A dog."]) for name in names])
    assert list(images) == [0, 1]


def test_limit_keeps_the_first_images_with_their_ids(tmp_path: Path) -> None:
    with_images(tmp_path, COCO[:1])
    dataset = coco(tmp_path, limit=1)
    assert (dataset.image_ids, dataset.limited_from) == ([391895], 2)


def test_nothing_can_be_no_limit(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--limit 0"):
        coco(tmp_path, limit=0)


def test_a_file_of_references_takes_the_place_of_the_captions(tmp_path: Path) -> None:
    with_images(tmp_path, COCO)
    content = {
        "images": [{"id": 391895}, {"id": 60623}],
        "annotations": [
            {"image_id": 60623, "caption": "The girl."},
            {"image_id": 391895, "caption": "The man."},
        ],
    }
    with_file = coco(tmp_path, references=write(tmp_path, "gt.json", content))
    assert with_file.references == [["The man."], ["The girl."]]
    assert with_file.annotation_sha256 != coco(tmp_path).annotation_sha256


def test_nocaps_has_references_and_domains_from_the_official_file(tmp_path: Path) -> None:
    with_images(tmp_path, NOCAPS)
    dataset = nocaps(tmp_path, official=OFFICIAL)
    assert dataset.image_ids == [7, 0]
    assert dataset.references == [["One.", "Three."], ["Two."]]
    assert dataset.domains == ["out-domain", "near-domain"]


def test_nocaps_without_it_has_none(tmp_path: Path) -> None:
    with_images(tmp_path, NOCAPS)
    dataset = nocaps(tmp_path)
    assert (dataset.references, dataset.domains) == ([[], []], [None, None])


def test_missing_images_are_counted_and_the_first_is_named(tmp_path: Path) -> None:
    with_images(tmp_path, NOCAPS[:1])
    told = refusal(tmp_path)
    assert "nocaps: 1 of 2 images is missing" in told
    assert "val/b.jpg" in told and "blipbench data prepare nocaps" in told


@pytest.mark.parametrize(
    ("records", "told"),
    [
        ("[", "is not JSON"),
        ({"image": "a.jpg"}, "holds an object, not a list"),
        ([], "holds an empty list"),
        (["a.jpg"], "record 1: is a string"),
        ([{"image": "a.jpg"}], "record 1: has no 'img_id'"),
        ([{"img_id": 1}], "record 1: has no 'image'"),
        ([{"image": 3, "img_id": 1}], "record 1: 'image' is a number, not a file name"),
        ([{"image": "a.jpg", "img_id": "1"}], "record 1: 'img_id' is a string, not a whole number"),
        ([{"image": "a.jpg", "img_id": True}], "record 1: 'img_id' is a boolean, not a whole number"),
        ([{"image": "../a.jpg", "img_id": 1}], "record 1: image '../a.jpg' leaves the data folder"),
        ([{"image": "/a.jpg", "img_id": 1}], "record 1: image '/a.jpg' is absolute"),
        ([{"image": "a.jpg", "img_id": 1}, {"image": "b.jpg", "img_id": 1}], "img_id 1 is there 2 times"),
        ([{"image": "a.jpg", "img_id": 1}, {"image": "./a.jpg", "img_id": 2}], "image 'a.jpg' is there 2 times"),
    ],
)
def test_a_malformed_annotation_is_refused(tmp_path: Path, records: Any, told: str) -> None:
    assert told in refusal(tmp_path, records)


@pytest.mark.parametrize(
    ("official", "told"),
    [
        ([], "has no list 'images'"),
        ({"images": []}, "has no list 'annotations'"),
        ({"images": [3], "annotations": []}, "images, record 1: there is no whole number 'id'"),
        ({"images": [{"id": 7}, {"id": 7}], "annotations": []}, "images, record 2: id 7 is there twice"),
        ({"images": [{"id": 7, "domain": 3}], "annotations": []}, "images, record 1: 'domain' is not text"),
        (
            {"images": [{"id": 7}], "annotations": [{"image_id": 8, "caption": "A."}]},
            "annotations, record 1: image_id 8 is not among the images",
        ),
        (
            {"images": [{"id": 7}], "annotations": [{"image_id": 7, "caption": None}]},
            "annotations, record 1: 'caption' is not text",
        ),
        ({"images": [{"id": 7}, {"id": 0}], "annotations": []}, "has no caption of image 7 (val/a.jpg)"),
    ],
)
def test_malformed_references_are_refused(tmp_path: Path, official: Any, told: str) -> None:
    with_images(tmp_path, NOCAPS)
    assert told in refusal(tmp_path, official=official)
