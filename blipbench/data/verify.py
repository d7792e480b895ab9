"""Checks that the images and clips of a data set can be read, and lists those that cannot.

The shallow check reads the header of every image, and does not open videos. The deep check decodes every image or clip
in worker processes.
"""

from collections.abc import Callable, Sequence

from blipbench.data.dataset import Source, Video
from blipbench.data.images import read_size
from blipbench.data.loader import Squares, load_pixels
from blipbench.errors import DataError

Progress = Callable[[int, int], None]  # (images checked, images in all)

_DEEP = Squares(image_size=16, batch=32)  # the whole file is decoded, whatever size it is resized to


def check_images(sources: Sequence[Source], deep: bool, workers: int, progress: Progress | None = None) -> list[str]:
    """The problems of the images. Raises BlipbenchError if a worker process dies."""
    return _undecodable(sources, workers, progress) if deep else _unreadable_headers(sources, progress)


def _unreadable_headers(sources: Sequence[Source], progress: Progress | None) -> list[str]:
    problems: list[str] = []
    for checked, source in enumerate(sources, start=1):
        try:
            for path in () if isinstance(source, Video) else source:
                read_size(path)
        except DataError as error:
            problems.append(str(error))
        if progress is not None:
            progress(checked, len(sources))
    return problems


def _undecodable(sources: Sequence[Source], workers: int, progress: Progress | None) -> list[str]:
    problems: list[str] = []
    checked = 0
    for batch in load_pixels(sources, _DEEP, workers):
        problems += [reason for _, reason in batch.failures]
        checked += len(batch.indices) + len(batch.failures)
        if progress is not None:
            progress(checked, len(sources))
    return problems
