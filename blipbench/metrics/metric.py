"""What a metric is: a number with its interval, and the per-sample outcomes behind it."""

import dataclasses
from typing import Any

import numpy.typing as npt


@dataclasses.dataclass(frozen=True)
class Metric:
    """One number with its 95% interval (None where no interval is defined)."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclasses.dataclass(frozen=True)
class Metrics:
    """Metrics in the order they are shown; `outcomes` are per-sample results for paired tests.

    `notes` say what could not be computed and why; `exports` are files for a benchmark's server: name to JSON content.
    """

    values: dict[str, Metric]
    outcomes: dict[str, npt.NDArray[Any]]
    notes: tuple[str, ...] = ()
    exports: dict[str, Any] = dataclasses.field(default_factory=dict)
