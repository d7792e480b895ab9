"""Image-text retrieval: embed everything, then rerank the candidates of both directions with ITM (BLIP, section 5.1).

The stages are `embed` (ITC embeddings of images and texts) and `rerank` (ITM logits of the candidates of both
directions, grouped by image). Without `rerank`, the ITC similarities alone decide.
"""

import collections
import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor

from blipbench.data.dataset import RetrievalDataset
from blipbench.inference.capabilities import DualEncoder, MatchingEncoder
from blipbench.inference.matching import Matcher, Pending
from blipbench.inference.packing import TextBank
from blipbench.inference.token_cache import TokenCache
from blipbench.protocols.base import Outcome, Sample, Samples, Unit
from blipbench.protocols.pixels import Decoded, decode_units
from blipbench.protocols.retrieval import score as retrieval_score
from blipbench.protocols.retrieval.candidates import Candidates, find_candidates

TEXTS_PER_UNIT = 256

EMBED_ROWS = pa.schema(
    [
        ("kind", pa.string()),  # "image", "clip" or "text"
        ("index", pa.int32()),  # in the data set
        ("name", pa.string()),  # the file, or the normalised text
        ("image", pa.int32()),  # the image of a text; for an image, itself
        ("embedding", pa.list_(pa.float32())),
    ]
)

RERANK_ROWS = pa.schema(
    [
        ("image", pa.int32()),
        ("texts", pa.list_(pa.int32())),
        ("itm", pa.list_(pa.float32())),  # logit of 'match'
        ("itc", pa.list_(pa.float32())),  # similarity of the embeddings
        ("for_image", pa.list_(pa.bool_())),  # the text is among the image's k_test best
        ("for_text", pa.list_(pa.bool_())),  # the image is among the text's k_test best
    ]
)


@dataclasses.dataclass(frozen=True)
class Embed:
    """Unit-norm ITC embeddings. A unit is one image (or clip) or a block of texts."""

    model: DualEncoder
    dataset: RetrievalDataset
    input_ids: list[list[int]]
    cache: TokenCache
    workers: int
    name: str = "embed"
    noun: str = "images and texts"
    schema: pa.Schema = EMBED_ROWS

    def units(self, earlier: Samples) -> list[Unit]:
        lengths = np.array([len(ids) for ids in self.input_ids])
        image_cost = self.model.image_flops(self.dataset.frames)
        images = [Unit(f"image-{i}", image_cost, 1, i) for i in range(len(self.dataset.sources))]
        texts = []
        for start in range(0, len(lengths), TEXTS_PER_UNIT):
            block = np.arange(start, min(start + TEXTS_PER_UNIT, len(lengths)))
            cost = float(self.model.text_flops(lengths[block]).sum())
            texts.append(Unit(f"texts-{start}", cost, len(block), block))
        return texts + images

    def run(self, units: Sequence[Unit]) -> Iterator[Outcome]:
        bank = self.model.bank(self.input_ids)
        for together in self._text_units(bank, [unit for unit in units if isinstance(unit.payload, np.ndarray)]):
            texts = np.concatenate([unit.payload for unit in together])
            embeddings = np.split(self.model.embed_texts(bank, texts), np.cumsum([u.items for u in together])[:-1])
            for unit, of_unit in zip(together, embeddings, strict=True):
                yield Sample(
                    unit.id, [self._text_row(*row) for row in zip(unit.payload.tolist(), of_unit, strict=True)]
                )
        yield from self._embed_images([unit for unit in units if isinstance(unit.payload, int)])

    def _text_units(self, bank: TextBank, units: list[Unit]) -> Iterator[list[Unit]]:
        """The units in groups that fill the token budget, since a GPU needs many texts at once."""
        tokens = np.cumsum([bank.lengths[unit.payload].sum() for unit in units])
        group = tokens // self.model.runtime.batch_tokens
        for _, together in itertools.groupby(zip(group.tolist(), units, strict=True), key=lambda pair: pair[0]):
            yield [unit for _, unit in together]

    def _text_row(self, text: int, embedding: npt.NDArray[np.float32]) -> dict[str, object]:
        owner = int(self.dataset.image_of_text[text])
        return {"kind": "text", "index": text, "name": self.dataset.texts[text], "image": owner, "embedding": embedding}

    def _embed_images(self, units: list[Unit]) -> Iterator[Outcome]:
        sources = [self.dataset.sources[unit.payload] for unit in units]
        kind = "clip" if self.dataset.is_video else "image"
        for batch in decode_units(units, sources, self.model.vision, self.workers, self.dataset.upright):
            if not isinstance(batch, Decoded):
                yield batch
                continue
            embeddings, tokens = self.model.embed_images(batch.pixels)
            for unit, embedding, image_tokens in zip(batch.units, embeddings, tokens, strict=True):
                image = unit.payload
                self.cache.offer(image, image_tokens)
                name = self.dataset.names[image]
                row = {"kind": kind, "index": image, "name": name, "image": image, "embedding": embedding}
                yield Sample(unit.id, [row])


@dataclasses.dataclass(frozen=True)
class Rerank:
    """ITM logits. A unit is one image with all texts of which one is a candidate of the other."""

    model: MatchingEncoder
    dataset: RetrievalDataset
    input_ids: list[list[int]]
    cache: TokenCache
    workers: int
    k_test: int
    name: str = "rerank"
    noun: str = "pairs"
    schema: pa.Schema = RERANK_ROWS

    def units(self, earlier: Samples) -> list[Unit]:
        embeddings = retrieval_score.read_embeddings(earlier["embed"])
        frames = self.dataset.frames
        costs = self.model.match_flops([len(ids) for ids in self.input_ids], frames)
        context = self.model.context_flops(frames)
        return [
            Unit(f"image-{c.image}-{c.digest()}", context + float(costs[c.texts].sum()), len(c.texts), c)
            for c in find_candidates(embeddings, self.k_test, self.model.runtime.device)
        ]

    def run(self, units: Sequence[Unit]) -> Iterator[Outcome]:
        waiting: collections.deque[tuple[list[Unit], Pending]] = collections.deque()
        for outcome in self._submit(units):
            if not isinstance(outcome, tuple):
                yield outcome
                continue
            waiting.append(outcome)
            if len(waiting) > self.model.runtime.batches_ahead:
                yield from _samples(*waiting.popleft())
        for batch in waiting:
            yield from _samples(*batch)

    def _submit(self, units: Sequence[Unit]) -> Iterator[tuple[list[Unit], Pending] | Outcome]:
        """The submitted scores of all units, or the reason why an image cannot be read. Cached images come first."""
        matcher = self.model.matcher(self.input_ids)
        kept = [unit for unit in units if unit.payload.image in self.cache]
        yield from _match(matcher, kept, self.cache.__getitem__)
        rest = [unit for unit in units if unit.payload.image not in self.cache]
        sources = [self.dataset.sources[unit.payload.image] for unit in rest]
        for batch in decode_units(rest, sources, self.model.vision, self.workers, self.dataset.upright):
            if not isinstance(batch, Decoded):
                yield batch
                continue
            _, tokens = self.model.embed_images(batch.pixels)
            of_image = {unit.payload.image: one for unit, one in zip(batch.units, tokens, strict=True)}
            yield from _match(matcher, batch.units, of_image.__getitem__)


def _match(
    matcher: Matcher, units: Sequence[Unit], tokens_of: Callable[[int], Tensor]
) -> Iterator[tuple[list[Unit], Pending]]:
    """Submits the units in batches. `tokens_of` gives an image's tokens [T, width]."""
    if not units:
        return
    image_tokens = len(tokens_of(units[0].payload.image))
    for batch in matcher.batches(((unit, unit.payload.texts) for unit in units), image_tokens):
        texts = [unit.payload.texts for unit in batch]
        owner = np.repeat(np.arange(len(batch)), [len(some) for some in texts])
        image_embeds = torch.stack([tokens_of(unit.payload.image) for unit in batch])  # [m, T, width]
        yield batch, matcher.submit(image_embeds, np.concatenate(texts).astype(np.int64), owner)


def _samples(units: Sequence[Unit], pending: Pending) -> Iterator[Sample]:
    itm = pending.result().split([unit.items for unit in units])
    for unit, of_unit in zip(units, itm, strict=True):
        c: Candidates = unit.payload
        row = {
            "image": c.image,
            "texts": c.texts,
            "itm": of_unit.numpy(),
            "itc": c.itc,
            "for_image": c.for_image,
            "for_text": c.for_text,
        }
        yield Sample(unit.id, [row])
