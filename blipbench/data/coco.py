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
from blipbench.data.files import other_format, read_json
from blipbench.data.records import has_half_surrogate, image_path
from blipbench.errors import DataError

_EXPECTED = 'expected {"images": [{"id": 0}, ...], "annotations": [{"image_id": 0, "caption": "..."}, ...]}'


@dataclasses.dataclass(frozen=True)
class CocoFile:
    """The sound records: `captions` by image id, in the order of the images; `names` and `domains` by image id too."""

    captions: dict[int, list[str]]
    names: dict[int, str]
    domains: dict[int, str]
    problems: list[str]
    sha256: str


def read_coco_captions(annotation: Path) -> Captioned:
    """All images of the file that have a caption. COCO has a few images without captions, which cannot be scored."""
    content = read_coco(annotation)
    images: list[CaptionedImage] = []
    problems = [*content.problems]
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
    """Raises DataError if the file has no images and annotations."""
    content, sha256 = read_json(path, _EXPECTED)
    for field in ("images", "annotations"):
        if not isinstance(content, dict) or not isinstance(content.get(field), list):
            raise DataError(f"{path} has no list {field!r}; {other_format(content) or _EXPECTED}")
    captions: dict[int, list[str]] = {}
    names: dict[int, str] = {}
    domains: dict[int, str] = {}
    problems: list[str] = []
    for number, image in enumerate(content["images"], start=1):
        try:
            image_id = _integer(image, "id")
            if image_id in captions:
                raise ValueError(f"id {image_id} is there twice")
            captions[image_id] = []
            for field, values in (("file_name", names), ("domain", domains)):
                if field in image:
                    values[image_id] = _text(image, field)
        except ValueError as error:
            problems.append(f"{path}: images, record {number}: {error}")
    for number, annotation in enumerate(content["annotations"], start=1):
        try:
            image_id = _integer(annotation, "image_id")
            if image_id not in captions:
                raise ValueError(f"image_id {image_id} is not among the images")
            captions[image_id].append(_text(annotation, "caption"))
        except ValueError as error:
            problems.append(f"{path}: annotations, record {number}: {error}")
    return CocoFile(captions, names, domains, problems, sha256)


def is_id(value: Any) -> bool:
    """Whether a JSON value is a whole number of 64 bits."""
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63


def _integer(record: Any, field: str) -> int:
    if not isinstance(record, dict) or not is_id(record.get(field)):
        raise ValueError(f"there is no whole number {field!r}; {_EXPECTED}")
    value: int = record[field]
    return value


def _text(record: dict[str, Any], field: str) -> str:
    value = record.get(field)
    if not isinstance(value, str) or has_half_surrogate(value):
        raise ValueError(f"{field!r} is not text; {_EXPECTED}")
    return value
