"""The progress of a stage on stderr: a bar on a terminal, a line at regular intervals in a log file.

    with stage_progress("rerank", "pairs", total=48_000, already=12_000) as advance:
        advance(640)

Only rank 0 of a distributed run passes `enabled=True`.
"""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

Advance = Callable[[int], None]


def stage_progress(
    name: str,
    noun: str,
    total: int,
    already: int = 0,
    enabled: bool = True,
    *,
    stream: TextIO | None = None,
    clock: Callable[[], float] = time.monotonic,
    every: float = 10.0,
) -> contextlib.AbstractContextManager[Advance]:
    """A context that yields `advance(n)`; call it when `n` more items are done.

    An earlier run did `already` items; they do not affect the rate and the estimate of the remaining time. If `stream`
    (default: stderr) is not a terminal, a line is printed at the start, every `every` seconds and at the end.
    """
    stream = stream or sys.stderr
    if not enabled:
        return contextlib.nullcontext(_ignore)
    if stream.isatty():
        return _bar(name, noun, total, already, stream)
    return _lines(name, noun, total, already, stream, clock, every)


class CountedProgress(contextlib.AbstractContextManager["CountedProgress"]):
    """A stage whose total is known only at the first call: call `progress(done, total)` with running counts.

    For downloads and checks, which count their own items. `total` is None if the total is unknown.
    """

    def __init__(self, name: str, noun: str, enabled: bool = True) -> None:
        self._name, self._noun, self._enabled = name, noun, enabled
        self._stack = contextlib.ExitStack()
        self._advance: Advance | None = None
        self._done = 0

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def __call__(self, done: int, total: int | None) -> None:
        if self._advance is None:
            stage = stage_progress(self._name, self._noun, total or 0, enabled=self._enabled)
            self._advance = self._stack.enter_context(stage)
        self._advance(done - self._done)
        self._done = done


def _ignore(items: int) -> None:
    """The `advance` of a rank that shows no progress."""


class _DoneColumn(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.completed:,.0f}/{task.total or 0:,.0f} {task.fields['noun']}", style="progress.download")


class _RateColumn(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{_rate(speed)} {task.fields['noun']}/s", style="progress.data.speed")


@contextlib.contextmanager
def _bar(name: str, noun: str, total: int, already: int, stream: TextIO) -> Iterator[Advance]:
    columns = (TextColumn("{task.description}"), BarColumn(), _DoneColumn(), _RateColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(file=stream, markup=False)) as progress:
        task = progress.add_task(name, total=total, completed=already, noun=noun)
        yield lambda items: progress.advance(task, items)


@contextlib.contextmanager
def _lines(
    name: str, noun: str, total: int, already: int, stream: TextIO, clock: Callable[[], float], every: float
) -> Iterator[Advance]:
    def say(text: str) -> None:
        print(f"{name}: {text}", file=stream, flush=True)

    start = last = clock()
    done = already

    def advance(items: int) -> None:
        nonlocal done, last
        done += items
        if (now := clock()) - last >= every:
            last = now
            rate = (done - already) / (now - start)
            left = f", {_duration((total - done) / rate)} left" if rate > 0 else ""
            say(f"{done:,}/{total:,} {noun}, {_rate(rate)} {noun}/s{left}")

    say(f"{total:,} {noun}" + (f", {already:,} of them already done" if already else ""))
    outcome = "stopped at"
    try:
        yield advance
        outcome = "done,"
    finally:
        seconds = clock() - start
        rate = (done - already) / seconds if seconds > 0 else 0.0
        say(f"{outcome} {done:,}/{total:,} {noun} in {_duration(seconds)}, {_rate(rate)} {noun}/s")


def _rate(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h {minutes:02d}m"
    return f"{minutes}m {rest:02d}s" if minutes else f"{seconds:.1f}s"
