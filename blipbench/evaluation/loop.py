"""The evaluation loop: runs this process's share of each stage's units, journals and resumes them, and scores them.

It knows stages, units and samples, but no protocol. `run_stages` is the loop without the score, for work whose output
is the samples.
"""

import dataclasses
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import pyarrow as pa
import pyarrow.compute as pc

from blipbench.errors import BlipbenchError
from blipbench.evaluation.journal import JournalWriter, RunFolder
from blipbench.evaluation.ranks import Ranks, shard
from blipbench.evaluation.result import FailureRecord, StageRecord
from blipbench.metrics.metric import Metrics
from blipbench.protocols.base import Protocol, SelfCheck, Stage, Unit, Waited

Advance = Callable[[int], None]
Progress = Callable[[str, str, int, int], AbstractContextManager[Advance]]  # stage, noun, total, already done


@dataclasses.dataclass(frozen=True)
class StagesDone:
    """`samples` are grouped by stage and complete on every rank."""

    samples: dict[str, pa.Table]
    stages: list[StageRecord]
    failures: list[FailureRecord]
    expected_units: int


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """`metrics` and `self_check` exist only on rank 0."""

    metrics: Metrics | None
    self_check: SelfCheck | None
    stages: list[StageRecord]
    failures: list[FailureRecord]
    expected_units: int


def evaluate(
    protocol: Protocol, folder: RunFolder, ranks: Ranks, progress: Progress, *, seed: int, stop_on_error: bool
) -> Evaluation:
    """Run every stage, then score and self-check on rank 0."""
    done = run_stages(protocol.stages, folder, ranks, progress, stop_on_error=stop_on_error)
    metrics = self_check = None
    if ranks.is_main:
        with progress("score", "steps", 2, 0) as advance:
            metrics = protocol.score(done.samples, seed)
            advance(1)
            self_check = protocol.self_check(done.samples, seed)
            advance(1)
    ranks.from_main(None)  # the others wait, so that no rank ends while rank 0 may still fail
    return Evaluation(metrics, self_check, done.stages, done.failures, done.expected_units)


def run_stages(
    stages: Sequence[Stage], folder: RunFolder, ranks: Ranks, progress: Progress, *, stop_on_error: bool
) -> StagesDone:
    """Run the stages one after another. At the end, rank 0 merges the part files of each stage.

    Raises BlipbenchError if a stage yields no sample at all, and at the first failed unit if `stop_on_error`.
    """
    samples: dict[str, pa.Table] = {}
    reports: list[StageRecord] = []
    failures: list[FailureRecord] = []
    expected = 0
    for stage in stages:
        units = stage.units(samples)
        expected += len(units)
        table, report, failed = _run_stage(stage, units, folder, ranks, progress, stop_on_error)
        samples[stage.name] = table
        reports.append(report)
        failures += failed
        if len(table) == 0:
            first = f"; first: {failures[0].error}" if failures else ""
            raise BlipbenchError(
                f"{stage.name}: no unit succeeded, so the run cannot go on; {len(failures)} units failed{first}"
            )
    if ranks.is_main:
        for name, table in samples.items():
            folder.merge(name, table)
    return StagesDone(samples, reports, failures, expected)


def _run_stage(
    stage: Stage, units: list[Unit], folder: RunFolder, ranks: Ranks, progress: Progress, stop_on_error: bool
) -> tuple[pa.Table, StageRecord, list[FailureRecord]]:
    """All samples of the stage, in the units' order, on every rank."""
    ids = [unit.id for unit in units]
    journaled = folder.read(stage.name, stage.schema, ids) if ranks.is_main else None
    done = set(ranks.from_main(sorted(set(journaled.column("unit").to_pylist())) if journaled is not None else []))
    todo = [unit for unit in units if unit.id not in done]
    mine = [todo[i] for i in shard([unit.cost for unit in todo], ranks.world_size, ranks.rank)]
    by_id = {unit.id: unit for unit in mine}
    reused = sum(unit.items for unit in units if unit.id in done)
    total = reused + sum(unit.items for unit in mine)

    start = time.perf_counter()
    failures: list[FailureRecord] = []
    waited = 0.0
    with (
        JournalWriter(folder, stage.name, stage.schema, ranks.rank) as journal,
        progress(stage.name, stage.noun, total, reused) as advance,
    ):
        for sample in stage.run(mine):
            if isinstance(sample, Waited):
                waited += sample.seconds
                continue
            if sample.error is not None:
                if stop_on_error:
                    raise BlipbenchError(f"{stage.name}: {sample.error}")
                failures.append(FailureRecord(stage=stage.name, unit=sample.unit, error=sample.error))
            journal.append(sample)
            advance(by_id[sample.unit].items)
    seconds = time.perf_counter() - start

    tables = ranks.gather_tables(journal.table())
    told = ranks.gather_json([seconds, waited, [failure.model_dump() for failure in failures]])
    everything = pa.concat_tables([*tables, *ranks.gather_tables(_or_empty(journaled, tables[0].schema))])
    all_failures = [FailureRecord(**failure) for _, _, rank_failures in told for failure in rank_failures]
    failed = {failure.unit for failure in all_failures}
    fresh = [unit for unit in todo if unit.id not in failed]
    report = StageRecord(
        name=stage.name,
        noun=stage.noun,
        items=sum(unit.items for unit in fresh),
        reused_items=reused,
        flops=sum(unit.cost for unit in fresh),
        seconds=max(rank_seconds for rank_seconds, _, _ in told),
        waited_seconds=max(rank_waited for _, rank_waited, _ in told),
    )
    return _in_order(everything, ids), report, all_failures


def _or_empty(table: pa.Table | None, schema: pa.Schema) -> pa.Table:
    return schema.empty_table() if table is None else table


def _in_order(table: pa.Table, ids: list[str]) -> pa.Table:
    """Rows in the order of their units, whichever rank or resume they came from."""
    place = pc.index_in(table.column("unit"), value_set=pa.array(ids, pa.string()))
    return table.take(pc.array_sort_indices(place.combine_chunks()))
