"""What every reader begins with: find its annotation, read it, take the first images, and find their files.

An annotation may not name a file outside the data folder: absolute paths and paths that climb out by ".." are refused.
Symbolic links inside the folder are followed, since only its owner can have made them.
"""

import dataclasses
import hashlib
import json
import os
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from blipbench.data.dataset import Source
from blipbench.data.problems import DataProblems, refuse_problems
from blipbench.data.records import json_kind, path_inside
from blipbench.errors import DataError, UsageError

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
        raise DataError(f"{path} holds {json_kind(records)}, not a list; {other_format(records) or expected}")
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


def other_format(content: Any) -> str | None:
    """Which reader reads a JSON file that another reader refuses, if it is a well-known format."""
    if isinstance(content, list) and isinstance(first := next(iter(content), None), dict):
        known = {"image", "caption"} <= first.keys()
        return "this is BLIP's format of captions, which the reader karpathy reads" if known else None
    if not isinstance(content, dict) or not isinstance(content.get("images"), list):
        return None
    if "annotations" in content:
        return "this is COCO's own captions file, which the reader coco_captions reads"
    if any(isinstance(image, dict) and "sentences" in image for image in content["images"][:1]):
        return "this is Karpathy's own split file, which the reader karpathy_splits reads"
    return None


def first_of(items: Sequence[Item], limit: int | None, noun: str = "image") -> Sequence[Item]:
    """The first `limit` items, or all of them. Raises UsageError if `limit` is not positive."""
    if limit is not None and limit < 1:
        raise UsageError(f"--limit {limit}: at least one {noun} is needed")
    return items[:limit]


def require_files(
    root: Path, images: Sequence[tuple[str, str]], task: str, problems: Sequence[str] = (), advice: str | None = None
) -> list[tuple[Path, ...]]:
    """The files of images, given by their names and paths, as the sources of a data set.

    `task` begins the message and `advice` ends it. By default, the advice is to prepare and verify the task's data.

    Raises DataProblems if files are missing or empty, or if the reader has found `problems`.
    """
    found, missing = find_files(root, images)
    sources: list[tuple[Path, ...]] = [(file,) for file in found]
    absent = Missing(root, missing, len(images), "images", advice or f"run `blipbench data prepare {task}`")
    refuse_missing(absent, task, problems, sources, verify="" if advice else task)
    return sources


@dataclasses.dataclass(frozen=True)
class Missing:
    """Files of a data set that are missing or empty: `names` of `total` files of the kind `noun`."""

    root: Path
    names: Sequence[str]
    total: int
    noun: str
    advice: str

    def each(self) -> list[str]:
        return [f"missing under {self.root}: {name}; {self.advice}" for name in self.names]

    def summary(self) -> str:
        count = f"{len(self.names)} of {self.total} {self.noun} {'is' if len(self.names) == 1 else 'are'}"
        return f"{count} missing under {self.root}, first: {self.names[0]}; {self.advice}"


def refuse_missing(
    missing: Missing, where: str, problems: Sequence[str], sources: Sequence[Source], verify: str
) -> None:
    """Raise DataProblems if files are missing, or if the reader has found `problems`. `sources` were found.

    `where` begins the message. `verify` is the task whose problems `data verify` lists, or "".
    """
    if problems:
        refuse_problems([*problems, *missing.each()], verify, sources)
    if missing.names:
        raise DataProblems(f"{where}: {missing.summary()}", missing.each(), sources)


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
