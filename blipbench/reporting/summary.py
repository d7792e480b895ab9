"""Several results in one table and one plot: each task's headline metrics, with intervals and published figures.

Takes folders of runs. Prints a table on stdout and writes a PNG with the same figures.
"""

import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from blipbench.config.tasks import load_task
from blipbench.errors import DataError, UsageError
from blipbench.evaluation.result import MetricValue, Result, read_result
from blipbench.files import write_bytes
from blipbench.reporting.published import published_row
from blipbench.reporting.terminal import incomparable, interval_text


@dataclass(frozen=True)
class Figure:
    """One line of the table. `published` is None if there is no published figure or it is not comparable."""

    task: str
    setting: str  # what the run changed in the task, e.g. "rerank none"
    model: str
    metric: str
    value: MetricValue
    published: float | None
    status: str


@dataclass(frozen=True)
class Damaged:
    """A result.json that cannot be read, and why."""

    file: Path
    error: str


def find_results(folders: Sequence[Path], others: bool = False) -> list[Result | Damaged]:
    """The results of runs, or of all runs below a folder, in the order given.

    Raises UsageError if a folder has none, unless it has `others`, such as profiles.
    """
    results: list[Result | Damaged] = []
    for folder in folders:
        own = folder / "result.json"
        files = [own] if own.exists() else sorted(folder.rglob("result.json"), key=lambda file: file.stat().st_mtime)
        if not files and not others:
            raise UsageError(
                f"{folder}: found no result.json in this folder or below it; use a folder that `blipbench run` wrote"
            )
        results += [_read(file) for file in files]
    return results


def _read(file: Path) -> Result | Damaged:
    try:
        return read_result(file)
    except DataError as error:
        return Damaged(file, str(error))


def figures(results: Sequence[Result], tasks_dir: Path | None = None) -> list[Figure]:
    """The lines of the table: the headline metrics of each result's task (default: its main metric)."""
    lines = []
    for result in results:
        try:
            task = load_task(result.task.name, tasks_dir)
        except UsageError:  # the file of a user's task is not available here
            task = None
        row = task and published_row(task.name, task.published_task, result.model.file, result.model.size)
        reasons = incomparable(result, task)
        names = [name for name in (task.headline if task else ()) if name in result.metrics]
        for name in names or [name for name in [result.main_metric] if name in result.metrics]:
            published = row.metrics.get(name) if row and not reasons else None
            value, setting = result.metrics[name], ", ".join(reasons)
            lines.append(Figure(result.task.name, setting, result.model.name, name, value, published, result.status))
    return lines


def as_records(lines: Sequence[Figure], damaged: Sequence[Damaged]) -> list[dict[str, Any]]:
    """The lines as JSON-compatible records, followed by the files that cannot be read."""
    figures = [
        {**asdict(line), "value": line.value.value, "low": line.value.low, "high": line.value.high} for line in lines
    ]
    return figures + [{"file": str(one.file), "error": one.error} for one in damaged]


def print_figures(lines: Sequence[Figure], console: Console) -> None:
    """Print the table. Task and model are shown only on the first line of each run."""
    table = Table(box=box.SIMPLE_HEAD)
    for heading, justify in (("task", "left"), ("model", "left"), ("metric", "left"), ("value", "right")):
        table.add_column(heading, justify=justify, overflow="fold")  # type: ignore[arg-type]
    table.add_column("95% interval", justify="center", overflow="fold")
    published = any(line.published is not None for line in lines)
    if published:
        table.add_column("published", justify="right", overflow="fold")
    before = ("", "", "")
    for line in lines:
        run = (line.task, line.setting, line.model)
        name = f"{line.task}, {line.setting}" if line.setting else line.task
        cells = ["", ""] if run == before else [name, line.model]
        cells += [line.metric, f"{line.value.value:.2f}", interval_text(line.value)]
        if published:
            cells.append("-" if line.published is None else f"{line.published:.1f}")
        table.add_row(*cells, style=None if line.status == "complete" else "yellow")
        before = run
    console.print(table)
    for name in dict.fromkeys(line.task for line in lines if line.status != "complete"):
        console.print(f"  {name} is not complete; see its result.json", style="yellow")


def plot_figures(lines: Sequence[Figure], out: Path) -> None:
    """Write a PNG with one bar per line of the table, its interval and the published figure.

    Raises BlipbenchError if it cannot be written.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(8, 1 + 0.32 * len(lines)), layout="constrained")
    axes = canvas.subplots()
    names = list(dict.fromkeys(line.task for line in lines))
    for place, line in enumerate(lines):
        value, low, high = line.value.value, line.value.low, line.value.high
        colour = f"C{names.index(line.task) % 10}"
        around = None if low is None or high is None else [[max(0, value - low)], [max(0, high - value)]]
        axes.barh(
            place, value, color=colour, alpha=0.55 if line.setting else 0.9, xerr=around, ecolor="0.25", capsize=2
        )
        if line.published is not None:
            axes.plot(line.published, place, marker="D", color="black", markersize=5)
        axes.annotate(
            f"{value:.1f}", (max(value, high or value), place), (4, 0), va="center", textcoords="offset points"
        )
    axes.set_yticks(range(len(lines)), [" ".join(filter(None, (x.task, x.setting, x.metric))) for x in lines])
    axes.invert_yaxis()
    axes.set_xlim(left=0)
    axes.margins(x=0.1)
    axes.spines[["top", "right"]].set_visible(False)
    if any(line.published is not None for line in lines):
        axes.set_xlabel("value with its 95% interval; a diamond marks the published figure")
    else:
        axes.set_xlabel("value with its 95% interval")
    picture = io.BytesIO()
    canvas.savefig(picture, format="png", dpi=120)
    write_bytes(out, picture.getvalue(), "Choose another --plot")
