"""Measures the matrix-product rate of this device, to which "share of peak" refers."""

import time
from collections.abc import Callable

import torch

from blipbench.device import Runtime
from blipbench.inference.linear import Way, make_product, ways_of


def measure_peak(runtime: Runtime, repeats: int = 5) -> float:
    """FLOP/s of a square or an MLP-shaped product, whichever is faster.

    Each is the fastest of `repeats`, since other processes only make it slower. On a CPU, uses torch's product or
    oneDNN's, whichever is faster on the square product.
    """
    on_cpu = runtime.device.type == "cpu"
    size = 1024 if on_cpu else 8192
    ways: list[Way] = ways_of(runtime.dtype) if on_cpu else ["torch"]
    square = {way: _rate(runtime, way, (size, size, size), repeats) for way in ways}
    fastest = max(square, key=lambda way: square[way])
    return max(square[fastest], _rate(runtime, fastest, (2 * size, size // 2 * 3 // 2, size * 3), repeats))


@torch.inference_mode()
def _rate(runtime: Runtime, way: Way, shape: tuple[int, int, int], repeats: int) -> float:
    """`shape`: rows, inner, columns."""
    rows, inner, columns = shape
    x = torch.randn(rows, inner, device=runtime.device, dtype=runtime.dtype)
    layer = make_product(torch.randn(columns, inner, device=runtime.device, dtype=runtime.dtype), None, False, way)
    return 2 * rows * inner * columns / least_seconds(lambda: layer(x), runtime, repeats)


def least_seconds(work: Callable[[], torch.Tensor], runtime: Runtime, repeats: int) -> float:
    work()
    runtime.synchronize()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        runtime.synchronize()
        seconds.append(time.perf_counter() - start)
    return min(seconds)
