"""Prints a result in the terminal: the metrics beside the published row, then the time per stage.

Takes a `Result` (the content of `result.json`) and prints text on stdout. There is no colour if stdout is not a
terminal or NO_COLOR is set. Without a terminal the width is 80 columns.
"""

import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from blipbench.config.task import Task
from blipbench.config.tasks import load_task
from blipbench.errors import UsageError
from blipbench.evaluation.result import MANY_UNKNOWN, DataRecord, MetricValue, Result, StageRecord
from blipbench.reporting.published import PublishedRow, published_row

_SHOWN_FAILURES = 10
_STATUS_STYLE = {"complete": "green", "incomplete": "yellow", "suspect": "bold red"}


def print_result(result: Result, tasks_dir: Path | None = None) -> None:
    """Print a result, with the caveats of its task and the published figures."""
    try:
        task = load_task(result.task.name, tasks_dir)
    except UsageError:  # the file of a user's task is not available here; the result still has the figures
        task = None
    published = None
    if task is not None:
        published = published_row(task.name, task.published_task, result.model.file, result.model.size)
    render_result(result, task, published, result_console())


def result_console(stream: TextIO | None = None) -> Console:
    """A console on stdout or `stream`, without markup, because names may contain brackets."""
    return Console(file=stream or sys.stdout, markup=False, highlight=False, emoji=False)


def render_result(result: Result, task: Task | None, published: PublishedRow | None, console: Console) -> None:
    """Print the whole result. Without `task`, its caveats and its default settings are unknown."""
    console.print()
    _say(console, result.task.title, "bold")
    if result.metrics:  # empty for a test split whose answers are not public
        console.print(_metrics_table(result, published))
    for line in _caption(result):
        _say(console, line, "dim")
    if published is not None:
        _say(console, f"published: {published.label}", "dim")
        if reasons := incomparable(result, task):
            _say(console, f"{', '.join(reasons)}: not comparable with the published row", "yellow")
    for note in result.notes:
        _say(console, f"note: {note}", "yellow")
    for caveat in (*(task.caveats if task else ()), *(published.caveats if published else ())):
        _say(console, f"note: {caveat}", "dim")
    for note in _data_notes(result.data):
        _say(console, note, "yellow")
    console.print(_timing_table(result))
    _say(console, _footprint(result), "dim")
    _say(console, _self_check(result), "bold red" if result.self_check.suspect else "")
    for line in _unfinished(result):
        _say(console, line, _STATUS_STYLE[result.status])


def incomparable(result: Result, task: Task | None) -> list[str]:
    """Why the figures are not comparable with a published row, e.g. "limit 100 of 5,000 images"; empty if they are."""
    reasons = []
    if result.data.limited_from is not None:
        reasons.append(f"limit {_images(result):,} of {result.data.limited_from:,} images")
    if result.units.failed:
        reasons.append(f"{result.units.failed:,} units failed")
    if result.task.split != (task.data.split if task else "test"):
        reasons.append(f"split {result.task.split}")
    if task is not None:
        used = {**result.task.settings, "image_size": result.model.image_size}
        own = {**task.settings.model_dump(), "max_words": task.data.max_words, "image_size": task.model.image_size}
        reasons += [f"{key} {used[key]} instead of {own[key]}" for key in own if key in used and used[key] != own[key]]
    return reasons


def _images(result: Result) -> int:
    """The number of items that --limit counts: the first entry of the data's counts."""
    return next(iter(result.data.counts.values()))


def _metrics_table(result: Result, published: PublishedRow | None) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("metric")
    table.add_column("value", justify="right")
    table.add_column("95% interval", justify="center")
    if published is not None:
        table.add_column("published", justify="right")
    for name, metric in result.metrics.items():
        row = [name, f"{metric.value:.2f}", interval_text(metric)]
        if published is not None:
            row.append(f"{published.metrics[name]:.1f}" if name in published.metrics else "-")
        table.add_row(*row, style="bold" if name == result.main_metric else None)
    return table


def interval_text(metric: MetricValue) -> str:
    """ "low .. high", or a dash if there is no interval."""
    return "-" if metric.low is None or metric.high is None else f"{metric.low:.2f} .. {metric.high:.2f}"


def _caption(result: Result) -> Iterator[str]:
    model = result.model
    yield f"checkpoint {model.file} (sha256 {model.sha256[:12]}), {model.parameters / 1e6:,.1f} M parameters"
    settings = ", ".join(f"{key} {'none' if value == '' else value}" for key, value in result.task.settings.items())
    data = result.data
    counts = ", ".join(f"{count:,} {what}" for what, count in data.counts.items())
    whole = f", limited to {_images(result):,} of {data.limited_from:,}" if data.limited_from is not None else ""
    yield f"{counts} ({result.task.split}{whole}); {settings}"
    environment = result.environment
    processes = f", {environment.world_size} processes" if environment.world_size > 1 else ""
    ways = dict.fromkeys(environment.cpu_products.values())
    products = f", products by {' and '.join(ways)}" if ways else f", attention by {environment.attention}"
    yield f"{environment.precision} on {environment.device}, {environment.threads} threads{processes}{products}"


def _data_notes(data: DataRecord) -> Iterator[str]:
    if data.unknown_tokens > MANY_UNKNOWN:
        yield (
            f"warning: {data.unknown_tokens:.0%} of the texts' tokens are not in the model's vocabulary ([UNK]); "
            "the model cannot distinguish such texts"
        )
    if data.turned_images and not data.upright:
        yield f"note: {data.turned_images:,} images have an EXIF orientation, which is ignored, as in the reference"


def _timing_table(result: Result) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("stage")
    for heading in ("done", "seconds", "per second", "TFLOP/s", "of peak"):
        table.add_column(heading, justify="right")
    peak = result.timing.peak_flops * result.environment.world_size
    for stage in result.timing.stages:
        table.add_row(*_stage_row(stage, peak))
    table.add_row("all", "", f"{result.timing.total_seconds:,.1f}", "", "", "", style="dim")
    return table


def _stage_row(stage: StageRecord, peak: float) -> list[str]:
    items = f"{stage.items:,} {stage.noun}"
    if stage.reused_items:
        items += f" (+{stage.reused_items:,} resumed)"
    if not (stage.items and stage.seconds > 0):
        return [stage.name, items, f"{stage.seconds:,.1f}", "-", "-", "-"]
    rate = stage.flops / stage.seconds
    share = f"{rate / peak:.0%}" if peak > 0 else "-"
    return [
        stage.name,
        items,
        f"{stage.seconds:,.1f}",
        _three_digits(stage.items / stage.seconds),
        _three_digits(rate / 1e12),
        share,
    ]


def _three_digits(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _footprint(result: Result) -> str:
    parts = [f"peak memory {result.memory.peak_rss_bytes / 2**30:.2f} GiB"]
    if result.memory.peak_device_bytes:
        parts.append(f"{result.memory.peak_device_bytes / 2**30:.2f} GiB on the device")
    peak = result.timing.peak_flops / 1e12
    if (waited := sum(stage.waited_seconds for stage in result.timing.stages)) >= 0.1:
        parts.append(f"the device waited {waited:,.1f} s for images")
    return f"{', '.join(parts)}; peak is the measured matmul rate, {peak:.3g} TFLOP/s per device"


def _self_check(result: Result) -> str:
    check = result.self_check
    deviation = "not a number" if check.deviation is None else f"{check.deviation:.1e}"
    verdict = "SUSPECT, the fast scores are too far from the plain ones; " if check.suspect else ""
    return (
        f"{verdict}self-check: {check.compared} {check.noun} recomputed in plain fp32: largest deviation {deviation} "
        f"(bound {check.bound:.0e}), {check.changed} of {check.checked} {check.outcome} changed"
    )


def _unfinished(result: Result) -> Iterator[str]:
    """The failed units, one per line; nothing for a complete run."""
    units = result.units
    if result.status != "incomplete" and not result.failures:
        return
    yield f"{result.status}: {units.done:,} of {units.expected:,} units done, {units.failed:,} failed"
    for failure in result.failures[:_SHOWN_FAILURES]:
        yield f"- {failure.stage} {failure.unit}: {failure.error}"
    if (more := len(result.failures) - _SHOWN_FAILURES) > 0:
        yield f"- and {more:,} more in result.json"


def _say(console: Console, line: str, style: str = "") -> None:
    """Print a paragraph indented like the tables. Lines break only between words, so that paths can be copied."""
    folded = textwrap.wrap(
        line, console.width, initial_indent="  ", subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )
    for part in folded:
        console.print(Text(part, style=style), soft_wrap=True)
