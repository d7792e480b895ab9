"""What a run says of itself: metrics.jsonl, TensorBoard where it is installed, and a picture at the end.

A line of metrics.jsonl is one logged step: step, epoch, lr, the mean of each loss since the line before (rank 0's), the
examples a second of all ranks, and the seconds since the process began. An evaluation is a line with `metric` and
`value`. Lines of steps that a resume does again are removed first.
"""

import contextlib
import importlib.util
import json
import time
from pathlib import Path
from typing import Any

from torch import Tensor

from blipbench.files import write_whole


class MetricsLog:
    """Written by rank 0 alone; the others pass `enabled` False. `every` steps make a line."""

    def __init__(self, folder: Path, every: int, examples_per_step: int, *, resumed_at: int, enabled: bool) -> None:
        self._file = folder / "metrics.jsonl"
        self._every = every
        self._examples = examples_per_step
        self._enabled = enabled
        self._sums: dict[str, Tensor] = {}
        self._steps = 0
        self._began = self._last = time.perf_counter()
        self._board: Any = None
        if not enabled:
            return
        kept = [line for line in read_metrics(self._file) if line["step"] <= resumed_at]
        text = "".join(json.dumps(line) + "\n" for line in kept)
        write_whole(self._file, lambda temporary: temporary.write_text(text, encoding="utf-8"))
        if importlib.util.find_spec("tensorboard") is not None:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=resumed_at)

    def add(self, step: int, epoch: int, lr: float, losses: dict[str, Tensor]) -> None:
        """Step number `step`, from 1, is done. The losses stay on their device until a line is due."""
        if not self._enabled:
            return
        for name, loss in losses.items():
            self._sums[name] = self._sums[name] + loss if name in self._sums else loss
        self._steps += 1
        if step % self._every == 0:
            means = {name: float(total) / self._steps for name, total in self._sums.items()}
            now = time.perf_counter()
            rate = self._steps * self._examples / (now - self._last)
            self._write(step, {"epoch": epoch, "lr": lr, **means, "images_per_second": rate})
            self.restart()

    def evaluated(self, step: int, metric: str, value: float) -> None:
        self._write(step, {"metric": metric, "value": value})

    def restart(self) -> None:
        """Forget what was added since the last line: the time that went by was not training."""
        self._sums, self._steps, self._last = {}, 0, time.perf_counter()

    def _write(self, step: int, values: dict[str, Any]) -> None:
        if not self._enabled:
            return
        line = {"step": step, **values, "seconds": time.perf_counter() - self._began}
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        if self._board is not None:
            for name, value in values.items():
                if isinstance(value, float):
                    self._board.add_scalar(values["metric"] if name == "value" else name, value, step)


def read_metrics(file: Path) -> list[dict[str, Any]]:
    """The lines that are whole: a kill may leave half of the last one."""
    lines = []
    for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else []:
        with contextlib.suppress(json.JSONDecodeError):
            lines.append(json.loads(line))
    return lines


def plot_metrics(file: Path, out: Path, title: str) -> None:
    """Losses, learning rate and the evaluations' metric over the steps, as a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    lines = read_metrics(file)
    steps = [line for line in lines if "lr" in line]
    evaluations = [line for line in lines if "metric" in line]
    losses = [name for name in (steps[0] if steps else {}) if name not in _NOT_LOSSES]
    figure = Figure(figsize=(8, 3 * (2 + bool(evaluations))), layout="constrained")
    axes = figure.subplots(2 + bool(evaluations), sharex=True)
    for name in losses:
        axes[0].plot([line["step"] for line in steps], [line[name] for line in steps], label=name)
    axes[0].set(title=title, ylabel="loss")
    if losses:
        axes[0].legend()
    axes[1].plot([line["step"] for line in steps], [line["lr"] for line in steps])
    axes[1].set(ylabel="learning rate")
    if evaluations:
        axes[2].plot([line["step"] for line in evaluations], [line["value"] for line in evaluations], marker="o")
        axes[2].set(ylabel=evaluations[0]["metric"])
    axes[-1].set(xlabel="step")
    write_whole(out, lambda temporary: figure.savefig(temporary, format="png", dpi=120))


_NOT_LOSSES = ("step", "epoch", "lr", "images_per_second", "seconds")
