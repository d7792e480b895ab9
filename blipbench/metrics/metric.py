"""The types of metrics: a number with its interval, and the outcomes per sample that it is computed from."""

import dataclasses
from typing import Any

import numpy.typing as npt


@dataclasses.dataclass(frozen=True)
class Metric:
    """A number with its 95% interval (None if no interval is defined)."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclasses.dataclass(frozen=True)
class Metrics:
    """Metrics in display order. `outcomes` are results per sample, for paired tests.

    `notes` say what could not be computed and why. `exports` are files for a benchmark's server: name to JSON content.
    """

    values: dict[str, Metric]
    outcomes: dict[str, npt.NDArray[Any]]
    notes: tuple[str, ...] = ()
    exports: dict[str, Any] = dataclasses.field(default_factory=dict)
