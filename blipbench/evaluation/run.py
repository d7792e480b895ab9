"""One benchmark run from its flags to its result: what `blipbench run` and `blipbench score` call.

task + checkpoint + data -> dataset, model -> protocol -> evaluate -> result.json
"""

import dataclasses
import functools
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from blipbench.config.models import list_model_configs
from blipbench.config.task import Task
from blipbench.data.dataset import Dataset, count_turned
from blipbench.device import DEVIATION_BOUNDS, Runtime, make_runtime
from blipbench.errors import BlipbenchError, DataError, UsageError
from blipbench.evaluation.fingerprint import with_version
from blipbench.evaluation.journal import RunFolder, read_part
from blipbench.evaluation.loop import Evaluation, Progress, evaluate
from blipbench.evaluation.ranks import Ranks
from blipbench.evaluation.result import (
    DataRecord,
    Memory,
    MetricValue,
    ModelRecord,
    Result,
    SelfCheckRecord,
    TaskRecord,
    Timing,
    UnitCounts,
    describe_environment,
    now,
    read_result,
    write_result,
)
from blipbench.files import write_json
from blipbench.inference.clip import ClipRunner
from blipbench.inference.linear import bf16_slowdown
from blipbench.inference.peak import measure_peak
from blipbench.metrics.metric import Metrics
from blipbench.models.catalog import load_catalog
from blipbench.models.checkpoint import Checkpoint, load_checkpoint
from blipbench.models.checkpoint_files import locate
from blipbench.models.clip import ClipCheckpoint, Family, family_of, load_clip
from blipbench.models.config import ModelConfig
from blipbench.progress import CountedProgress
from blipbench.protocols.dual_encoders import adapt_task, refuse_lacking
from blipbench.protocols.registry import PROTOCOLS

AnyCheckpoint: TypeAlias = Checkpoint | ClipCheckpoint

_OF_TRAININGS = {"last": "", "best": "_best"}  # what `blipbench train` writes, and what its name adds to the folder's

peak_of = functools.cache(measure_peak)  # one measurement a process, however many tasks it runs


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """The flags of `blipbench run`, except the tasks; `out` is the folder that holds all runs.

    Without a `checkpoint` a task is run on its own.
    """

    checkpoint: str | None
    data: Path
    out: Path
    split: str | None = None
    limit: int | None = None
    device: str | None = None
    precision: str = "fp32"
    batch_tokens: int | None = None
    workers: int | None = None
    seed: int = 0
    resume: bool = False
    fresh: bool = False
    stop_on_error: bool = False
    model_config: ModelConfig | None = None
    family: Family | None = None  # what --model says, if the checkpoint is not BLIP's


def slow_precision(device: str | None, precision: str) -> str | None:
    """Why float32 is the better precision on this device, if it is."""
    on_cpu = precision == "bf16" and make_runtime(device, precision).device.type == "cpu"
    slowdown = bf16_slowdown() if on_cpu else 1.0
    if slowdown <= 1.0:
        return None
    return (
        f"bf16 takes {slowdown:.1f} times as long as fp32 on this processor, which has no fast bf16 products; "
        "fp32 (without --amp) is the faster and the more exact"
    )


def run_task(task: Task, options: RunOptions, ranks: Ranks, progress: Progress) -> Result | None:
    """Run one task and write its result.json; the result on rank 0, None on the others.

    Raises BlipbenchError, and SharedError if all ranks can continue with another task.
    """
    started = time.perf_counter()
    with ranks.together():  # no rank journals before the folder is claimed
        runtime = make_runtime(options.device, options.precision, options.batch_tokens, ranks.local_rank)
        split = options.split or task.data.split
        recipe = PROTOCOLS[task.protocol].recipe()
        source = _source_of(task, options.checkpoint)
        family = options.family or family_of(Path(source).expanduser())
        if family is not None:
            refuse_lacking(task, recipe, family)
        dataset = recipe.read(task, options.data, split, options.limit)
        checkpoint = _fetch_checkpoint(source, options, ranks)
        model: Any
        if isinstance(checkpoint, ClipCheckpoint):
            task = adapt_task(task, recipe, checkpoint)
            model = ClipRunner(checkpoint, runtime)
        else:
            model = recipe.load(task, checkpoint, runtime)

        folder = RunFolder(options.out / task.name / model_name(checkpoint))
        if ranks.is_main:
            fingerprint = _fingerprint(task, split, options, checkpoint, dataset)
            folder.begin(fingerprint, resume=options.resume, fresh=options.fresh)
    peak = peak_of(runtime)
    protocol = recipe.build(task, model, dataset, workers_per_rank(options.workers, ranks.world_size))
    evaluation = evaluate(protocol, folder, ranks, progress, seed=options.seed, stop_on_error=options.stop_on_error)
    if not ranks.is_main:
        return None
    unknown = protocol.unknown_tokens
    result = _result(task, split, checkpoint, dataset, unknown, runtime, ranks, evaluation, peak, options.seed, started)
    _write(folder.path, result, evaluation.metrics)
    return result


def _write(folder: Path, result: Result, metrics: Metrics | None) -> None:
    """Write the files for a benchmark's server, then the result. If result.json exists, everything was written."""
    for name, content in (metrics.exports if metrics else {}).items():
        write_json(folder / name, content)
    write_result(folder / "result.json", result)


def _source_of(task: Task, asked: str | None) -> str:
    if (source := asked or task.checkpoint) is not None:
        return source
    official = ", ".join(entry.file for entry in load_catalog() if task.name in entry.tasks)
    raise UsageError(f"{task.name}: --ckpt is missing; give a checkpoint" + (f", e.g. {official}" if official else ""))


def _fetch_checkpoint(source: str, options: RunOptions, ranks: Ranks) -> AnyCheckpoint:
    with CountedProgress("download", "bytes", enabled=ranks.is_main) as progress:
        path = locate(source, progress)
        family = family_of(path)
        if options.family not in (None, family):
            found = f"its config.json says {family}" if family else "it is not a transformers folder of that model"
            raise UsageError(f"--model {options.family}: {source}: {found}")
        if family is None:
            return load_checkpoint(
                str(path), config=options.model_config, configs=list_model_configs(), progress=progress
            )
    if options.model_config is not None:
        raise UsageError(f"--model: {source} is a {family} model and states its own sizes; leave --model out")
    return load_clip(path)


def model_name(checkpoint: AnyCheckpoint) -> str:
    """The file's name; the files of all trainings are called alike, so these are named after the training's folder."""
    path = checkpoint.path
    if path.stem in _OF_TRAININGS and (path.parent / "train.json").exists():
        return path.parent.resolve().name + _OF_TRAININGS[path.stem]
    if path.parent.name == "snapshots":  # the hub's cache: models--OWNER--NAME/snapshots/COMMIT
        return path.parent.parent.name.removeprefix("models--").replace("--", "_")
    return path.stem if path.is_file() else path.name


def workers_per_rank(asked: int | None, world_size: int) -> int:
    """The number of decoding processes: as asked, or an even share of the cores, at most 16."""
    if asked is not None:
        return asked
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    return min(16, cores // world_size)


def _fingerprint(
    task: Task, split: str, options: RunOptions, checkpoint: AnyCheckpoint, dataset: Dataset
) -> dict[str, Any]:
    """Everything that must be equal before the samples of two starts may be combined."""
    settings = {
        "task": task.name,
        "protocol": task.protocol,
        "split": split,
        "settings": task.settings.model_dump(mode="json"),
        "image_size": task.model.image_size,
        **task.data.model_dump(mode="json", exclude={"annotations", "split"}),
        "limit": options.limit,
        "checkpoint_sha256": checkpoint.sha256,
        "annotation_sha256": dataset.annotation_sha256,
        "precision": options.precision,
        "seed": options.seed,
    }
    return with_version(settings)


def _result(
    task: Task,
    split: str,
    checkpoint: AnyCheckpoint,
    dataset: Dataset,
    unknown_tokens: float,
    runtime: Runtime,
    ranks: Ranks,
    evaluation: Evaluation,
    peak: float,
    seed: int,
    started: float,
) -> Result:
    self_check = _self_check(evaluation, runtime)
    failed = len(evaluation.failures)
    assert evaluation.metrics is not None  # rank 0 has them
    return Result(
        status="incomplete" if failed else "suspect" if self_check.suspect else "complete",
        created=now(),
        task=TaskRecord(
            name=task.name,
            title=task.title,
            protocol=task.protocol,
            split=split,
            settings={**task.settings.model_dump(mode="json"), "max_words": task.data.max_words},
        ),
        main_metric=task.main_metric,
        metrics=metric_values(evaluation.metrics),
        notes=list(evaluation.metrics.notes),
        data=DataRecord(
            annotation=str(dataset.annotation),
            annotation_sha256=dataset.annotation_sha256,
            counts=dataset.counts,
            limited_from=dataset.limited_from,
            unknown_tokens=unknown_tokens,
            turned_images=count_turned(dataset.sources),
            upright=dataset.upright,
        ),
        units=UnitCounts(expected=evaluation.expected_units, done=evaluation.expected_units - failed, failed=failed),
        failures=evaluation.failures,
        model=ModelRecord(
            name=model_name(checkpoint),
            size=checkpoint.config.name,
            file=checkpoint.path.name,
            sha256=checkpoint.sha256,
            parameters=checkpoint.num_parameters,
            kind=checkpoint.kind,
            image_size=task.model.image_size,
        ),
        self_check=self_check,
        timing=Timing(
            stages=evaluation.stages,
            total_seconds=time.perf_counter() - started,
            peak_flops=peak,
        ),
        memory=Memory(**runtime.peak_memory()),
        environment=describe_environment(runtime, ranks.world_size),
        seed=seed,
    )


def _self_check(evaluation: Evaluation, runtime: Runtime) -> SelfCheckRecord:
    check = evaluation.self_check
    assert check is not None  # rank 0 has it
    bound = DEVIATION_BOUNDS[runtime.precision]
    finite = math.isfinite(check.deviation)
    return SelfCheckRecord(
        noun=check.noun,
        compared=check.compared,
        deviation=check.deviation if finite else None,
        bound=bound,
        outcome=check.outcome,
        changed=check.changed,
        checked=check.checked,
        suspect=not finite or check.deviation > bound,
    )


def metric_values(metrics: Metrics) -> dict[str, MetricValue]:
    return {name: MetricValue(**dataclasses.asdict(metric)) for name, metric in metrics.values.items()}


def rescore(folder: Path) -> Result:
    """Compute the metrics of a finished run again from its samples, without a model, and write them to result.json."""
    path = folder / "result.json"
    result = read_result(path)
    if (plugin := PROTOCOLS.get(result.task.protocol)) is None:
        raise DataError(f"{path}: task.protocol: unknown {result.task.protocol!r} (known: {', '.join(PROTOCOLS)})")
    recipe = plugin.recipe()
    metrics = recipe.score(_samples_of(folder, result, recipe.stages), result.seed)
    rescored = result.model_copy(update={"metrics": metric_values(metrics), "notes": list(metrics.notes)})
    _write(folder, rescored, metrics)
    return rescored


def _samples_of(folder: Path, result: Result, schemas: Mapping[str, pa.Schema]) -> dict[str, pa.Table]:
    """All samples of a finished run, by stage. Raises BlipbenchError if a stage or a unit is missing."""
    samples: dict[str, pa.Table] = {}
    for stage in result.timing.stages:
        file = folder / "samples" / f"{stage.name}.parquet"
        if stage.name not in schemas:
            raise DataError(
                f"{folder / 'result.json'}: timing.stages: {result.task.protocol} has no stage {stage.name!r} "
                f"(known: {', '.join(schemas)}); run the task again with --fresh"
            )
        if not file.exists():
            raise BlipbenchError(f"{file} is missing; run the task again with --resume")
        samples[stage.name] = read_part(file, schemas[stage.name])
    found = sum(pc.count_distinct(table.column("unit")).as_py() for table in samples.values())
    if found != result.units.done or not samples:
        raise BlipbenchError(
            f"{folder / 'samples'} has samples of {found} units, but result.json says {result.units.done}; "
            "run the task again with --fresh"
        )
    return samples
