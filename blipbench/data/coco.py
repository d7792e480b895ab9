"""Reads COCO's own captions format, for captions and as reference captions.

    {"images": [{"id": 9, "file_name": "000000000009.jpg", "domain": "near-domain"}, ...],
     "annotations": [{"image_id": 9, "caption": "..."}, ...]}

`captions_val2017.json` and `coco_karpathy_test_gt.json` are such files, and so is NoCaps' official file, the only one
with domains. Images and captions keep the order of the file. Records are counted from 1 in messages.
"""

import dataclasses
from pathlib import Path
from typing import Any

from blipbench.data.captioned import Captioned, CaptionedImage
from blipbench.data.files import read_json
from blipbench.data.records import has_half_surrogate, image_path
from blipbench.errors import DataError

_EXPECTED = 'expected {"images": [{"id": 0}, ...], "annotations": [{"image_id": 0, "caption": "..."}, ...]}'


@dataclasses.dataclass(frozen=True)
class CocoFile:
    """`captions` by image id, in the order of the images; `names` and `domains` of the images that have them."""

    captions: dict[int, list[str]]
    names: dict[int, str]
    domains: dict[int, str]
    sha256: str


def read_coco_captions(annotation: Path) -> Captioned:
    """All images of the file that have a caption. COCO has a few images without captions, which cannot be scored."""
    content = read_coco(annotation)
    images: list[CaptionedImage] = []
    problems: list[str] = []
    first: dict[str, int] = {}  # path -> image id
    for image_id, captions in content.captions.items():
        try:
            if image_id not in content.names:
                raise ValueError("it has no 'file_name'")
            path = image_path(content.names[image_id], "'file_name'")
            if first.setdefault(path, image_id) != image_id:
                raise ValueError(f"its file {path!r} is also that of image {first[path]}")
        except ValueError as error:
            problems.append(f"{annotation}: image {image_id}: {error}")
            continue
        if captions:
            images.append(CaptionedImage(content.names[image_id], path, captions, image_id))
    if not images and not problems:
        problems.append(f"{annotation}: no image has a caption; {_EXPECTED}")
    return Captioned(images, content.sha256, problems)


def read_coco(path: Path) -> CocoFile:
    """Raises DataError naming the record."""
    content, sha256 = read_json(path, _EXPECTED)
    for field in ("images", "annotations"):
        if not isinstance(content, dict) or not isinstance(content.get(field), list):
            raise DataError(f"{path} has no list {field!r}; {_EXPECTED}")
    captions: dict[int, list[str]] = {}
    names: dict[int, str] = {}
    domains: dict[int, str] = {}
    for number, image in enumerate(content["images"], start=1):
        where = f"images, record {number}"
        image_id = _integer(path, where, image, "id")
        if image_id in captions:
            raise DataError(f"{path}: {where}: id {image_id} is there twice")
        captions[image_id] = []
        if "file_name" in image:
            names[image_id] = _text(path, where, image, "file_name")
        if "domain" in image:
            domains[image_id] = _text(path, where, image, "domain")
    for number, annotation in enumerate(content["annotations"], start=1):
        where = f"annotations, record {number}"
        image_id = _integer(path, where, annotation, "image_id")
        if image_id not in captions:
            raise DataError(f"{path}: {where}: image_id {image_id} is not among the images")
        captions[image_id].append(_text(path, where, annotation, "caption"))
    return CocoFile(captions, names, domains, sha256)


def is_id(value: Any) -> bool:
    """Whether a JSON value is a whole number of 64 bits."""
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63


def _integer(path: Path, where: str, record: Any, field: str) -> int:
    if not isinstance(record, dict) or not is_id(record.get(field)):
        raise DataError(f"{path}: {where}: there is no whole number {field!r}; {_EXPECTED}")
    value: int = record[field]
    return value


def _text(path: Path, where: str, record: dict[str, Any], field: str) -> str:
    value = record.get(field)
    if not isinstance(value, str) or has_half_surrogate(value):
        raise DataError(f"{path}: {where}: {field!r} is not text; {_EXPECTED}")
    return value
