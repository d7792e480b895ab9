"""Handles Ctrl-C and SIGTERM: at once, or in a training between two steps, so that the saved state is complete.

The same signal is often sent twice (by torchrun, Slurm or `timeout`): what comes within a second is one request. A
second request ends a training at once too, from its last checkpoint. Under torchrun, which may pass on a signal late,
there is no second request.
"""

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

ONE_REQUEST = 1.0  # seconds


class Interruption:
    """Handles the signals inside its `with` block. `asked` is true after a signal arrived in a `deferred` block."""

    def __init__(self) -> None:
        self.asked = False
        self._deferred = False
        self._last = float("-inf")
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "Interruption":
        for number in (signal.SIGINT, signal.SIGTERM):
            handler = signal.getsignal(number)
            if handler is not signal.SIG_IGN:  # as a shell has it for SIGINT of a job in the background
                self._before[number] = handler
                signal.signal(number, self._hear)
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
        now = time.monotonic()
        repeated, self._last = now - self._last < ONE_REQUEST, now
        if repeated:
            return
        alone = os.environ.get("WORLD_SIZE", "1") == "1"
        if not self._deferred or (self.asked and alone):
            raise KeyboardInterrupt
        self.asked = True
