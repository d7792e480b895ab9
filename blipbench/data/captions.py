"""The data set of a captioning task: images to caption, and the captions that people wrote, if they are public.

Images are read in any of the formats of readers.py. Reference captions come with them, or from a file of their own in
COCO's format (coco.py). Captions stay as they are, for the tokenizer of the metrics.
"""

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from blipbench.config.task import Columns
from blipbench.data.captioned import CaptionedImage
from blipbench.data.coco import read_coco
from blipbench.data.dataset import Source
from blipbench.data.files import first_of, joint_sha256, require_files
from blipbench.data.readers import CAPTION_READERS


@dataclasses.dataclass(frozen=True)
class CaptionDataset:
    """Images to caption, each with its id on the benchmark's server.

    `references` are the captions that people wrote, empty if they are not public. `domains` are those of NoCaps
    ("in-domain" and so on). `annotation_sha256` also covers the file of the references, if there is one.
    """

    name: str
    split: str
    annotation: Path
    annotation_sha256: str
    image_ids: list[int]
    names: list[str]  # as in the annotation
    sources: Sequence[Source]
    references: list[list[str]]
    domains: list[str | None]
    total_images: int  # before --limit
    upright: bool = False

    @property
    def counts(self) -> dict[str, int]:
        return {"images": len(self.sources), "references": sum(map(len, self.references))}

    @property
    def limited_from(self) -> int | None:
        return self.total_images if self.total_images > len(self.sources) else None


def read_captions(
    root: Path,
    annotation: Path,
    references: Path | None,
    *,
    name: str,
    split: str,
    limit: int | None = None,
    reader: str = "karpathy",
    columns: Columns | None = None,
) -> CaptionDataset:
    """The images of `annotation`, looked up in `root` and `root`/images.

    The references are the captions of `annotation`, or those of the file `references`. `name` is the task's, for
    messages. `limit` keeps the first images.

    Raises:
        DataError: a file is unreadable or malformed, or images are missing or empty.
        UsageError: `limit` is not positive.
    """
    captioned = CAPTION_READERS[reader](annotation, split, columns)
    images = number_images(captioned.images)
    kept = first_of(list(images.items()), limit)
    captions, domains, hashes = {image_id: item.captions for image_id, item in kept}, {}, [captioned.sha256]
    problems = [*captioned.problems]
    if references is not None:
        content = read_coco(references)
        captions, domains = content.captions, content.domains
        hashes.append(content.sha256)
        problems += content.problems
        problems += [
            f"{references} has no caption of image {image_id} ({item.image}), which {annotation} names; "
            "are they of the same split?"
            for image_id, item in kept
            if not captions.get(image_id)
        ]
    sources = require_files(root, [(item.image, item.path) for _, item in kept], name, problems)
    return CaptionDataset(
        name=name,
        split=split,
        annotation=annotation,
        annotation_sha256=joint_sha256(hashes),
        image_ids=[image_id for image_id, _ in kept],
        names=[item.image for _, item in kept],
        sources=sources,
        references=[captions[image_id] for image_id, _ in kept],
        domains=[domains.get(image_id) for image_id, _ in kept],
        total_images=len(images),
        upright=captioned.own,
    )


def number_images(images: Sequence[CaptionedImage]) -> dict[int, CaptionedImage]:
    """The images by id, in their order.

    The id is the one that the annotation states, else the digits at the end of the image's name, as in COCO. If an
    image has neither, or two have the same, all images are numbered from 0.
    """
    ids = [item.image_id if item.image_id is not None else _digits(item.path) for item in images]
    if None in ids or len(set(ids)) < len(images):
        return dict(enumerate(images))
    return {image_id: item for image_id, item in zip(ids, images, strict=True) if image_id is not None}


def _digits(path: str) -> int | None:
    found = re.search(r"\d+$", PurePosixPath(path).stem)
    return int(found.group()[-18:]) if found else None
