"""Reads image-caption annotations in the Karpathy format of COCO, Flickr30k and the shapes world.

Two shapes of file, both a JSON list; the first record says which one a file is:
    val, test   {"image": "val2014/a.jpg", "caption": ["...", ...]}             one record per image
    train       {"image": "val2014/a.jpg", "caption": "...", "image_id": "7"}   one record per caption

In go a data folder and an annotation file, out comes a RetrievalDataset whose image files are known to be there.
Nothing in an annotation may name a file outside the data folder: absolute paths and paths that climb out by ".."
are refused. Symbolic links inside the folder are followed wherever they lead, since only the folder's owner can
have made them. Records are counted from 1 in messages.
"""

import dataclasses
import hashlib
import json
import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from blipbench.data.dataset import RetrievalDataset
from blipbench.data.records import image_path, json_kind, path_inside, require_fields, require_text
from blipbench.data.text import normalise_caption
from blipbench.errors import DataError, UsageError

_EXPECTED = (
    'expected a list of {"image": "a.jpg", "caption": ["...", ...]} (val, test: one record per image) '
    'or of {"image": "a.jpg", "caption": "...", "image_id": "..."} (train: one record per caption)'
)


@dataclasses.dataclass(frozen=True)
class CaptionedImage:
    """One image with all its captions. `image` is as written, `path` the same without "." and ".."."""

    image: str
    path: str
    captions: list[str]


def read_retrieval(
    root: Path, annotation: Path, *, name: str, split: str, max_words: int, limit: int | None = None
) -> RetrievalDataset:
    """The split that `annotation` describes, with images looked up in `root` and `root`/images.

    `name` is the task's, for messages. `limit` keeps the first images with all their texts, and only their files are
    looked for; the records are checked whole either way. Captions are normalised to at most `max_words` words.

    Raises:
        DataError: the annotation is unreadable or malformed, or images are missing or empty.
        UsageError: `limit` is not positive.
    """
    records, sha256 = read_annotation(annotation)
    captioned, problems = parse_records(records, annotation)
    if problems:
        more = f" (and {len(problems) - 1} more: `blipbench data verify {name}` lists all)" if problems[1:] else ""
        raise DataError(problems[0] + more)
    return make_retrieval(root, annotation, sha256, captioned, name=name, split=split, max_words=max_words, limit=limit)


def make_retrieval(
    root: Path,
    annotation: Path,
    annotation_sha256: str,
    captioned: Sequence[CaptionedImage],
    *,
    name: str,
    split: str,
    max_words: int,
    limit: int | None = None,
) -> RetrievalDataset:
    """The data set of these images, whatever format their captions were read from; as `read_retrieval` otherwise."""
    if limit is not None and limit < 1:
        raise UsageError(f"--limit {limit}: at least one image is needed")
    kept = captioned[:limit]
    sources, missing = find_images(root, kept)
    if missing:
        are = "is" if len(missing) == 1 else "are"
        raise DataError(
            f"{name}: {len(missing)} of {len(kept)} images {are} missing under {root}, first: {missing[0]}; "
            f"run `blipbench data prepare {name}`"
        )
    return RetrievalDataset(
        name=name,
        split=split,
        root=root,
        annotation=annotation,
        annotation_sha256=annotation_sha256,
        names=[item.image for item in kept],
        sources=[(source,) for source in sources],
        texts=[normalise_caption(caption, max_words) for item in kept for caption in item.captions],
        image_of_text=np.repeat(np.arange(len(kept), dtype=np.int32), [len(item.captions) for item in kept]),
        total_images=len(captioned),
    )


def find_annotation(root: Path, filename: str, task: str) -> Path:
    """`root`/`filename` or `root`/annotations/`filename`. Raises DataError that names both places."""
    if not root.is_dir():
        raise DataError(f"{task}: --data {root} is not a folder; `blipbench data prepare {task}` says what goes there")
    places = annotation_places(root, filename, task)
    for place in places:
        if os.path.isfile(place):  # Path's own is_file raises where a folder may not be entered
            return place
    raise DataError(
        f"{task}: annotation file {filename} is neither at {places[0]} nor at {places[1]}; "
        f"run `blipbench data prepare {task}`"
    )


def annotation_places(root: Path, filename: str, task: str) -> tuple[Path, Path]:
    """Where an annotation file may lie: `root`/`filename` and `root`/annotations/`filename`. Raises DataError where
    the name leaves the folder."""
    try:
        path = path_inside(filename)
    except ValueError as error:
        raise DataError(f"{task}: annotation file {filename!r} {error}") from None
    return root / path, root / "annotations" / path


def read_annotation(path: Path, expected: str = _EXPECTED) -> tuple[list[Any], str]:
    """The records of a JSON list and the file's sha256. Raises DataError with line and column; `expected` is what its
    message says of the format."""
    records, sha256 = read_json(path, expected)
    if not isinstance(records, list):
        raise DataError(f"{path} holds {json_kind(records)}, not a list; {expected}")
    if not records:
        raise DataError(f"{path} holds an empty list; {expected}")
    return records, sha256


def read_json(path: Path, expected: str) -> tuple[Any, str]:
    """What a JSON file holds and its sha256. Raises DataError as `read_annotation` does."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    try:
        parsed = json.loads(content)
    except json.JSONDecodeError as error:
        raise DataError(f"{path} is not JSON: {error.msg} at line {error.lineno}, column {error.colno}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not JSON: byte {error.start} is not {error.encoding} text") from error
    except RecursionError as error:
        raise DataError(f"{path} is nested too deeply; {expected}") from error
    except ValueError as error:  # an integer of thousands of digits
        raise DataError(f"{path} is not JSON that can be read: {error}") from error
    return parsed, hashlib.sha256(content).hexdigest()


def parse_records(records: Sequence[Any], annotation: Path) -> tuple[list[CaptionedImage], list[str]]:
    """The images that the sound records describe, in order of first appearance, and what is wrong with the others."""
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


def find_images(root: Path, captioned: Sequence[CaptionedImage]) -> tuple[list[Path], list[str]]:
    """The files of the images that exist, and the names of those that do not or are empty."""
    return find_files(root, [(item.image, item.path) for item in captioned])


def find_files(root: Path, images: Sequence[tuple[str, str]]) -> tuple[list[Path], list[str]]:
    """As `find_images`, of images given by their names as written and their paths."""
    found: list[Path] = []
    missing: list[str] = []
    for name, path in images:
        empty = False
        for place in (root / path, root / "images" / path):
            size = file_size(place)
            if size:
                found.append(place)
                break
            empty |= size == 0
        else:
            missing.append(f"{name} (an empty file)" if empty else name)
    return found, missing


def _check_record(record: Any, one_per_caption: bool) -> str:
    """The image's path inside the data folder; ValueError says what is wrong with the record."""
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


def file_size(path: Path) -> int | None:
    """Bytes of a regular file, else None: a fifo or a device would be read for ever."""
    try:
        status = path.stat()
    except OSError:  # absent, a name too long, a folder that may not be entered
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None
