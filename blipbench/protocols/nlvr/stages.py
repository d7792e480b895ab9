"""NLVR2: is a sentence true of two images (BLIP, section 5.4)? There is one stage, `reason`. A unit is a
pair of images.

The images keep the order of the annotation, and each sentence is judged once. The reference differs: it also swaps the
images and the words left and right at random when testing, and it counts the samples that pad its last batch twice.
"""

import collections
import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor

from blipbench.data.loader import load_pixels
from blipbench.data.nlvr import NlvrDataset
from blipbench.device import Fetch
from blipbench.inference.reasoning import NlvrRunner
from blipbench.protocols.base import Outcome, Sample, Samples, Unit, Waited
from blipbench.protocols.pixels import waiting_for

SENTENCES_PER_UNIT = 64  # limits a batch if a user's data has thousands of sentences about one pair

REASON_ROWS = pa.schema(
    [
        ("index", pa.int32()),  # of the sentence in the data set
        ("pair", pa.int32()),
        ("left", pa.string()),
        ("right", pa.string()),
        ("sentence", pa.string()),
        ("label", pa.bool_()),
        ("logits", pa.list_(pa.float32())),  # false, true
        ("split", pa.string()),
    ]
)


@dataclasses.dataclass(frozen=True)
class Statements:
    """A pair of images (indices of the data set) with sentences about it."""

    pair: int
    left: int
    right: int
    sentences: list[int]

    @property
    def images(self) -> set[int]:
        return {self.left, self.right}


@dataclasses.dataclass(frozen=True)
class Reason:
    """Logits of every sentence. A unit is a pair of images with all sentences about it."""

    model: NlvrRunner
    dataset: NlvrDataset
    input_ids: list[list[int]]
    workers: int
    name: str = "reason"
    noun: str = "sentences"
    schema: pa.Schema = REASON_ROWS

    def units(self, earlier: Samples) -> list[Unit]:
        about: list[list[int]] = [[] for _ in self.dataset.pairs]
        for sentence, pair in enumerate(self.dataset.pair_of_sentence):
            about[pair].append(sentence)
        return [
            self._unit(Statements(pair, left, right, sentences[start : start + SENTENCES_PER_UNIT]), start)
            for pair, ((left, right), sentences) in enumerate(zip(self.dataset.pairs, about, strict=True))
            for start in range(0, len(sentences), SENTENCES_PER_UNIT)
        ]

    def _unit(self, statements: Statements, start: int) -> Unit:
        lengths = [len(self.input_ids[sentence]) for sentence in statements.sentences]
        cost = len(statements.images) * self.model.image_flops() + self.model.pair_flops(lengths)
        return Unit(f"pair-{statements.pair}-{start}", cost, len(lengths), statements)

    def run(self, units: Sequence[Unit]) -> Iterator[Outcome]:
        waiting: tuple[list[Unit], Fetch] | None = None  # one batch is submitted ahead, so that a GPU always has work
        for encoded in self._encoded(units):
            if isinstance(encoded, Waited):
                yield encoded
                continue
            batch, tokens = encoded
            readable = []
            for unit in batch:
                reasons = [found for image in unit.payload.images if isinstance(found := tokens[image], str)]
                if reasons:
                    yield Sample(unit.id, error=reasons[0])
                else:
                    readable.append(unit)
            submitted = (readable, self._submit(readable, tokens)) if readable else None
            if waiting is not None:
                yield from self._samples(*waiting)
            waiting = submitted
        if waiting is not None:
            yield from self._samples(*waiting)

    def _encoded(self, units: Sequence[Unit]) -> Iterator[tuple[list[Unit], dict[int, Tensor | str]] | Waited]:
        """Batches of units with the tokens of their images, or the reason why an image cannot be read.

        An image is encoded once in each batch.
        """
        batches = list(_batches(units, self.model.vision.batch))
        encoded: collections.deque[Tensor | str] = collections.deque()
        arriving = self._encode([image for _, images in batches for image in images])
        for batch, images in batches:
            while len(encoded) < len(images):
                arrived = next(arriving)
                if isinstance(arrived, Waited):
                    yield arrived
                else:
                    encoded += arrived
            yield batch, {image: encoded.popleft() for image in images}

    def _encode(self, images: Sequence[int]) -> Iterator[list[Tensor | str] | Waited]:
        """Tokens [T, image_width] of some images in turn, or the reason why one cannot be read."""
        sources = [self.dataset.sources[image] for image in images]
        for batch in waiting_for(load_pixels(sources, self.model.vision, self.workers, self.dataset.upright)):
            if isinstance(batch, Waited):
                yield batch
                continue
            found: dict[int, Tensor | str] = dict(batch.failures)
            if batch.indices:
                found |= zip(batch.indices, self.model.encode_images(batch.pixels), strict=True)
            yield [found[position] for position in sorted(found)]

    def _submit(self, units: Sequence[Unit], tokens: dict[int, Tensor | str]) -> Fetch:
        """Logits [sentences of the units, 2], perhaps still being computed by the device."""

        def images(which: Sequence[int]) -> Tensor:
            return torch.stack([found for image in which if isinstance(found := tokens[image], Tensor)])

        pairs: list[Statements] = [unit.payload for unit in units]
        ids = [self.input_ids[sentence] for pair in pairs for sentence in pair.sentences]
        pair_of = np.repeat(np.arange(len(pairs)), [len(pair.sentences) for pair in pairs])
        left, right = images([p.left for p in pairs]), images([p.right for p in pairs])
        return Fetch(self.model.reason(left, right, ids, pair_of))

    def _samples(self, units: Sequence[Unit], submitted: Fetch) -> Iterator[Sample]:
        logits = iter(submitted.wait().numpy())
        for unit in units:
            yield Sample(
                unit.id, [self._row(unit.payload, sentence, next(logits)) for sentence in unit.payload.sentences]
            )

    def _row(self, pair: Statements, sentence: int, logits: npt.NDArray[np.float32]) -> dict[str, object]:
        data = self.dataset
        return {
            "index": sentence,
            "pair": pair.pair,
            "left": data.images[pair.left],
            "right": data.images[pair.right],
            "sentence": data.sentences[sentence],
            "label": data.labels[sentence],
            "logits": logits,
            "split": data.split,
        }


def _batches(units: Sequence[Unit], images_per_batch: int) -> Iterator[tuple[list[Unit], list[int]]]:
    """Consecutive units with at most `images_per_batch` images in all (but at least one unit), and these images."""
    batch: list[Unit] = []
    images: set[int] = set()
    for unit in units:
        if batch and len(images | unit.payload.images) > images_per_batch:
            yield batch, sorted(images)
            batch, images = [], set()
        batch.append(unit)
        images |= unit.payload.images
    if batch:
        yield batch, sorted(images)
