"""Every shapes task with the models that ship, in float32 and bf16, compared with the CPU in float32."""

import dataclasses
import os
import subprocess
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from gpu_setup import Record, Setup, last_lines, start_blipbench

from blipbench.config.tasks import load_task
from blipbench.evaluation.result import Result, read_result
from blipbench.protocols.retrieval.score import rank_samples

TASKS = ("retrieval_shapes", "caption_shapes", "nocaps_shapes", "vqa_shapes", "nlvr_shapes", "video_shapes")
PRECISIONS = ("fp32", "bf16")
PLAIN = "plain"  # the run on the CPU
ACCURACY = {"captioning": "exact", "vqa": "accuracy", "nlvr": "test_p_acc"}  # in percent; captions require Java
ALLOWED_SAMPLES = 2  # by which an accuracy may differ from the CPU's
ALLOWED_SHARE = 0.01  # of the ranks (or without an accuracy, of the outcomes) that may change, if not ALLOWED_SAMPLES
ERROR_LINES = 15


@dataclasses.dataclass(frozen=True)
class Finished:
    """`outcomes` decide the metrics: ranks, or for each sample a text, or yes or no."""

    result: Result
    outcomes: npt.NDArray[Any]


def measure(setup: Setup) -> Iterator[Record]:
    """The CPU computes at the same time, on half of the cores, since only its results count."""
    images = ["--images", str(setup.sizes.shapes), "--train-images", "5", "--seed", "0"]
    start_blipbench(
        ["data", "make", "shapes", "--out", str(setup.folder / "data"), *images], setup.folder / "made"
    ).wait()
    threads = os.environ.get("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 2) // 2)))
    on_cpu = start(setup, PLAIN, "cpu", "fp32", OMP_NUM_THREADS=threads)
    for precision in PRECISIONS:
        start(setup, precision, setup.device, precision).wait()
    on_cpu.wait()
    for task in TASKS:
        for precision in PRECISIONS:
            yield compare(setup, task, precision)


def start(setup: Setup, name: str, device: str, precision: str, **environment: str) -> subprocess.Popen[bytes]:
    arguments = ["run", *TASKS, "--data", str(setup.folder / "data"), "--out", str(setup.folder / name)]
    arguments += ["--device", device, "--precision", precision]
    return start_blipbench(arguments, setup.folder / f"{name}.txt", **environment)


def compare(setup: Setup, task: str, precision: str) -> Record:
    name = f"{task} {precision}"
    ours, plain = read_run(setup, precision, task), read_run(setup, PLAIN, task)
    if ours is None or plain is None:
        missing = PLAIN if plain is None else precision
        lines = last_lines(setup.folder / f"{missing}.txt", ERROR_LINES)
        return Record(name, (f"{name}: no result of {missing}", *lines), {"error": lines}, ok=False)
    result, count = ours.result, len(plain.outcomes)
    changed = int((ours.outcomes != plain.outcomes).sum())
    cpu, found = ({key: metric.value for key, metric in run.result.metrics.items()} for run in (plain, ours))
    accuracy = ACCURACY.get(result.task.protocol)
    if accuracy in found and accuracy in cpu:
        ok = abs(found[accuracy] - cpu[accuracy]) <= 100 * ALLOWED_SAMPLES / count + 1e-9
    else:
        ok = changed <= max(ALLOWED_SAMPLES, ALLOWED_SHARE * count)
    shown = [key for key in load_task(task).headline if key in found and key in cpu]
    values = ", ".join(f"{key} {found[key]:.2f} (CPU {cpu[key]:.2f})" for key in shown)
    line = f"{name:<22}{result.timing.total_seconds:7.1f} s  {values or 'no metrics without Java'}; "
    line += f"{changed} of {count} outcomes changed"
    figures = {
        "task": task,
        "precision": precision,
        "status": result.status,
        "seconds": result.timing.total_seconds,
        "stages": [stage.model_dump() for stage in result.timing.stages],
        "metrics": found,
        "cpu_metrics": cpu,
        "self_check": result.self_check.model_dump(),
        "changed": changed,
        "outcomes": count,
    }
    ok = ok and result.status == "complete"
    return Record(name, (line if ok else f"{line}: differs, {result.status}",), figures, ok)


def read_run(setup: Setup, name: str, task: str) -> Finished | None:
    found = sorted((setup.folder / name / task).glob("*/result.json"))
    if not found:
        return None
    result = read_result(found[0])
    samples = {
        stage.name: pq.read_table(found[0].parent / "samples" / f"{stage.name}.parquet")
        for stage in result.timing.stages
    }
    return Finished(result, outcomes_of(result.task.protocol, samples))


def outcomes_of(protocol: str, samples: dict[str, pa.Table]) -> npt.NDArray[Any]:
    if protocol == "retrieval":
        _, ranks = rank_samples(samples)
        return np.concatenate([ranks.text_rank, ranks.image_rank])
    (table,) = samples.values()
    if protocol == "captioning":
        return np.array(table.sort_by("image_id").column("caption").to_pylist())
    rows = table.sort_by("index")
    if protocol == "vqa":
        return np.array(rows.column("answer").to_pylist())
    return np.array(rows.column("logits").to_pylist()).argmax(1)  # NLVR2's true or false
