"""The contract between a benchmark and the loop that runs it.

A protocol is bound to a model and a data set. It has a list of stages, and a stage has a list of independent units of
work. Units yield samples, and the samples alone decide the score. The loop shards, journals and resumes units, and does
not know what they compute.

    stage.units(earlier) -> [Unit]     stable ids and order, an estimated cost in FLOPs
    stage.run(units) -> Sample*        one per unit, in any order; and Waited, whenever it waited for images
    protocol.score(samples) -> Metrics
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol as TypingProtocol

import pyarrow as pa

from blipbench.metrics.metric import Metrics


@dataclasses.dataclass(frozen=True)
class Unit:
    """One independent piece of work.

    `cost` is the number of FLOPs it needs. It balances the ranks and gives the share of peak. `items` is the number of
    things that the unit covers, counted by the stage's `noun` (256 for a block of 256 texts).
    """

    id: str
    cost: float
    items: int
    payload: Any


@dataclasses.dataclass(frozen=True)
class Sample:
    """The output of a unit: rows for the journal, or the error that prevented them."""

    unit: str
    rows: Sequence[Mapping[str, Any]] = ()
    error: str | None = None


@dataclasses.dataclass(frozen=True)
class Waited:
    """The device waited so long for images to be decoded."""

    seconds: float


Outcome = Sample | Waited

Samples = Mapping[str, pa.Table]  # stage name -> the rows of its finished units, with a column `unit`


@dataclasses.dataclass(frozen=True)
class SelfCheck:
    """How far a seeded sample of fast results deviates from plain float32 computation.

    `compared` values of kind `noun` ("pairs") were compared. `deviation` is their largest absolute difference, divided
    by the largest plain value. `checked` results of kind `outcome` ("ranks") depend on these values, and `changed` of
    them differ if the plain values replace the fast ones.
    """

    noun: str
    compared: int
    deviation: float
    outcome: str
    changed: int
    checked: int


class Stage(TypingProtocol):
    """`schema` is the schema of the samples' rows without the column `unit`. `noun` is what `Unit.items` counts."""

    @property
    def name(self) -> str: ...

    @property
    def noun(self) -> str: ...

    @property
    def schema(self) -> pa.Schema: ...

    def units(self, earlier: Samples) -> list[Unit]: ...

    def run(self, units: Sequence[Unit]) -> Iterator[Outcome]: ...


@dataclasses.dataclass(frozen=True)
class Protocol:
    """A protocol bound to a model and a data set. `score` and `self_check` take the samples and a seed.

    `unknown_tokens` is the share of the texts' tokens that the model's vocabulary lacks.
    """

    stages: Sequence[Stage]
    score: Callable[[Samples, int], Metrics]
    self_check: Callable[[Samples, int], SelfCheck]
    unknown_tokens: float = 0.0
