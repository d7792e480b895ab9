"""What a reader returns and a protocol consumes: the records of one split, before any pixel is decoded.

`Dataset` is what every kind says of itself, for the result; each protocol's data set has its own fields beside.
"""

import dataclasses
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt


class Dataset(Protocol):
    """`limited_from` is the number of images in the whole annotation when --limit took fewer, else None."""

    @property
    def split(self) -> str: ...

    @property
    def annotation(self) -> Path: ...

    @property
    def annotation_sha256(self) -> str: ...

    @property
    def counts(self) -> dict[str, int]: ...

    @property
    def limited_from(self) -> int | None: ...


@dataclasses.dataclass(frozen=True)
class RetrievalDataset:
    """Images (or clips) and the texts that belong to them.

    `sources[i]` holds the files of item i: one for an image, one per frame for a clip given as frames.
    `texts` are normalised; `image_of_text[t]` is the index of the item that text t belongs to.
    """

    name: str
    split: str
    root: Path
    annotation: Path
    annotation_sha256: str
    names: list[str]  # as written in the annotation, for messages and samples
    sources: list[tuple[Path, ...]]
    texts: list[str]
    image_of_text: npt.NDArray[np.int32]  # [texts]
    total_images: int  # before --limit
    is_video: bool = False

    @property
    def counts(self) -> dict[str, int]:
        return {"clips" if self.is_video else "images": len(self.sources), "texts": len(self.texts)}

    @property
    def limited_from(self) -> int | None:
        return self.total_images if self.total_images > len(self.sources) else None
