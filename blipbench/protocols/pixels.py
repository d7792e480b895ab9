"""The pixels of a stage's units. Every stage that reads images opens them here.

Takes units and the source of each unit's image. Yields batches of units with their pixels. If an image cannot be read,
its unit is yielded as a failed sample, and the other units are not affected. How long each batch kept the device
waiting is yielded too.
"""

import dataclasses
import time
from collections.abc import Iterator, Sequence

from torch import Tensor

from blipbench.data.dataset import Source
from blipbench.data.loader import PixelBatch, Vision, load_pixels
from blipbench.errors import DataError
from blipbench.protocols.base import Outcome, Sample, Unit, Waited


@dataclasses.dataclass(frozen=True)
class Decoded:
    """`pixels[i]` belongs to `units[i]`: uint8 [n, 3, S, S], or [n, frames, 3, S, S] for clips; n is at least 1."""

    units: list[Unit]
    pixels: Tensor


def decode_units(
    units: Sequence[Unit], sources: Sequence[Source], vision: Vision, workers: int, upright: bool
) -> Iterator[Decoded | Outcome]:
    """The units in order, batch by batch; `sources[i]` is the image of `units[i]`. Errors as `load_pixels`.

    A stage passes on everything that is not `Decoded`.
    """
    for batch in waiting_for(load_pixels(sources, vision, workers, upright)):
        if isinstance(batch, Waited):
            yield batch
            continue
        yield from (Sample(units[at].id, error=reason) for at, reason in batch.failures)
        if batch.indices:
            yield Decoded([units[at] for at in batch.indices], batch.pixels)


def waiting_for(batches: Iterator[PixelBatch]) -> Iterator[PixelBatch | Waited]:
    """The batches, and before each how long it took to come."""
    while True:
        start = time.perf_counter()
        batch = next(batches, None)
        yield Waited(time.perf_counter() - start)
        if batch is None:
            return
        yield batch


def decode_again(sources: Sequence[Source], vision: Vision, upright: bool) -> Iterator[Tensor]:
    """The pixels of each source in turn, uint8 [1, ...], for a self-check.

    Raises DataError if a source cannot be read, although the run has read it.
    """
    for source in sources:
        (batch,) = load_pixels([source], vision, 0, upright)
        if batch.failures:
            raise DataError(f"self-check: {batch.failures[0][1]}; the run could read it, so the data has changed since")
        yield batch.pixels
