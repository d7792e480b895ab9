"""Decodes images and clips in worker processes while the device computes.

Takes the sources of items (an image file, the frames of a clip, a video) and yields batches of uint8 pixels in order,
prefetched. A file that cannot be decoded is an entry in its batch's `failures`; the others are still read.
"""

import dataclasses
import itertools
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from multiprocessing.queues import Queue
from typing import Any, Protocol, TypeAlias

import torch
from torch.utils.data import DataLoader, Dataset, default_collate

from blipbench.data.dataset import Source, Video, num_frames
from blipbench.data.images import Fit, decode_image
from blipbench.data.video import decode_clip
from blipbench.data.workers import heed_parent, signals_for_parent
from blipbench.errors import BlipbenchError, DataError

DECODED_AT_ONCE = 32  # images in one process: 14 MB at 384 pixels


class Vision(Protocol):
    """The images that a model takes: squares of `image_size` pixels, `batch` of them at once.

    `fit` brings an image to that size. None resizes it as BLIP does (see images.py).
    """

    @property
    def image_size(self) -> int: ...

    @property
    def batch(self) -> int: ...

    @property
    def fit(self) -> Fit | None: ...


@dataclasses.dataclass(frozen=True)
class Squares:
    """The images that BLIP takes, for callers without a model."""

    image_size: int
    batch: int
    fit: Fit | None = None


@dataclasses.dataclass(frozen=True)
class PixelBatch:
    """`pixels[i]` belongs to `sources[indices[i]]`; `failures` are the positions left out, each with the reason.

    `pixels` is uint8 [n, 3, S, S], or [n, frames, 3, S, S] for clips; n is 0 when every item of the batch failed.
    """

    indices: list[int]
    pixels: torch.Tensor
    failures: list[tuple[int, str]]

    def pin_memory(self) -> "PixelBatch":
        """The method DataLoader calls to place a batch in page-locked memory."""
        return dataclasses.replace(self, pixels=self.pixels.pin_memory())


def load_pixels(sources: Sequence[Source], vision: Vision, workers: int, upright: bool = False) -> Iterator[PixelBatch]:
    """Batches in the order of `sources`, each image as `vision` takes it.

    A batch has up to `vision.batch` images, where a clip counts as its frames. If a clip has more frames than that, a
    batch has one clip. Processes decode at most 32 images at once, so that all of them have something to do.

    `upright` turns pictures as their EXIF orientation says.
    `workers` is the number of decoding processes, 0 for none; `vision.fit` must be picklable. Frames of a video file
    are decoded straight to the square, whatever `fit` is. Pixels are in page-locked memory where there is CUDA.

    Raises:
        DataError: the sources differ in their number of frames (at once, before any decoding).
        BlipbenchError: a worker process was killed, or ran out of memory or of shared memory (while iterating).
    """
    frames = num_frames(sources[0]) if sources else 1
    for position, source in enumerate(sources):
        if num_frames(source) != frames:
            raise DataError(
                f"items differ in their number of frames: item 0 has {frames}, item {position} "
                f"({_first_file(source)}) has {num_frames(source)}; all must have the same"
            )
    items = max(1, vision.batch // max(1, frames))
    decoded = max(1, min(items, DECODED_AT_ONCE // max(1, frames)))
    image_size, pinned = vision.image_size, torch.cuda.is_available()
    loader = DataLoader(
        _Items(sources, image_size, vision.fit, upright),
        batch_size=decoded,
        num_workers=min(workers, -(-len(sources) // decoded)),
        collate_fn=_Collate((3, image_size, image_size) if frames == 1 else (frames, 3, image_size, image_size)),
        pin_memory=pinned and items < 2 * decoded,
        worker_init_fn=set_up_worker,
    )
    batches: Iterator[PixelBatch] = batches_of(loader)
    return batches if items < 2 * decoded else _joined(batches, items // decoded, pinned)


def _joined(batches: Iterator[PixelBatch], count: int, pinned: bool) -> Iterator[PixelBatch]:
    """Each `count` batches as one, whose pixels are in page-locked memory if `pinned`."""
    while some := list(itertools.islice(batches, count)):
        shape = (sum(len(batch.indices) for batch in some), *some[0].pixels.shape[1:])
        pixels = torch.empty(shape, dtype=torch.uint8, pin_memory=pinned)
        torch.cat([batch.pixels for batch in some], out=pixels)
        indices = [index for batch in some for index in batch.indices]
        yield PixelBatch(indices, pixels, [failure for batch in some for failure in batch.failures])


_Item: TypeAlias = tuple[int, torch.Tensor | str]  # position, pixels or the reason there are none


@dataclasses.dataclass(frozen=True)
class _Items(Dataset[_Item]):
    sources: Sequence[Source]
    image_size: int
    fit: Fit | None
    upright: bool

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, position: int) -> _Item:
        try:
            return position, _decode(self.sources[position], self.image_size, self.fit, self.upright)
        except DataError as error:
            return position, str(error)


def _decode(source: Source, image_size: int, fit: Fit | None, upright: bool) -> torch.Tensor:
    """uint8 [3, S, S], or [frames, 3, S, S] where there are several."""
    if isinstance(source, Video):
        frames = decode_clip(source.path, image_size, source.frames)
    else:
        frames = torch.stack([decode_image(path, image_size, fit, upright=upright) for path in source])
    return frames[0] if len(frames) == 1 else frames


def _first_file(source: Source) -> str:
    if isinstance(source, Video):
        return f"file {source.path}"
    return f"first file {source[0] if source else 'none'}"


@dataclasses.dataclass(frozen=True)
class _Collate:
    shape: tuple[int, ...]  # of one item

    def __call__(self, items: Sequence[_Item]) -> PixelBatch:
        decoded = [(position, pixels) for position, pixels in items if isinstance(pixels, torch.Tensor)]
        failures = [(position, reason) for position, reason in items if isinstance(reason, str)]
        if not decoded:
            return PixelBatch([], torch.empty((0, *self.shape), dtype=torch.uint8), failures)
        # In a worker default_collate stacks into shared memory, so that too little of it is an error here.
        return PixelBatch([position for position, _ in decoded], default_collate([p for _, p in decoded]), failures)


def set_up_worker(worker: int) -> None:
    """The `worker_init_fn` of every loader: a worker ends when its parent says so, or when it cannot send a batch.

    A thread of the worker sends the batches. By default its error is printed and the batch is lost, and the loader
    waits for it without end. A worker that ended is found by the loader.
    """
    # The standard library has this hook for its own process pools; there is no public one.
    Queue._on_queue_feeder_error = staticmethod(lambda error, batch: os._exit(1))  # type: ignore[attr-defined]
    heed_parent()


def batches_of(loader: DataLoader[Any]) -> Iterator[Any]:
    """The loader's batches. Raises BlipbenchError where one of its processes ended, with the reason and the way out."""
    try:
        yield from _start(loader)
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise _worker_failed(error) from error
    except (ConnectionError, EOFError, FileNotFoundError) as error:  # a batch was ready, but its owner is gone
        raise _worker_failed(error) from error


def _start(loader: DataLoader[Any]) -> Iterator[Any]:
    """Start the worker processes (torch sets each to one thread) such that only the parent handles signals."""
    on_child_death = signal.getsignal(signal.SIGCHLD)
    with signals_for_parent():
        batches = iter(loader)
    if on_child_death is not None and threading.current_thread() is threading.main_thread():
        # Torch's handler would raise in the middle of whatever the consumer computes when a worker dies. Without it
        # the loader's own poll (every 5 s) finds the death, and raises where it can be explained.
        signal.signal(signal.SIGCHLD, on_child_death)
    return batches


def _worker_failed(error: Exception) -> BlipbenchError:
    fewer = "use fewer worker processes, or none: --workers 0 (for train: --set workers=0)"
    shared = "shared memory" if (size := _size_of_shared_memory()) is None else f"shared memory (/dev/shm: {size})"
    if "shared memory" in str(error):
        return BlipbenchError(
            f"a process that decodes images found too little {shared} for a batch. Make it larger (for example "
            f"`docker run --shm-size 8g`), or {fewer}"
        )
    reason = (str(error) or type(error).__name__).splitlines()[0]
    return BlipbenchError(
        f"a process that decodes images died ({reason}): it was killed, or it ran out of memory, of {shared} or "
        f"of open files (ulimit -n); {fewer}"
    )


def _size_of_shared_memory() -> str | None:
    try:
        found = os.statvfs("/dev/shm")
    except OSError:  # not on this system
        return None
    return f"{found.f_blocks * found.f_frsize / 2**20:,.1f} MiB"
