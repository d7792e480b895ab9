"""The queues of ITC: features of the batches before, as more negatives than a batch has (MoCo, He 2020).

In: this step's features of every rank. Out: nothing; the oldest ones are overwritten, on every rank alike.
"""

import torch
from torch import Tensor

from blipbench.errors import UsageError


def require_divisible(queue_size: int, global_batch: int) -> None:
    """Raises UsageError if the queue size is not a multiple of the batch size of all ranks together."""
    if queue_size % global_batch:
        fits = queue_size // global_batch * global_batch
        raise UsageError(
            f"queue_size: {queue_size} is not a multiple of the global batch of {global_batch} (all ranks together); "
            f"{f'{fits} or ' if fits else ''}{fits + global_batch} would do, or a batch that divides {queue_size}"
        )


@torch.no_grad()
def enqueue(queue: Tensor, columns: Tensor, pointer: Tensor) -> None:
    """Put `columns` [rows, n] over `queue` [rows, queue_size] from place `pointer` [1] on."""
    places = (pointer + torch.arange(columns.shape[1], device=pointer.device)) % queue.shape[1]  # no wait for a GPU
    queue[:, places] = columns


@torch.no_grad()
def advance(pointer: Tensor, steps: int, queue_size: int) -> None:
    pointer.add_(steps).remainder_(queue_size)
