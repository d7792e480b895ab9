"""The data set of a retrieval task: images with captions, read in any of the formats of readers.py."""

from pathlib import Path

import numpy as np

from blipbench.config.task import Columns
from blipbench.data.dataset import RetrievalDataset
from blipbench.data.files import first_of, require_files
from blipbench.data.readers import CAPTION_READERS
from blipbench.data.text import normalise_caption


def read_retrieval(
    root: Path,
    annotation: Path,
    *,
    name: str,
    split: str,
    max_words: int,
    limit: int | None = None,
    reader: str = "karpathy",
    columns: Columns | None = None,
) -> RetrievalDataset:
    """The split that `annotation` describes, with images looked up in `root` and `root`/images.

    `name` is the task's, for messages. `limit` keeps the first images with all their texts. Only their files are
    required, but all records are checked. Captions are normalised to at most `max_words` words.

    Raises:
        DataError: the annotation is unreadable or malformed, or images are missing or empty.
        UsageError: `limit` is not positive.
    """
    captioned = CAPTION_READERS[reader](annotation, split, columns)
    kept = first_of(captioned.images, limit)
    sources = require_files(root, [(item.image, item.path) for item in kept], name, captioned.problems)
    return RetrievalDataset(
        name=name,
        split=split,
        root=root,
        annotation=annotation,
        annotation_sha256=captioned.sha256,
        names=[item.image for item in kept],
        sources=sources,
        texts=[normalise_caption(caption, max_words) for item in kept for caption in item.captions],
        image_of_text=np.repeat(np.arange(len(kept), dtype=np.int32), [len(item.captions) for item in kept]),
        total_images=len(captioned.images),
        upright=captioned.own,
    )
