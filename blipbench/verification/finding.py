"""What one check of the verification found: the largest deviation from what is expected, and the bound on it.

A `Finding` is a line of `blipbench doctor` like its other checks, with both numbers for `--json`.
"""

import dataclasses
import math

from torch import Tensor

from blipbench.device import DEVIATION_BOUNDS
from blipbench.doctor import Check

# The goldens' own float32 noise is at most 6e-6 of the largest value. The bound of a run is wider, since errors grow
# over the layers of a real model.
BOUNDS = {**DEVIATION_BOUNDS, "fp32": 1e-5}

OUT_OF_BOUNDS = "do not trust results of this device in this precision; try another --precision or another torch"


@dataclasses.dataclass(frozen=True)
class Finding(Check):
    """`deviation` is relative to the largest expected value. None: not compared, or not finite."""

    deviation: float | None = None
    bound: float | None = None


def compared(name: str, deviation: float, bound: float, note: str = "", *, fails: bool = False) -> Finding:
    """The finding for a deviation. `note` says what else was compared, and `fails` whether that is wrong."""
    detail = f"largest relative deviation {deviation:.1e}, bound {bound:.0e}" + (f"; {note}" if note else "")
    if deviation <= bound and not fails:  # NaN is out of bounds
        return Finding(name, "ok", detail, "", deviation, bound)
    number = deviation if math.isfinite(deviation) else None  # JSON has no NaN
    return Finding(name, "fail", detail, OUT_OF_BOUNDS, number, bound)


def relative_deviation(found: Tensor, expected: Tensor) -> float:
    """The largest deviation over the largest expected value; NaN if anything found is NaN."""
    found, expected = found.cpu().float(), expected.cpu().float()
    return float((found - expected).abs().max() / expected.abs().max())
