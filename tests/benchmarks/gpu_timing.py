"""Seconds and peak memory of work on a device."""

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator

import torch

from blipbench.device import Runtime


class Stopwatch:
    """Seconds by name, including the work of the device."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        self.runtime.synchronize()
        start = time.perf_counter()
        yield
        self.runtime.synchronize()
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


def median_seconds(work: Callable[[], object], runtime: Runtime, rounds: int) -> float:
    """After one warm-up."""
    times = []
    for _ in range(rounds + 1):
        clock = Stopwatch(runtime)
        with clock("work"):
            work()
        times.append(clock.seconds["work"])
    return statistics.median(times[1:])


def forget_peak(runtime: Runtime) -> None:
    """Also frees memory that torch keeps from earlier work, which would make the caches smaller."""
    if runtime.device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(runtime.device)


def peak_bytes(runtime: Runtime) -> int:
    """On a GPU, torch's peak allocation since `forget_peak`; on a CPU, the peak memory of this process."""
    memory = runtime.peak_memory()
    return memory["peak_device_bytes"] or memory["peak_rss_bytes"]
