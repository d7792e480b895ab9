"""The log of a training: metrics.jsonl, TensorBoard if it is installed, and a plot at the end.

A line of metrics.jsonl is one logged step: step, epoch, lr, the mean of each loss (rank 0's) over the steps since the
logged step before, the examples a second of all ranks, and the seconds since the process began. An evaluation is a line
with `metric` and `value`. A resume removes the lines of the steps that it does again, and has the losses since the last
logged step from the saved state, so it logs what an undisturbed run logs.
"""

import importlib.util
import json
import time
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from torch import Tensor

from blipbench.errors import BlipbenchError
from blipbench.files import write_whole
from blipbench.training.state import TrainingState

Count: TypeAlias = Annotated[int, Field(ge=0, lt=2**53)]  # what a plot can show


class StepLine(BaseModel):
    """A logged step. All other fields are losses."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, float]
    step: Count
    epoch: Count
    lr: float
    images_per_second: float
    seconds: float

    @property
    def losses(self) -> dict[str, float]:
        return self.__pydantic_extra__


class EvaluationLine(BaseModel):
    model_config = ConfigDict(extra="forbid")
    step: Count
    metric: str
    value: float
    seconds: float


Line: TypeAlias = StepLine | EvaluationLine
_LINE: TypeAdapter[Line] = TypeAdapter(Line)


class MetricsLog:
    """Written by rank 0 alone; the others pass `enabled` False. `every` steps make a line."""

    def __init__(
        self,
        folder: Path,
        every: int,
        examples_per_step: int,
        *,
        resumed: TrainingState | None,
        evaluated: Collection[int],
        enabled: bool,
    ) -> None:
        """`resumed` is the state that the run starts from; `evaluated` are the steps whose evaluation is done.

        Raises BlipbenchError if the existing log is damaged, or if it cannot be written.
        """
        self._file = folder / "metrics.jsonl"
        self._every = every
        self._examples = examples_per_step
        self._enabled = enabled
        self._sums = dict(resumed.losses) if resumed else {}
        self._steps = resumed.loss_steps if resumed else 0
        self._timed_steps = 0
        self._began = self._last = time.perf_counter()
        self._board: Any = None
        if not enabled:
            return
        resumed_at = resumed.step if resumed else 0
        kept = [
            text + b"\n"
            for text, line in _whole_lines(self._file)
            if line.step <= resumed_at and (isinstance(line, StepLine) or line.step in evaluated)
        ]
        write_whole(self._file, lambda temporary: temporary.write_bytes(b"".join(kept)))
        if importlib.util.find_spec("tensorboard") is not None:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=resumed_at)

    def add(self, step: int, epoch: int, lr: float, losses: dict[str, Tensor]) -> None:
        """Add the losses of step number `step`, from 1. They stay on their device until a line is written."""
        if not self._enabled:
            return
        for name, loss in losses.items():
            self._sums[name] = self._sums[name] + loss if name in self._sums else loss
        self._steps += 1
        self._timed_steps += 1
        if step % self._every == 0:
            means = {name: float(total) / self._steps for name, total in self._sums.items()}
            rate = self._timed_steps * self._examples / (time.perf_counter() - self._last)
            self._write(step, {"epoch": epoch, "lr": lr, **means, "images_per_second": rate})
            self._sums, self._steps = {}, 0
            self.restart_clock()

    def sums(self) -> tuple[dict[str, Tensor], int]:
        """The losses since the last logged step, each summed, on the CPU; and the number of these steps."""
        return {name: total.cpu() for name, total in self._sums.items()}, self._steps

    def evaluated(self, step: int, metric: str, value: float) -> None:
        self._write(step, {"metric": metric, "value": value})

    def restart_clock(self) -> None:
        """Do not count the time since the last step as training."""
        self._timed_steps, self._last = 0, time.perf_counter()

    def _write(self, step: int, values: dict[str, Any]) -> None:
        if not self._enabled:
            return
        line = {"step": step, **values, "seconds": time.perf_counter() - self._began}
        try:
            with self._file.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:
            raise BlipbenchError(
                f"{self._file} could not be written: {error.strerror or error}; the run's checkpoints are kept. Make "
                "room and add --resume"
            ) from error
        if self._board is not None:
            for name, value in values.items():
                if isinstance(value, float):
                    self._board.add_scalar(values["metric"] if name == "value" else name, value, step)


def read_metrics(file: Path) -> list[Line]:
    """The lines of the log, none if there is no file. A last line that was cut off by a kill is left out.

    Raises BlipbenchError if the file is damaged in any other way.
    """
    return [line for _, line in _whole_lines(file)]


def _whole_lines(file: Path) -> list[tuple[bytes, Line]]:
    if not file.exists():
        return []
    lines: list[tuple[bytes, Line]] = []
    try:
        *whole, _ = file.read_bytes().split(b"\n")
        for text in whole:
            lines.append((text, _LINE.validate_json(text)))
    except ValidationError as error:
        found = error.errors()[0]["msg"]
        raise BlipbenchError(
            f"{file}: line {len(lines) + 1} is not a line of a training log ({found}); delete the file, which loses "
            "only the log, and add --resume, or use --fresh to start over"
        ) from error
    except OSError as error:
        raise BlipbenchError(f"{file}: cannot be read ({error.strerror or error})") from error
    return lines


def plot_metrics(file: Path, out: Path, title: str) -> None:
    """Losses, learning rate and the evaluations' metric over the steps, as a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    lines = read_metrics(file)
    steps = [line for line in lines if isinstance(line, StepLine)]
    evaluations = [line for line in lines if isinstance(line, EvaluationLine)]
    losses = list(steps[0].losses) if steps else []
    figure = Figure(figsize=(8, 3 * (2 + bool(evaluations))), layout="constrained")
    axes = figure.subplots(2 + bool(evaluations), sharex=True)
    for name in losses:
        of_loss = [(line.step, line.losses[name]) for line in steps if name in line.losses]
        axes[0].plot(*zip(*of_loss, strict=True), label=name)
    axes[0].set(title=title, ylabel="loss")
    if losses:
        axes[0].legend()
    axes[1].plot([line.step for line in steps], [line.lr for line in steps])
    axes[1].set(ylabel="learning rate")
    if evaluations:
        axes[2].plot([line.step for line in evaluations], [line.value for line in evaluations], marker="o")
        axes[2].set(ylabel=evaluations[0].metric)
    axes[-1].set(xlabel="step")
    write_whole(out, lambda temporary: figure.savefig(temporary, format="png", dpi=120))
