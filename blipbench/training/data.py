"""From examples to the batches an objective takes: which examples when, their pixels, their tokens.

    TrainingSet -> order of an epoch -> BatchMaker (in worker processes, or here) -> batch of uint8 -> the device

The order is a permutation seeded by (seed, epoch), of which every step takes the next `world x batch_size` examples and
rank r the r-th part of them; a resumed run starts anywhere in it. Augmentation is seeded per example.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from blipbench.data.images import decode_image, normalise
from blipbench.data.loader import batches_of, load_pixels
from blipbench.errors import DataError, UsageError
from blipbench.models.tokenizer import Tokenizer
from blipbench.training.batches import NlvrBatch, PairBatch, VqaBatch
from blipbench.training.records import CaptionExample, NlvrExample, TrainingSet, VqaExample
from blipbench.training.schedule import Plan
from blipbench.training.spec import TrainSpec
from blipbench.training.transforms import augment, example_seed

Batch: TypeAlias = PairBatch | VqaBatch | NlvrBatch
Advance = Callable[[int], None]


def make_plan(spec: TrainSpec, examples: int, world_size: int) -> Plan:
    """The steps of the run. Raises UsageError where one step needs more examples than there are."""
    per_step = spec.batch_size * world_size * spec.accumulate
    if per_step > examples:
        ranks = f" x {world_size} ranks" if world_size > 1 else ""
        accumulated = f" x accumulate {spec.accumulate}" if spec.accumulate > 1 else ""
        raise UsageError(
            f"{spec.name}: batch_size {spec.batch_size}{ranks}{accumulated} = {per_step} examples a step, but the data "
            f"has {examples}; use --set batch_size={max(1, examples // (world_size * spec.accumulate))} or less"
        )
    if spec.queue_size is not None and spec.queue_size % (spec.batch_size * world_size):
        together = spec.batch_size * world_size
        raise UsageError(
            f"{spec.name}: queue_size {spec.queue_size} is not a multiple of the {together} examples that all ranks' "
            f"batches put into it; use --set queue_size={max(1, round(spec.queue_size / together)) * together}"
        )
    steps_per_epoch = examples // per_step
    total = spec.epochs * steps_per_epoch
    return Plan(steps_per_epoch, min(total, spec.max_steps or total))


def epoch_rows(spec: TrainSpec, data: TrainingSet, epoch: int, rank: int, world_size: int) -> list[list[int]]:
    """The examples of each of a rank's batches of the epoch, in order; what does not fill a batch is dropped."""
    generator = torch.Generator().manual_seed(example_seed(spec.seed, epoch, -1))
    order = torch.randperm(len(data.examples), generator=generator)
    if spec.by_image:
        images = torch.tensor(data.images_of(order.tolist()))
        order = order[torch.randperm(len(data.paths), generator=generator)[images].argsort(stable=True)]
    if spec.neighbours > 1:
        order = order[_together(data.images_of(order.tolist()), spec.neighbours, generator)]
    batch = spec.batch_size * world_size
    parts = order[: len(order) // batch * batch].view(-1, world_size, spec.batch_size)
    rows: list[list[int]] = parts[:, rank].tolist()
    return rows


def _together(images: Sequence[int], neighbours: int, generator: torch.Generator) -> Tensor:
    """An order of shuffled examples, given by their images, in which neighbouring images follow one another: the first
    example of every image, group after group in random order, then the second of every image that has one, and so on.
    """
    image = torch.tensor(images)
    by_image = image.argsort(stable=True)
    counts = torch.bincount(image)
    turn = torch.empty_like(image)  # the how manieth of its image an example is
    turn[by_image] = torch.arange(len(image)) - (counts.cumsum(0) - counts)[image[by_image]]
    groups = len(counts) // neighbours + 1
    places = torch.stack([torch.randperm(groups, generator=generator) for _ in range(int(counts.max()))])
    return ((turn * groups + places[turn, image // neighbours]) * neighbours + image % neighbours).argsort()


def decode_all(data: TrainingSet, image_size: int, workers: int, advance: Advance) -> Tensor:
    """Every image as uint8 [images, 3, S, S], resized as the tests' are. Raises DataError naming the first damaged."""
    pixels = torch.empty((len(data.paths), 3, image_size, image_size), dtype=torch.uint8)
    sources = [(path,) for path in data.paths]
    for batch in load_pixels(sources, image_size=image_size, batch_size=64, workers=workers):
        if batch.failures:
            raise DataError(batch.failures[0][1])
        pixels[batch.indices] = batch.pixels
        advance(len(batch.indices))
    return pixels


@dataclasses.dataclass(frozen=True)
class BatchMaker:
    """Makes a batch of examples: images as uint8, on the CPU. `pixels` [images, 3, S, S] are all, where cached."""

    spec: TrainSpec
    data: TrainingSet
    tokenizer: Tokenizer
    pixels: Tensor | None

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
        """uint8 [m, 3, S, S], and which of them each of `shown` is. An augmented image is another view every time."""
        if self.spec.augment != "none":
            return self._images(shown, seeds), torch.arange(len(shown))
        place = {image: number for number, image in enumerate(dict.fromkeys(shown))}
        return self._images(list(place), seeds[: len(place)]), torch.tensor([place[image] for image in shown])

    def _images(self, images: Sequence[int], seeds: Sequence[int]) -> Tensor:
        """uint8 [n, 3, S, S]."""
        if self.pixels is not None:
            return self.pixels[list(images)]
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

    Raises DataError where an image cannot be decoded, BlipbenchError where a worker was killed.
    """
    if workers == 0 or maker.pixels is not None:
        for rows in batches:
            yield maker(epoch, rows)
        return
    loader = DataLoader(
        _Batches(maker, epoch, batches),
        batch_size=None,
        num_workers=min(workers, len(batches)),
        pin_memory=pin_memory,
        generator=torch.Generator(),  # else starting workers would draw from the generator that dropout uses
    )
    for made in batches_of(loader):
        if isinstance(made, str):
            raise DataError(made)
        yield made


def to_device(batch: Batch, device: torch.device) -> Batch:
    """All tensors on the device, the images normalised there."""
    moved = type(batch)(*(tensor.to(device, non_blocking=True) for tensor in batch))
    return moved._replace(images=normalise(moved.images))


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
            return self.maker(self.epoch, self.batches[position])
        except DataError as error:
            return str(error)


_MIRROR = {"left": "right", "right": "left"}


def _mirrored(sentence: str) -> str:
    return " ".join(_MIRROR.get(word, word) for word in sentence.split(" "))
