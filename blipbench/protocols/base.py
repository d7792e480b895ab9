"""The contract between a benchmark and the loop that runs it.

A protocol, bound to a model and a data set, is a list of stages; a stage is a list of independent units of work that
yield samples; the samples alone decide the score. `evaluate` shards, journals and resumes units and knows nothing of
what they compute.

    stage.units(earlier) -> [Unit]     stable ids and order, an estimated cost in FLOPs
    stage.run(units) -> Sample*        one per unit, in any order
    protocol.score(samples) -> Metrics
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol as TypingProtocol

import pyarrow as pa

from blipbench.metrics.metric import Metrics


@dataclasses.dataclass(frozen=True)
class Unit:
    """One independent piece of work. `cost` is the FLOPs it needs: for balancing over ranks and for share of peak.

    `items` is how many things of the stage's `noun` the unit covers (a block of 256 texts covers 256).
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


Samples = Mapping[str, pa.Table]  # stage name -> the rows of its finished units, with a column `unit`


@dataclasses.dataclass(frozen=True)
class SelfCheck:
    """How far a seeded sample of fast results lies from the plain float32 way.

    `compared` values of kind `noun` ("pairs") differ by at most `deviation`, the largest absolute difference over the
    largest plain value. Of the `checked` outcomes ("ranks") that hang on them, `changed` come out otherwise with the
    plain values in place of the fast ones.
    """

    noun: str
    compared: int
    deviation: float
    outcome: str
    changed: int
    checked: int


class Stage(TypingProtocol):
    """`schema` is that of its samples' rows, without the column `unit`; `noun` names what a unit's `items` counts."""

    @property
    def name(self) -> str: ...

    @property
    def noun(self) -> str: ...

    @property
    def schema(self) -> pa.Schema: ...

    def units(self, earlier: Samples) -> list[Unit]: ...

    def run(self, units: Sequence[Unit]) -> Iterator[Sample]: ...


@dataclasses.dataclass(frozen=True)
class Protocol:
    """A protocol bound to a model and a data set. `score` and `self_check` take the samples and a seed."""

    stages: Sequence[Stage]
    score: Callable[[Samples, int], Metrics]
    self_check: Callable[[Samples, int], SelfCheck]
