"""The exchanges of an objective with other ranks, on the device, inside the step. A single process exchanges nothing.

Every rank must hold the same number of examples: rank r's are rows r * n to (r + 1) * n of what is gathered.
"""

from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.nn.functional import all_gather


def world_size() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


@torch.no_grad()
def gathered(tensor: Tensor) -> Tensor:
    """Every rank's [n, ...] in rank order, [world * n, ...], without gradient."""
    if world_size() == 1:
        return tensor.detach()
    parts = [torch.empty_like(tensor) for _ in range(world_size())]
    dist.all_gather(parts, tensor.contiguous())
    return torch.cat(parts)


def gathered_with_grad(tensor: Tensor) -> Tensor:
    """The same; a rank's gradient is the sum of what all ranks send back to its rows."""
    return tensor if world_size() == 1 else torch.cat(all_gather(tensor))


@torch.no_grad()
def padded_alike(tensor: Tensor) -> Tensor:
    """[n, L] filled with zeros to the longest L of all ranks, so that ranks can gather texts of their own lengths."""
    if world_size() == 1:
        return tensor
    longest = torch.tensor(tensor.shape[1], device=tensor.device)
    dist.all_reduce(longest, dist.ReduceOp.MAX)
    return torch.nn.functional.pad(tensor, (0, int(longest) - tensor.shape[1]))


@torch.no_grad()
def mean_over_ranks(value: Tensor) -> Callable[[], Tensor]:
    """Start the exchange, and return a function that waits for it and gives the mean. A rank can compute in between."""
    if world_size() == 1:
        return lambda: value
    total = value.clone()
    work = dist.all_reduce(total, async_op=True)

    def mean() -> Tensor:
        work.wait()
        return total / world_size()

    return mean


def part_of(count: int, rank: int) -> range:
    """Which of `count` rows are the rank's: an even share, one after another."""
    return range(count * rank // world_size(), count * (rank + 1) // world_size())


@torch.no_grad()
def complete(rows: Tensor) -> None:
    """Exchange the parts of `rows` [count, ...] that each rank has filled in. Afterwards every rank has all rows."""
    if world_size() == 1:
        return
    for rank in range(world_size()):
        part = part_of(len(rows), rank)
        if part:
            dist.broadcast(rows[part.start : part.stop], src=rank)
