"""What a reader returns and a protocol consumes: the records of one split, before any pixel is decoded.

`Dataset` is what every kind says of itself, for the result; each protocol's data set has its own fields beside.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from blipbench.data.images import is_turned


@dataclasses.dataclass(frozen=True)
class Video:
    """A video file, of which `frames` frames are seen."""

    path: Path
    frames: int


Source: TypeAlias = tuple[Path, ...] | Video  # an image file (one path), a clip given as frames (several), or a video


def count_turned(sources: Sequence[Source]) -> int:
    """Images that must be turned to be upright, by their EXIF."""
    return sum(is_turned(path) for source in sources if isinstance(source, tuple) for path in source)


def num_frames(source: Source) -> int:
    """Images that decoding it gives."""
    return source.frames if isinstance(source, Video) else len(source)


class Dataset(Protocol):
    """`limited_from` is the number of images in the whole annotation if --limit took fewer, else None.

    `upright` says that pictures are turned as their EXIF orientation says.
    """

    @property
    def split(self) -> str: ...

    @property
    def annotation(self) -> Path: ...

    @property
    def annotation_sha256(self) -> str: ...

    @property
    def sources(self) -> Sequence[Source]: ...

    @property
    def upright(self) -> bool: ...

    @property
    def counts(self) -> dict[str, int]: ...

    @property
    def limited_from(self) -> int | None: ...


@dataclasses.dataclass(frozen=True)
class RetrievalDataset:
    """Images (or clips) and the texts that belong to them.

    `sources[i]` says where the pixels of item i are; all items have as many frames (an image has one).
    `texts` are normalised; `image_of_text[t]` is the index of the item that text t belongs to.
    """

    name: str
    split: str
    root: Path
    annotation: Path
    annotation_sha256: str
    names: list[str]  # as written in the annotation, for messages and samples
    sources: Sequence[Source]
    texts: list[str]
    image_of_text: npt.NDArray[np.int32]  # [texts]
    total_images: int  # before --limit
    is_video: bool = False
    upright: bool = False

    @property
    def frames(self) -> int:
        """Of each item."""
        return num_frames(self.sources[0])

    @property
    def counts(self) -> dict[str, int]:
        return {"clips" if self.is_video else "images": len(self.sources), "texts": len(self.texts)}

    @property
    def limited_from(self) -> int | None:
        return self.total_images if self.total_images > len(self.sources) else None
