"""Reads the images of a captioning benchmark: COCO's Karpathy splits, NoCaps, or somebody's own.

    val, test of COCO   [{"image": "val2014/COCO_val2014_000000391895.jpg", "caption": ["...", ...]}]
    NoCaps              [{"image": "val/0013ea2087020901.jpg", "img_id": 0}]
    references          {"images": [{"id": 0, "domain": "near-domain"}, ...],
                         "annotations": [{"image_id": 0, "caption": "..."}, ...]}

The last is COCO's own format: `coco_karpathy_test_gt.json`, or NoCaps' official file of 4,500 images, the only one that
has domains. Captions stay as typed, for the metrics' own tokenizer. Records are counted from 1 in messages.
"""

import dataclasses
import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from blipbench.data.dataset import Source
from blipbench.data.karpathy import CaptionedImage, find_files, parse_records, read_annotation, read_json
from blipbench.data.records import has_half_surrogate, image_path, json_kind, refuse_problems, require_fields
from blipbench.errors import DataError, UsageError

_NOCAPS = 'expected a list of {"image": "val/a.jpg", "img_id": 0}'
_REFERENCES = 'expected {"images": [{"id": 0}, ...], "annotations": [{"image_id": 0, "caption": "..."}, ...]}'


@dataclasses.dataclass(frozen=True)
class CaptionDataset:
    """Images to caption, each with its id on the benchmark's server.

    `references` are the captions people wrote, empty where they are not public; `domains` are NoCaps' "in-domain" etc.
    `annotation_sha256` covers the references' file too where there is one.
    """

    name: str
    split: str
    annotation: Path
    annotation_sha256: str
    image_ids: list[int]
    names: list[str]  # as written in the annotation
    sources: Sequence[Source]
    references: list[list[str]]
    domains: list[str | None]
    total_images: int  # before --limit

    @property
    def counts(self) -> dict[str, int]:
        return {"images": len(self.sources), "references": sum(map(len, self.references))}

    @property
    def limited_from(self) -> int | None:
        return self.total_images if self.total_images > len(self.sources) else None


class ImageToCaption(NamedTuple):
    """`image` is as written, `path` the same without "." and ".."."""

    image_id: int
    image: str
    path: str
    references: list[str]


def read_captions(
    root: Path, annotation: Path, references: Path | None, *, name: str, split: str, limit: int | None = None
) -> CaptionDataset:
    """A Karpathy split. Its own captions are the references, or those in the file `references`.

    `name` is the task's, for messages; `limit` keeps the first images. Raises DataError where a file is unreadable or
    malformed or images are missing, UsageError where `limit` is not positive.
    """
    records, sha256 = read_annotation(annotation)
    captioned, problems = parse_records(records, annotation)
    _require_none(problems)
    return make_captions(root, annotation, sha256, number_images(captioned), references, name, split, limit)


def read_nocaps(
    root: Path, annotation: Path, references: Path | None, *, name: str, split: str, limit: int | None = None
) -> CaptionDataset:
    """NoCaps' val or test; without `references` nothing can be scored here. Arguments and errors as `read_captions`."""
    records, sha256 = read_annotation(annotation, _NOCAPS)
    images: list[ImageToCaption] = []
    problems: list[str] = []
    for number, record in enumerate(records, start=1):
        try:
            images.append(_nocaps_image(record))
        except ValueError as error:
            problems.append(f"{annotation}: record {number}: {error}")
    for what, values in (("img_id", [i.image_id for i in images]), ("image", [i.path for i in images])):
        problems += [f"{annotation}: {what} {value!r} is there {times} times" for value, times in _repeated(values)]
    _require_none(problems)
    return make_captions(root, annotation, sha256, images, references, name, split, limit)


def number_images(captioned: Sequence[CaptionedImage]) -> list[ImageToCaption]:
    """The digits that end an image's name are its id, as COCO's are; where some image has none, or two have the same,
    all are numbered from 0 in order."""
    digits = [re.search(r"\d+$", PurePosixPath(item.path).stem) for item in captioned]
    ids = [int(found.group()[-18:]) for found in digits if found]
    if len(set(ids)) < len(captioned):
        ids = list(range(len(captioned)))
    return [
        ImageToCaption(image_id, item.image, item.path, item.captions)
        for image_id, item in zip(ids, captioned, strict=True)
    ]


def make_captions(
    root: Path,
    annotation: Path,
    annotation_sha256: str,
    images: Sequence[ImageToCaption],
    references: Path | None,
    name: str,
    split: str,
    limit: int | None,
) -> CaptionDataset:
    """The data set of these images, whatever format they were read from; errors as `read_captions`."""
    if limit is not None and limit < 1:
        raise UsageError(f"--limit {limit}: at least one image is needed")
    kept = images[:limit]
    sources, missing = find_files(root, [(item.image, item.path) for item in kept])
    if missing:
        are = "is" if len(missing) == 1 else "are"
        raise DataError(
            f"{name}: {len(missing)} of {len(kept)} images {are} missing under {root}, first: {missing[0]}; "
            f"run `blipbench data prepare {name}`"
        )
    captions = {item.image_id: item.references for item in kept}
    domains: dict[int, str] = {}
    if references is not None:
        captions, domains, sha256 = read_references(references)
        annotation_sha256 = hashlib.sha256(f"{annotation_sha256} {sha256}".encode()).hexdigest()
        for item in kept:
            if not captions.get(item.image_id):
                raise DataError(
                    f"{references} has no caption of image {item.image_id} ({item.image}), which {annotation} names; "
                    f"are they of the same split?"
                )
    return CaptionDataset(
        name=name,
        split=split,
        annotation=annotation,
        annotation_sha256=annotation_sha256,
        image_ids=[item.image_id for item in kept],
        names=[item.image for item in kept],
        sources=[(source,) for source in sources],
        references=[captions[item.image_id] for item in kept],
        domains=[domains.get(item.image_id) for item in kept],
        total_images=len(images),
    )


def read_references(path: Path) -> tuple[dict[int, list[str]], dict[int, str], str]:
    """Captions and domains by image id, and the file's sha256. Raises DataError naming the record."""
    content, sha256 = read_json(path, _REFERENCES)
    for field in ("images", "annotations"):
        if not isinstance(content, dict) or not isinstance(content.get(field), list):
            raise DataError(f"{path} has no list {field!r}; {_REFERENCES}")
    captions: dict[int, list[str]] = {}
    domains: dict[int, str] = {}
    for number, image in enumerate(content["images"], start=1):
        image_id = _integer(path, f"images, record {number}", image, "id")
        if image_id in captions:
            raise DataError(f"{path}: images, record {number}: id {image_id} is there twice")
        captions[image_id] = []
        if "domain" in image:
            domains[image_id] = _text(path, f"images, record {number}", image, "domain")
    for number, annotation in enumerate(content["annotations"], start=1):
        where = f"annotations, record {number}"
        image_id = _integer(path, where, annotation, "image_id")
        if image_id not in captions:
            raise DataError(f"{path}: {where}: image_id {image_id} is not among the images")
        captions[image_id].append(_text(path, where, annotation, "caption"))
    return captions, domains, sha256


def _nocaps_image(record: Any) -> ImageToCaption:
    """ValueError says what is wrong with the record."""
    require_fields(record, ("image", "img_id"), _NOCAPS)
    image, image_id = record["image"], record["img_id"]
    path = image_path(image)
    if not _is_id(image_id):
        raise ValueError(f"'img_id' is {json_kind(image_id)}, not a whole number; {_NOCAPS}")
    return ImageToCaption(image_id, image, path, [])


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63


def _integer(path: Path, where: str, record: Any, field: str) -> int:
    if not isinstance(record, dict) or not _is_id(record.get(field)):
        raise DataError(f"{path}: {where}: there is no whole number {field!r}; {_REFERENCES}")
    value: int = record[field]
    return value


def _text(path: Path, where: str, record: dict[str, Any], field: str) -> str:
    value = record.get(field)
    if not isinstance(value, str) or has_half_surrogate(value):
        raise DataError(f"{path}: {where}: {field!r} is not text; {_REFERENCES}")
    return value


def _repeated(values: Iterable[Any]) -> list[tuple[Any, int]]:
    return [(value, times) for value, times in Counter(values).items() if times > 1]


def _require_none(problems: Sequence[str]) -> None:
    refuse_problems(problems)
