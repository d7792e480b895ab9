"""Ctrl-C and SIGTERM while training: between two steps, so that what is saved is whole; at any other time at once.

A second one ends the run at once too, from its last checkpoint; not under torchrun, which passes on the first again.
"""

import contextlib
import os
import signal
from collections.abc import Iterator
from types import FrameType
from typing import Any


class Interruption:
    """Hears the signals while it is entered. `asked` is true once one came in a `deferred` block."""

    def __init__(self) -> None:
        self.asked = False
        self._deferred = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "Interruption":
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._hear)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

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
