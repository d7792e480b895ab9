"""Times several pieces of work in interleaved rounds, so that a drift of the machine affects all alike.

    times = measure([a, b, c], device, seconds=60)    # a b c, a b c, ... -> the seconds of each call of each

The first call of each piece is apart: it selects and compiles kernels and allocates memory.
"""

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

Call = Callable[[], Any]
Advance = Callable[[int], None]

LEAST_ROUNDS, MOST_ROUNDS = 3, 200


@dataclasses.dataclass
class Times:
    """Seconds of the first call and of each later one. On a GPU, also the seconds that the host took to submit it."""

    first: float
    samples: list[float] = dataclasses.field(default_factory=list)
    host: list[float] = dataclasses.field(default_factory=list)

    @property
    def median(self) -> float:
        return float(np.median(self.samples))


def first_call(call: Call, device: torch.device) -> Times:
    seconds, _ = _timed(call, device)
    return Times(seconds)


def measure(calls: Sequence[Call], times: Sequence[Times], device: torch.device, seconds: float, tick: Advance) -> int:
    """Add rounds of samples for about `seconds`: at least 3 and at most 200. Returns their number.

    `tick(n)` is called when n more percent of the time have passed.
    """
    begin = time.perf_counter()
    rounds = told = 0
    while rounds < LEAST_ROUNDS or (rounds < MOST_ROUNDS and _fits(begin, rounds, seconds)):
        for call, kept in zip(calls, times, strict=True):
            elapsed, host = _timed(call, device)
            kept.samples.append(elapsed)
            if device.type == "cuda":
                kept.host.append(host)
            percent = min(99, int(100 * (time.perf_counter() - begin) / max(seconds, 1e-9)))
            tick(percent - told)
            told = percent
        rounds += 1
    tick(100 - told)
    return rounds


def _fits(begin: float, rounds: int, seconds: float) -> bool:
    """Whether one more round, as long as the mean of those before, ends in time."""
    passed = time.perf_counter() - begin
    return passed + passed / rounds <= seconds


def _timed(call: Call, device: torch.device) -> tuple[float, float]:
    """Seconds until the result is there, and until the host has submitted the work."""
    if device.type != "cuda":
        start = time.perf_counter()
        call()
        elapsed = time.perf_counter() - start
        return elapsed, elapsed
    before, after = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize(device)
    start = time.perf_counter()
    before.record()
    call()
    after.record()
    host = time.perf_counter() - start
    after.synchronize()
    return before.elapsed_time(after) / 1000, host
