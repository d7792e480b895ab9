"""Reads NLVR2 annotations: sentences that are true or false of two images.

A file is a JSON list of
    {"sentence": "...", "label": "True" | "False", "images": ["dev/dev-1-0-img0.png", "dev/dev-1-0-img1.png"]}

Takes a data folder and an annotation file, and returns an NlvrDataset whose images exist in the folder or in its
images/. The first image is the left one. Records are counted from 1 in messages.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from blipbench.data.files import first_of, read_annotation, require_files
from blipbench.data.records import image_path, json_kind, require_fields, require_text
from blipbench.data.text import normalise_caption

_EXPECTED = (
    'expected a list of {"sentence": "...", "label": "True" or "False", "images": ["left.png", "right.png"]} '
    "(one record per sentence)"
)
_LABELS = {"True": True, "False": False}


@dataclasses.dataclass(frozen=True)
class NlvrDataset:
    """Sentences about pairs of images, in the order of the annotation.

    Each image and each (ordered) pair of images is there once, however many sentences are about it. `sentences` are
    normalised.
    """

    name: str
    split: str
    annotation: Path
    annotation_sha256: str
    images: list[str]  # as written in the annotation
    sources: list[tuple[Path, ...]]  # [images]
    pairs: list[tuple[int, int]]  # left and right, indices of images
    sentences: list[str]
    labels: list[bool]  # [sentences]
    pair_of_sentence: list[int]
    total_pairs: int  # before --limit
    upright: bool = False

    @property
    def counts(self) -> dict[str, int]:
        return {"image pairs": len(self.pairs), "sentences": len(self.sentences), "images": len(self.images)}

    @property
    def limited_from(self) -> int | None:
        return self.total_pairs if self.total_pairs > len(self.pairs) else None


@dataclasses.dataclass(frozen=True)
class _Statement:
    """One sound record. `paths` are the images' without "." and "..", `names` as written."""

    sentence: str
    label: bool
    names: tuple[str, str]
    paths: tuple[str, str]


def read_nlvr(
    root: Path,
    annotation: Path,
    *,
    name: str,
    split: str,
    max_words: int,
    limit: int | None = None,
    advice: str | None = None,
) -> NlvrDataset:
    """The split that `annotation` describes. `name` is the task's, for messages.

    `limit` keeps the first image pairs with all their sentences. Sentences are normalised to at most `max_words` words.
    `advice` is what to do if images are missing. By default, it is to prepare the task's data.

    Raises:
        DataError: the annotation is unreadable or malformed, or images are missing or empty.
        UsageError: `limit` is not positive.
    """
    records, sha256 = read_annotation(annotation, _EXPECTED)
    statements, problems = _parse(records, annotation)
    all_pairs = {paths: number for number, paths in enumerate(dict.fromkeys(s.paths for s in statements))}
    pairs = first_of(list(all_pairs), limit, "image pair")
    kept = [s for s in statements if all_pairs[s.paths] < len(pairs)]

    images = {path: name for s in kept for path, name in zip(s.paths, s.names, strict=True)}
    number = {path: place for place, path in enumerate(images)}
    named = [(as_written, path) for path, as_written in images.items()]
    sources = require_files(root, named, name, problems, advice)
    return NlvrDataset(
        name=name,
        split=split,
        annotation=annotation,
        annotation_sha256=sha256,
        images=list(images.values()),
        sources=sources,
        pairs=[(number[left], number[right]) for left, right in pairs],
        sentences=[normalise_caption(s.sentence, max_words) for s in kept],
        labels=[s.label for s in kept],
        pair_of_sentence=[all_pairs[s.paths] for s in kept],
        total_pairs=len(all_pairs),
    )


def _parse(records: Sequence[Any], annotation: Path) -> tuple[list[_Statement], list[str]]:
    """The sound records, and the problems of the others."""
    statements: list[_Statement] = []
    problems: list[str] = []
    for number, record in enumerate(records, start=1):
        try:
            statements.append(_check_record(record))
        except ValueError as error:
            problems.append(f"{annotation}: record {number}: {error}")
    return statements, problems


def _check_record(record: Any) -> _Statement:
    """Raises ValueError that says what is wrong with the record."""
    require_fields(record, ("sentence", "label", "images"), _EXPECTED)
    sentence, label, images = record["sentence"], record["label"], record["images"]
    require_text(sentence, "'sentence'")
    if not isinstance(label, str) or label not in _LABELS:
        raise ValueError(f'\'label\' is {label!r}; it must be the string "True" or "False"')
    if not isinstance(images, list):
        raise ValueError(f"'images' is {json_kind(images)}, not a list of two file names")
    if len(images) != 2:
        raise ValueError(f"'images' holds {len(images)} file names; a sentence is about two images, left and right")
    left, right = (image_path(image, "an image") for image in images)
    return _Statement(sentence, _LABELS[label], (images[0], images[1]), (left, right))
