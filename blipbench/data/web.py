"""Reads noisy image-text pairs from the web, on which models are pre-trained, and which CapFilt cleans.

    [{"image": "00/12.jpg", "caption": "best price on summer shoes"}, ...]

A caption may also be a list of captions. The captions of an image in several records are combined, in the order in
which images first appear. Captions stay as typed. Pre-training reads the first `WEB_WORDS` words. Records are counted
from 1 in messages.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from blipbench.data.captioned import CaptionedImage
from blipbench.data.captions import CaptionDataset
from blipbench.data.files import first_of, read_annotation, require_files
from blipbench.data.records import image_path, json_kind, require_fields, require_text
from blipbench.errors import UsageError

WEB_WORDS = 30

_EXPECTED = 'expected a list of {"image": "a.jpg", "caption": "..."}'


def read_web(annotation: Path, images: Path | None, *, name: str, limit: int | None = None) -> CaptionDataset:
    """The images of a web file, looked up in the folder `images` (by default the file's) and in its images/.

    The captions are the data set's `references`, and `image_ids` number the images from 0. `name` is the task's.
    `limit` keeps the first images.

    Raises:
        DataError: the file is unreadable or malformed, or images are missing.
        UsageError: `images` is not a folder, or `limit` is not positive.
    """
    if images is not None and not images.is_dir():
        raise UsageError(f"--images {images} is not a folder; give the folder of the images that {annotation} names")
    records, sha256 = read_annotation(annotation, _EXPECTED)
    captioned, problems = _parse(records, annotation)
    kept = first_of(captioned, limit)
    root = annotation.parent if images is None else images
    sources = require_files(
        root,
        [(item.image, item.path) for item in kept],
        str(annotation),
        problems,
        "give their folder with --images, or remove them from the file",
    )
    return CaptionDataset(
        name=name,
        split="train",
        annotation=annotation,
        annotation_sha256=sha256,
        image_ids=list(range(len(kept))),
        names=[item.image for item in kept],
        sources=sources,
        references=[item.captions for item in kept],
        domains=[None] * len(kept),
        total_images=len(captioned),
    )


def _parse(records: Sequence[Any], annotation: Path) -> tuple[list[CaptionedImage], list[str]]:
    """The images of the sound records, and the problems of the others."""
    by_path: dict[str, CaptionedImage] = {}
    problems: list[str] = []
    for number, record in enumerate(records, start=1):
        try:
            found = _captioned_image(record)
        except ValueError as error:
            problems.append(f"{annotation}: record {number}: {error}")
            continue
        by_path.setdefault(found.path, CaptionedImage(found.image, found.path, [])).captions.extend(found.captions)
    return list(by_path.values()), problems


def _captioned_image(record: Any) -> CaptionedImage:
    """Raises ValueError that says what is wrong with the record."""
    require_fields(record, ("image", "caption"), _EXPECTED)
    image, caption = record["image"], record["caption"]
    path = image_path(image)
    if not isinstance(caption, str | list):
        raise ValueError(f"'caption' is {json_kind(caption)}, not a string or a list of strings; {_EXPECTED}")
    captions = [caption] if isinstance(caption, str) else caption
    if not captions:
        raise ValueError(f"image {image!r} has an empty caption list; each image needs at least one caption")
    for position, text in enumerate(captions, start=1):
        require_text(text, f"caption {position}")
    return CaptionedImage(image, path, captions)
