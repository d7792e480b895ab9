"""What every reader begins with: find its annotation, read it, take the first images, and find their files.

An annotation may not name a file outside the data folder: absolute paths and paths that climb out by ".." are refused.
Symbolic links inside the folder are followed, since only its owner can have made them.
"""

import hashlib
import json
import os
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from blipbench.data.records import json_kind, path_inside
from blipbench.errors import DataError, DataProblems, UsageError

Item = TypeVar("Item")


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
    """The places of an annotation file: `root`/`filename` and `root`/annotations/`filename`.

    Raises DataError if the name leaves the folder.
    """
    try:
        path = path_inside(filename)
    except ValueError as error:
        raise DataError(f"{task}: annotation file {filename!r} {error}") from None
    return root / path, root / "annotations" / path


def read_annotation(path: Path, expected: str) -> tuple[list[Any], str]:
    """The records of a JSON list and the file's sha256. `expected` describes the format in messages.

    Raises DataError with line and column.
    """
    records, sha256 = read_json(path, expected)
    if not isinstance(records, list):
        raise DataError(f"{path} holds {json_kind(records)}, not a list; {_fitting_reader(records) or expected}")
    if not records:
        raise DataError(f"{path} holds an empty list; {expected}")
    return records, sha256


def read_json(path: Path, expected: str) -> tuple[Any, str]:
    """The content of a JSON file and its sha256. Raises DataError as `read_annotation` does."""
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


def _fitting_reader(content: Any) -> str | None:
    """Advice, if the file has the format of another reader."""
    if not isinstance(content, dict) or not isinstance(content.get("images"), list):
        return None
    if "annotations" in content:
        return "it looks like COCO's own captions file: set data.reader to coco_captions"
    if any(isinstance(image, dict) and "sentences" in image for image in content["images"][:1]):
        return "it looks like Karpathy's own split file: set data.reader to karpathy_splits"
    return None


def first_of(items: Sequence[Item], limit: int | None, noun: str = "image") -> Sequence[Item]:
    """The first `limit` items, or all of them. Raises UsageError if `limit` is not positive."""
    if limit is not None and limit < 1:
        raise UsageError(f"--limit {limit}: at least one {noun} is needed")
    return items[:limit]


def require_files(root: Path, images: Sequence[tuple[str, str]], where: str, advice: str) -> list[Path]:
    """The files of images, given by their names and paths. `where` and `advice` begin and end the message.

    Raises DataProblems if some are missing or empty.
    """
    found, missing = find_files(root, images)
    if missing:
        count = f"{len(missing)} of {len(images)} images {'is' if len(missing) == 1 else 'are'} missing"
        raise DataProblems(
            f"{where}: {count} under {root}, first: {missing[0]}; {advice}",
            [f"missing under {root}: {image}; {advice}" for image in missing],
        )
    return found


def find_files(root: Path, images: Sequence[tuple[str, str]]) -> tuple[list[Path], list[str]]:
    """The files of the images that exist, and the names of those that are missing or empty.

    Images are given by their names in the annotation and their paths. They are looked up in `root` and `root`/images.
    """
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


def file_size(path: Path) -> int | None:
    """The bytes of a regular file. None for anything else: reading a pipe or a device would never end."""
    try:
        status = path.stat()
    except OSError:  # absent, a name too long, a folder that may not be entered
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def joint_sha256(hashes: Iterable[str]) -> str:
    """The hash of one file, or for several files the hash of their hashes."""
    each = list(hashes)
    return each[0] if len(each) == 1 else hashlib.sha256(" ".join(each).encode()).hexdigest()
