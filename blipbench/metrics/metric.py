"""What a metric is: a number with its interval, and the per-sample outcomes behind it."""

import dataclasses

import numpy as np
import numpy.typing as npt


@dataclasses.dataclass(frozen=True)
class Metric:
    """One number with its 95% interval (None where no interval is defined)."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclasses.dataclass(frozen=True)
class Metrics:
    """Metrics in the order they are shown; `outcomes` are per-sample results for paired tests."""

    values: dict[str, Metric]
    outcomes: dict[str, npt.NDArray[np.int64]]
