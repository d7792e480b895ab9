"""Ctrl-C and SIGTERM while training: between two steps, so that what is saved is whole; at any other time at once.

A second one ends the run at once too, from its last checkpoint; not under torchrun, which passes on the first again.
"""

import contextlib
import os
import signal
from collections.abc import Iterator
from types import FrameType


class Interruption:
    """Hears the signals from its construction on. `asked` is true once one came in a `deferred` block."""

    def __init__(self) -> None:
        self.asked = False
        self._deferred = False
        signal.signal(signal.SIGINT, self._hear)
        signal.signal(signal.SIGTERM, self._hear)

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False

    def _hear(self, number: int, frame: FrameType | None) -> None:
        alone = os.environ.get("WORLD_SIZE", "1") == "1"
        if not self._deferred or (self.asked and alone):
            raise KeyboardInterrupt
        self.asked = True
