"""The pairs that ITM reranks, image by image: the union of the best by ITC of both directions.

    for candidates in find_candidates(embeddings, k, device): candidates.texts, candidates.itc, ...

They are kept as one sorted table of five bytes a pair. A unit of work cuts out its part when it needs it.
"""

import dataclasses
import zlib
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch

from blipbench.inference.similarity import top_candidates
from blipbench.protocols.retrieval.score import Embeddings

FOR_IMAGE, FOR_TEXT = 1, 2  # the query that a pair is a candidate of, as bits


@dataclasses.dataclass(frozen=True)
class _Table:
    embeddings: Embeddings
    ends: npt.NDArray[np.int64]  # [images + 1] where the pairs of each image begin, and where the last ones end
    texts: npt.NDArray[np.int32]  # [pairs] places in `embeddings`, ascending for each image
    wanted: npt.NDArray[np.uint8]  # [pairs] FOR_IMAGE, FOR_TEXT or both


@dataclasses.dataclass(frozen=True)
class Candidates:
    """The texts to match with one image; `at` is its place in the embeddings. Arrays are [n], in the order of texts."""

    table: _Table
    at: int

    @property
    def _span(self) -> slice:
        return slice(int(self.table.ends[self.at]), int(self.table.ends[self.at + 1]))

    @property
    def _places(self) -> npt.NDArray[np.int32]:
        return self.table.texts[self._span]

    @property
    def image(self) -> int:
        """The index of the image in the data set."""
        return int(self.table.embeddings.image_ids[self.at])

    @property
    def texts(self) -> npt.NDArray[np.int64]:
        """Indices in the data set, ascending."""
        return self.table.embeddings.text_ids[self._places]

    @property
    def for_image(self) -> npt.NDArray[np.bool_]:
        """The text is among the image's k best."""
        return (self.table.wanted[self._span] & FOR_IMAGE) > 0

    @property
    def for_text(self) -> npt.NDArray[np.bool_]:
        """The image is among the text's k best."""
        return (self.table.wanted[self._span] & FOR_TEXT) > 0

    @property
    def itc(self) -> npt.NDArray[np.float32]:
        embeddings = self.table.embeddings
        itc: npt.NDArray[np.float32] = (
            embeddings.images[self.at] @ embeddings.texts[torch.from_numpy(self._places)].T
        ).numpy()
        return itc

    def digest(self) -> str:
        """Identifies the candidates, so that a resumed run recomputes an image if its candidates have changed."""
        crc = zlib.crc32(self.texts.tobytes())
        return f"{zlib.crc32(self.table.wanted[self._span].tobytes(), crc):08x}"


def find_candidates(embeddings: Embeddings, k: int, device: torch.device) -> Iterator[Candidates]:
    """The candidates of every image, in order. Memory grows with the candidates, not with all pairs."""
    images, texts = embeddings.images.to(device), embeddings.texts.to(device)
    total = len(texts)
    of_image = top_candidates(images, texts, k)  # [images, k] texts
    of_text = top_candidates(texts, images, k)  # [texts, k] images
    # A pair is (image * total + text) * 4 + bits. Sorted, the pairs of an image are together, and so are equal pairs.
    keys = np.empty(of_image.size + of_text.size, np.int64)
    by_image, by_text = keys[: of_image.size].reshape(of_image.shape), keys[of_image.size :].reshape(of_text.shape)
    np.multiply(np.arange(len(images))[:, None], 4 * total, out=by_image)
    by_image += 4 * of_image.astype(np.int64) + FOR_IMAGE
    np.multiply(of_text, 4 * total, out=by_text, dtype=np.int64)
    by_text += 4 * np.arange(total)[:, None] + FOR_TEXT
    keys.sort()
    wanted = (keys & 3).astype(np.uint8)
    keys >>= 2
    again = keys[1:] == keys[:-1]
    wanted[:-1][again] |= wanted[1:][again]
    keep = np.concatenate([[True], ~again]) if len(keys) else np.empty(0, bool)
    keys, wanted = keys[keep], wanted[keep]
    ends = np.searchsorted(keys, np.arange(len(images) + 1) * total)
    table = _Table(embeddings, ends, (keys % max(1, total)).astype(np.int32), wanted)
    return (Candidates(table, at) for at in range(len(images)))
