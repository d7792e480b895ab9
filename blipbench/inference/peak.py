"""The matrix-product rate that this device reaches, measured: the yardstick for "share of peak"."""

import statistics
import time
from collections.abc import Callable

import torch

from blipbench.device import Runtime
from blipbench.inference.linear import FastLinear


def measure_peak(runtime: Runtime, repeats: int = 5) -> float:
    """FLOP/s of the fastest of several square and MLP-shaped products (median of `repeats` each)."""
    size = 8192 if runtime.device.type == "cuda" else 1024
    shapes = [(size, size, size), (2 * size, size // 2 * 3 // 2, size * 3)]
    return max(rate for shape in shapes for rate in _rates(runtime, *shape, repeats))


@torch.inference_mode()
def _rates(runtime: Runtime, rows: int, inner: int, columns: int, repeats: int) -> list[float]:
    def random(*shape: int) -> torch.Tensor:
        return torch.randn(shape, device=runtime.device, dtype=runtime.dtype)

    x, weight = random(rows, inner), random(columns, inner)
    fast = FastLinear(weight, None)
    flops = 2 * rows * inner * columns
    return [flops / _median_seconds(product, runtime, repeats) for product in (lambda: x @ weight.T, lambda: fast(x))]


def _median_seconds(work: Callable[[], torch.Tensor], runtime: Runtime, repeats: int) -> float:
    work()
    runtime.synchronize()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        runtime.synchronize()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)
