"""The contract between a benchmark and the loop that runs it.

A protocol is a list of stages; a stage is a list of independent units of work that yield samples; the samples
alone decide the score. `evaluate` shards, journals and resumes units and knows nothing of what they compute.

    Stage.units(dataset, earlier) -> [Unit]      stable ids and order, an estimated cost in FLOPs
    Stage.run(model, dataset, units) -> Sample*  one per unit, in any order
    Protocol.score(samples) -> Metrics           from the samples alone, so that `blipbench score` needs no model
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol as TypingProtocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa


@dataclasses.dataclass(frozen=True)
class Unit:
    """One independent piece of work. `cost` is the FLOPs it needs: for balancing over ranks and for MFU.

    `items` is how many things of the stage's `noun` the unit covers (a block of 64 texts covers 64).
    """

    id: str
    cost: float
    items: int
    payload: Any


@dataclasses.dataclass(frozen=True)
class Sample:
    """What a unit yielded: rows for the journal, or the error that kept it from yielding any."""

    unit: str
    rows: Sequence[Mapping[str, Any]] = ()
    error: str | None = None


Samples = Mapping[str, pa.Table]  # stage name -> the rows of its finished units, column `unit` first


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
    outcomes: dict[str, npt.NDArray[np.generic]]


@dataclasses.dataclass(frozen=True)
class SelfCheck:
    """How far a seeded sample of fast results lies from the plain float32 way.

    `deviation` is the largest absolute difference over the largest plain value.
    """

    pairs: int
    deviation: float
    bound: float
    ranks_changed: int
    ranks_checked: int

    @property
    def suspect(self) -> bool:
        return not self.deviation <= self.bound  # NaN is suspect


class Stage(TypingProtocol):
    name: str
    noun: str  # what an item is called in the progress line: "items", "pairs"
    schema: pa.Schema  # of its samples' rows, without `unit`

    def units(self, dataset: Any, earlier: Samples) -> list[Unit]: ...

    def run(self, model: Any, dataset: Any, units: Sequence[Unit]) -> Iterator[Sample]: ...


class Protocol(TypingProtocol):
    stages: Sequence[Stage]
    needs: frozenset[str]  # capabilities a model must have, e.g. {"embed_images", "match"}

    def score(self, samples: Samples, seed: int) -> Metrics: ...

    def self_check(self, model: Any, dataset: Any, samples: Samples, seed: int) -> SelfCheck: ...
