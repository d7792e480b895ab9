"""Reads captions in the format in which BLIP has COCO, Flickr30k and the shapes world.

A file is a JSON list in one of two forms. The first record decides which one:

    val, test   {"image": "val2014/a.jpg", "caption": ["...", ...]}             one record per image
    train       {"image": "val2014/a.jpg", "caption": "...", "image_id": "7"}   one record per caption

Records are counted from 1 in messages.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from blipbench.data.captioned import Captioned, CaptionedImage
from blipbench.data.files import read_annotation
from blipbench.data.records import image_path, json_kind, require_fields, require_text

_EXPECTED = (
    'expected a list of {"image": "a.jpg", "caption": ["...", ...]} (val, test: one record per image) '
    'or of {"image": "a.jpg", "caption": "...", "image_id": "..."} (train: one record per caption)'
)


def read_karpathy(annotation: Path) -> Captioned:
    """All images of the file. Raises DataError if it is not a JSON list."""
    records, sha256 = read_annotation(annotation, _EXPECTED)
    images, problems = parse_records(records, annotation)
    return Captioned(images, sha256, problems)


def parse_records(records: Sequence[Any], annotation: Path) -> tuple[list[CaptionedImage], list[str]]:
    """The images of the sound records, in order of first appearance, and the problems of the others."""
    problems: list[str] = []
    well_formed: list[tuple[int, str, Mapping[str, Any]]] = []  # number, path, record
    one_per_caption = isinstance(records[0], dict) and isinstance(records[0].get("caption"), str)
    for number, record in enumerate(records, start=1):
        try:
            well_formed.append((number, _check_record(record, one_per_caption), record))
        except ValueError as error:
            problems.append(f"{annotation}: record {number}: {error}")
    captioned, clashes = (_group_captions if one_per_caption else _one_record_each)(well_formed)
    return captioned, problems + [f"{annotation}: {clash}" for clash in clashes]


def _check_record(record: Any, one_per_caption: bool) -> str:
    """The path of the image inside the data folder. Raises ValueError that says what is wrong with the record."""
    require_fields(record, ("image", "caption"), _EXPECTED)
    image, caption = record["image"], record["caption"]
    path = image_path(image)

    if one_per_caption:
        if not isinstance(caption, str):
            raise ValueError(f"'caption' is {json_kind(caption)}, but record 1 has a string; {_EXPECTED}")
        if not isinstance(record.get("image_id"), str | int):
            raise ValueError(f"'caption' is a string, but there is no 'image_id' as in a train file; {_EXPECTED}")
    elif not isinstance(caption, list):
        raise ValueError(f"'caption' is {json_kind(caption)}, not a list of strings; {_EXPECTED}")
    elif not caption:
        raise ValueError(f"image {image!r} has an empty caption list; each image needs at least one caption")
    for position, text in enumerate(caption if isinstance(caption, list) else [caption], start=1):
        require_text(text, f"caption {position}")
    return path


def _one_record_each(
    records: Sequence[tuple[int, str, Mapping[str, Any]]],
) -> tuple[list[CaptionedImage], list[str]]:
    captioned: list[CaptionedImage] = []
    clashes: list[str] = []
    first: dict[str, int] = {}  # path -> number of the record that has it
    for number, path, record in records:
        if first.setdefault(path, number) == number:
            captioned.append(CaptionedImage(record["image"], path, record["caption"]))
        else:
            clashes.append(
                f"records {first[path]} and {number} are the same image {record['image']!r}; put its captions into one"
            )
    return captioned, clashes


def _group_captions(
    records: Sequence[tuple[int, str, Mapping[str, Any]]],
) -> tuple[list[CaptionedImage], list[str]]:
    by_path: dict[str, CaptionedImage] = {}
    clashes: list[str] = []
    first_of_path: dict[str, tuple[int, str | int]] = {}  # path -> record number, image_id
    first_of_id: dict[str | int, tuple[int, str]] = {}  # image_id -> record number, path
    for number, path, record in records:
        image_id = record["image_id"]
        earlier, known_id = first_of_path.setdefault(path, (number, image_id))
        if known_id != image_id:
            clashes.append(f"image {path!r} has image_id {known_id!r} in record {earlier} and {image_id!r} in {number}")
            continue
        earlier, known_path = first_of_id.setdefault(image_id, (number, path))
        if known_path != path:
            clashes.append(f"image_id {image_id!r} is {known_path!r} in record {earlier} and {path!r} in {number}")
            continue
        by_path.setdefault(path, CaptionedImage(record["image"], path, [])).captions.append(record["caption"])
    return list(by_path.values()), clashes
