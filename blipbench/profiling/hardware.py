"""The measured copy bandwidth of a device: the second ceiling, beside that of matrix products (inference/peak.py)."""

import torch

from blipbench.device import Runtime
from blipbench.inference.peak import least_seconds

COPY_BYTES = {"cpu": 256 * 2**20, "cuda": 2**30}  # several times the caches


def measure_copy(runtime: Runtime, repeats: int = 5) -> float:
    """Bytes/s that a large copy reads and writes: the fastest of `repeats`."""
    source = torch.ones(COPY_BYTES[runtime.device.type], dtype=torch.uint8, device=runtime.device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / least_seconds(lambda: target.copy_(source), runtime, repeats)
