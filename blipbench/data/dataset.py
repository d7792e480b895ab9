"""What a reader returns and a protocol consumes: the records of one split, before any pixel is decoded."""

import dataclasses
from pathlib import Path

import numpy as np
import numpy.typing as npt


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
