"""From examples to the batches an objective takes: their pixels, their tokens.

    TrainingSet, an epoch's rows -> BatchMaker (in worker processes, or here) -> batch of uint8 -> the device

Augmentation is seeded per example. Images that stay the same can be decoded, and encoded, once before the run.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from blipbench.data.images import decode_image, normalise
from blipbench.data.loader import Squares, batches_of, load_pixels, set_up_worker
from blipbench.errors import DataError
from blipbench.evaluation.ranks import Ranks
from blipbench.models.tokenizer import Tokenizer
from blipbench.models.vit import ImageEncoder
from blipbench.training.batches import NlvrBatch, PairBatch, VqaBatch
from blipbench.training.ranks import complete, part_of
from blipbench.training.records import CaptionExample, NlvrExample, TrainingSet, VqaExample
from blipbench.training.spec import TrainSpec
from blipbench.training.transforms import augment, example_seed

Batch: TypeAlias = PairBatch | VqaBatch | NlvrBatch
Advance = Callable[[int], None]

_ENCODED_AT_ONCE = 64  # images


def decode_all(data: TrainingSet, image_size: int, workers: int, ranks: Ranks, advance: Advance) -> Tensor:
    """Every image as uint8 [images, 3, S, S], resized as the tests' are. Each rank decodes a part; `advance` counts it.

    Raises DataError naming the first damaged image, on the other ranks a SharedError.
    """
    pixels = torch.empty((len(data.paths), 3, image_size, image_size), dtype=torch.uint8)
    mine = part_of(len(data.paths), ranks.rank)
    sources = [(data.paths[image],) for image in mine]
    with ranks.together():
        for batch in load_pixels(sources, Squares(image_size, batch=64), workers):
            if batch.failures:
                raise DataError(batch.failures[0][1])
            pixels[[mine[index] for index in batch.indices]] = batch.pixels
            advance(len(batch.indices))
    complete(pixels)
    return pixels


@torch.no_grad()
def encode_all(encoder: ImageEncoder, pixels: Tensor, device: torch.device, ranks: Ranks, advance: Advance) -> Tensor:
    """What the encoder's frozen part makes of uint8 pixels [images, 3, S, S]: [images, T, width] float32, on the CPU.

    Each rank encodes a part; `advance` counts it.
    """
    mine = part_of(len(pixels), ranks.rank)
    assert encoder.pos_embed is not None
    embeds = torch.empty((len(pixels), *encoder.pos_embed.shape[1:]))
    for start in range(mine.start, mine.stop, _ENCODED_AT_ONCE):
        part = slice(start, min(start + _ENCODED_AT_ONCE, mine.stop))
        encoded = encoder.first_blocks(normalise(pixels[part].to(device)))  # [part, T, width]
        embeds[part] = encoded.cpu()
        advance(len(encoded))
    complete(embeds)
    return embeds


@dataclasses.dataclass(frozen=True)
class BatchMaker:
    """Makes a batch of examples, on the CPU: images as uint8, or encoded.

    `cached` are all images, where they are kept: uint8 [images, 3, S, S], or encoded, [images, T, width].
    """

    spec: TrainSpec
    data: TrainingSet
    tokenizer: Tokenizer
    cached: Tensor | None

    def __call__(self, epoch: int, rows: Sequence[int]) -> Batch:
        """Raises DataError where an image cannot be decoded."""
        seeds = [example_seed(self.spec.seed, epoch, row) for row in rows]
        examples = [self.data.examples[row] for row in rows]
        if isinstance(examples[0], VqaExample):
            return self._vqa([e for e in examples if isinstance(e, VqaExample)], seeds)
        if isinstance(examples[0], NlvrExample):
            return self._nlvr([e for e in examples if isinstance(e, NlvrExample)], seeds)
        return self._pairs([e for e in examples if isinstance(e, CaptionExample)], seeds)

    def _pairs(self, examples: Sequence[CaptionExample], seeds: Sequence[int]) -> PairBatch:
        image_ids = [example.image for example in examples]
        ids, mask = self._tokens([example.caption for example in examples])
        return PairBatch(self._images(image_ids, seeds), ids, mask, torch.tensor(image_ids))

    def _vqa(self, examples: Sequence[VqaExample], seeds: Sequence[int]) -> VqaBatch:
        questions, question_mask = self._tokens([example.question for example in examples])
        answers, answer_mask = self._tokens([answer for example in examples for answer in example.answers])
        images, image_of = self._shared_images([example.image for example in examples], seeds)
        return VqaBatch(
            images=images,
            image_of=image_of,
            question_ids=questions,
            question_mask=question_mask,
            answer_ids=answers,
            answer_mask=answer_mask,
            answers_per_question=torch.tensor([len(example.answers) for example in examples]),
            weights=torch.tensor([weight for example in examples for weight in example.weights]),
        )

    def _nlvr(self, examples: Sequence[NlvrExample], seeds: Sequence[int]) -> NlvrBatch:
        """The reference exchanges the two images at random, and the words left and right with them."""
        swaps = [self.spec.augment == "reference" and seed % 2 == 1 for seed in seeds]
        pairs = [(e.right, e.left) if swap else (e.left, e.right) for e, swap in zip(examples, swaps, strict=True)]
        sentences = [_mirrored(e.sentence) if swap else e.sentence for e, swap in zip(examples, swaps, strict=True)]
        ids, mask = self._tokens(sentences)
        shown, views = [image for pair in pairs for image in pair], [s + i for s in seeds for i in (0, 1)]
        images, image_of = self._shared_images(shown, views)
        labels = torch.tensor([int(example.label) for example in examples])
        return NlvrBatch(images, image_of.view(-1, 2), ids, mask, labels)

    def _shared_images(self, shown: Sequence[int], seeds: Sequence[int]) -> tuple[Tensor, Tensor]:
        """The images, each once, and which of them each of `shown` is. Augmented, an image differs every time."""
        if self.spec.augment != "none":
            return self._images(shown, seeds), torch.arange(len(shown))
        place = {image: number for number, image in enumerate(dict.fromkeys(shown))}
        return self._images(list(place), seeds[: len(place)]), torch.tensor([place[image] for image in shown])

    def _images(self, images: Sequence[int], seeds: Sequence[int]) -> Tensor:
        """uint8 [n, 3, S, S], or encoded [n, T, width]."""
        if self.cached is not None:
            return self.cached[list(images)]
        return torch.stack([self._decode(self.data.paths[i], s) for i, s in zip(images, seeds, strict=True)])

    def _decode(self, path: Path, seed: int) -> Tensor:
        size = self.spec.image_size
        if self.spec.augment == "none":
            return decode_image(path, size)
        return decode_image(path, size, lambda image: augment(image, size, self.spec.min_scale, seed))

    def _tokens(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """input_ids and attention_mask [n, L], padded to the longest."""
        ids = self.tokenizer.encode(texts, self.spec.data.max_tokens)
        longest = max(map(len, ids))
        padded = torch.tensor([row + [self.tokenizer.pad_id] * (longest - len(row)) for row in ids])
        lengths = torch.tensor([len(row) for row in ids])
        return padded, (torch.arange(longest) < lengths[:, None]).long()


def load_batches(
    maker: BatchMaker, epoch: int, batches: Sequence[Sequence[int]], workers: int, pin_memory: bool
) -> Iterator[Batch]:
    """The batches of an epoch, or what is left of it, prefetched by worker processes where there are any.

    Raises DataError where an image cannot be decoded, BlipbenchError where a worker was killed or ran out of memory.
    """
    if workers == 0 or maker.cached is not None:
        for rows in batches:
            yield maker(epoch, rows)
        return
    loader = DataLoader(
        _Batches(maker, epoch, batches),
        batch_size=None,
        num_workers=min(workers, len(batches)),
        pin_memory=pin_memory,
        worker_init_fn=set_up_worker,
        generator=torch.Generator(),  # else starting workers would draw from the generator that dropout uses
    )
    for made in batches_of(loader):
        if isinstance(made, str):
            raise DataError(made)
        yield made


def to_device(batch: Batch, device: torch.device) -> Batch:
    """All tensors on the device, pixels normalised there."""
    moved = type(batch)(*(tensor.to(device, non_blocking=True) for tensor in batch))
    return moved._replace(images=normalise(moved.images)) if moved.images.dtype == torch.uint8 else moved


@dataclasses.dataclass(frozen=True)
class _Batches(Dataset[Batch | str]):
    """A batch, or the reason there is none: an exception would come back with a worker's traceback in its message."""

    maker: BatchMaker
    epoch: int
    batches: Sequence[Sequence[int]]

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, position: int) -> Batch | str:
        try:
            batch = self.maker(self.epoch, self.batches[position])
        except DataError as error:
            return str(error)
        for tensor in batch:
            tensor.share_memory_()  # here, where too little shared memory is an error that reaches the trainer
        return batch


_MIRROR = {"left": "right", "right": "left"}


def _mirrored(sentence: str) -> str:
    return " ".join(_MIRROR.get(word, word) for word in sentence.split(" "))
