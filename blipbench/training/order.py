"""Which examples a step sees: how many steps a run has, and the order of each epoch.

    TrainingSet -> make_plan -> the number of steps
                -> epoch_rows -> the examples of each of a rank's batches

The order is a permutation seeded by (seed, epoch), of which every step takes the next `world x batch_size` examples and
rank r the r-th part of them; a resumed run starts anywhere in it. The options of a spec that keep examples together
change this permutation, and it remains one.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from blipbench.errors import UsageError
from blipbench.training.records import TrainingSet
from blipbench.training.schedule import Plan
from blipbench.training.spec import TrainSpec
from blipbench.training.transforms import example_seed

_WINDOW = 16  # steps whose examples `by_length` sorts together: enough to even out lengths, few enough to stay random


def make_plan(spec: TrainSpec, examples: int, world_size: int) -> Plan:
    """The steps of the run. Raises UsageError if one step needs more examples than the data has."""
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
    """The examples of each of a rank's batches of the epoch, in order. An incomplete batch at the end is dropped."""
    generator = torch.Generator().manual_seed(example_seed(spec.seed, epoch, -1))
    order = torch.randperm(len(data.examples), generator=generator)
    together = torch.arange(len(order))  # equal numbers beside each other stay so
    if spec.by_image:
        images = torch.tensor(data.images_of(order.tolist()))
        turns = torch.randperm(len(data.paths), generator=generator)[images].argsort(stable=True)
        order, together = order[turns], images[turns]
    if spec.neighbours > 1:
        images = torch.tensor(data.images_of(order.tolist()))
        turns = _neighbours_first(images, spec.neighbours, generator)
        order, together = order[turns], images[turns] // spec.neighbours
    batch = spec.batch_size * world_size
    if spec.by_length:
        order = order[_alike_in_length(data.lengths_of(order.tolist()), together, batch)]
    parts = order[: len(order) // batch * batch].view(-1, world_size, spec.batch_size)
    if spec.by_length:  # else the texts would grow through every window
        windows = torch.arange(len(parts)) // _WINDOW
        parts = parts[(windows + torch.rand(len(parts), generator=generator, dtype=torch.float64)).argsort()]
    rows: list[list[int]] = parts[:, rank].tolist()
    return rows


def _neighbours_first(image: Tensor, neighbours: int, generator: torch.Generator) -> Tensor:
    """An order of shuffled examples, given by their image, in which neighbouring images follow one another: the first
    example of every image, group after group in random order, then the second of every image that has one, and so on.
    """
    by_image = image.argsort(stable=True)
    counts = torch.bincount(image)
    turn = torch.empty_like(image)  # the how manieth of its image an example is
    turn[by_image] = torch.arange(len(image)) - (counts.cumsum(0) - counts)[image[by_image]]
    groups = len(counts) // neighbours + 1
    places = torch.stack([torch.randperm(groups, generator=generator) for _ in range(int(counts.max()))])
    return ((turn * groups + places[turn, image // neighbours]) * neighbours + image % neighbours).argsort()


def _alike_in_length(lengths: Sequence[int], together: Tensor, batch: int) -> Tensor:
    """An order of ordered examples in which those of every _WINDOW batches are sorted by their length.

    Examples beside each other with equal `together` [examples] count as the longest of them, and stay there.
    """
    _, group = together.unique_consecutive(return_inverse=True)
    length = torch.tensor(lengths)
    longest = torch.zeros_like(length).scatter_reduce(0, group, length, "amax")[group]
    window = torch.arange(len(length)) // (batch * _WINDOW)
    return (window * (length.max() + 1) + longest).argsort(stable=True)
