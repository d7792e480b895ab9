"""Measures the matrix-product rate of this device, to which "share of peak" refers."""

import statistics
import time
from collections.abc import Callable

import torch

from blipbench.device import Runtime
from blipbench.inference.linear import FastLinear

Layer = Callable[[torch.Tensor], torch.Tensor]


def measure_peak(runtime: Runtime, repeats: int = 5) -> float:
    """FLOP/s of a square or an MLP-shaped product, whichever is faster (each the median of `repeats`).

    Uses torch's matmul or `FastLinear`, whichever is faster on the square product.
    """
    size = 8192 if runtime.device.type == "cuda" else 1024
    square = {way: _rate(runtime, way, (size, size, size), repeats) for way in (_plain, _fast)}
    fastest = max(square, key=lambda way: square[way])
    return max(square[fastest], _rate(runtime, fastest, (2 * size, size // 2 * 3 // 2, size * 3), repeats))


def _plain(weight: torch.Tensor) -> Layer:
    return lambda x: x @ weight.T


def _fast(weight: torch.Tensor) -> Layer:
    return FastLinear(weight, None)


@torch.inference_mode()
def _rate(runtime: Runtime, way: Callable[[torch.Tensor], Layer], shape: tuple[int, int, int], repeats: int) -> float:
    """`shape`: rows, inner, columns."""
    rows, inner, columns = shape
    x = torch.randn(rows, inner, device=runtime.device, dtype=runtime.dtype)
    layer = way(torch.randn(columns, inner, device=runtime.device, dtype=runtime.dtype))
    return 2 * rows * inner * columns / median_seconds(lambda: layer(x), runtime, repeats)


def median_seconds(work: Callable[[], torch.Tensor], runtime: Runtime, repeats: int) -> float:
    work()
    runtime.synchronize()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        runtime.synchronize()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)
