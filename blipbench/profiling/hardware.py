"""The two measured ceilings of a device, to which a part's shares refer: matrix products and copies."""

import dataclasses

import torch

from blipbench.device import Runtime
from blipbench.inference.peak import measure_peak, median_seconds

COPY_BYTES = {"cpu": 256 * 2**20, "cuda": 2**30}  # several times the caches


@dataclasses.dataclass(frozen=True)
class Ceilings:
    """`flops` in FLOP/s of matrix products in the precision, `bytes` in bytes/s read and written by a copy."""

    flops: float
    bytes: float

    def least_seconds(self, flops: float, moved: float) -> float:
        """The least time for so much work by the roofline model (Williams 2009)."""
        return max(flops / self.flops, moved / self.bytes)


def measure_ceilings(runtime: Runtime) -> Ceilings:
    return Ceilings(measure_peak(runtime), measure_copy(runtime))


def measure_copy(runtime: Runtime, repeats: int = 5) -> float:
    """Bytes/s that a large copy reads and writes: the median of `repeats`."""
    source = torch.ones(COPY_BYTES[runtime.device.type], dtype=torch.uint8, device=runtime.device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / median_seconds(lambda: target.copy_(source), runtime, repeats)
