"""The log of a training: what a line says, and what a damaged one leads to."""

import json
from pathlib import Path

import pytest
import torch

from blipbench.errors import BlipbenchError
from blipbench.training.log import EvaluationLine, MetricsLog, StepLine, plot_metrics, read_metrics
from blipbench.training.state import TrainingState

LINE = '{"step": 5, "epoch": 0, "lr": 0.001, "itm": 0.7, "images_per_second": 8.0, "seconds": 1.5}\n'
EVALUATION = '{"step": 5, "metric": "TR@1", "value": 31.0, "seconds": 2.5}\n'


def log(folder: Path, resumed: TrainingState | None = None, evaluated: tuple[int, ...] = ()) -> MetricsLog:
    return MetricsLog(folder, 3, 4, resumed=resumed, evaluated=evaluated, enabled=True)


def saved(log: MetricsLog, step: int) -> TrainingState:
    losses, steps = log.sums()
    return TrainingState(model={}, moments={}, step=step, rng=[], losses=losses, loss_steps=steps)


def add(log: MetricsLog, steps: range) -> None:
    for step in steps:
        log.add(step, 0, 1e-3, {"itm": torch.tensor(0.1) * step, "lm": torch.tensor(1.0) / step})


def means(folder: Path) -> list[tuple[int, dict[str, float]]]:
    return [(line.step, line.losses) for line in read_metrics(folder / "metrics.jsonl") if isinstance(line, StepLine)]


def test_a_line_has_the_mean_of_each_loss_since_the_one_before(tmp_path: Path) -> None:
    add(log(tmp_path), range(1, 8))
    steps, losses = zip(*means(tmp_path), strict=True)
    assert steps == (3, 6)
    assert [loss["itm"] for loss in losses] == pytest.approx([0.2, 0.5])
    assert losses[1]["lm"] == pytest.approx((1 / 4 + 1 / 5 + 1 / 6) / 3)


@pytest.mark.parametrize("ended", range(1, 9))
def test_a_run_resumed_in_mid_window_logs_what_an_undisturbed_one_logs(tmp_path: Path, ended: int) -> None:
    whole = tmp_path / "whole"
    add(log(whole), range(1, 10))
    parts = tmp_path / "parts"
    first = log(parts)
    add(first, range(1, ended + 1))
    state = saved(first, ended)
    add(first, range(ended + 1, 10))  # goes on, and is killed
    add(log(parts, state), range(ended + 1, 10))
    assert means(parts) == means(whole)


def test_an_evaluation_between_two_lines_takes_nothing_from_the_mean(tmp_path: Path) -> None:
    undisturbed, other = log(tmp_path / "a"), log(tmp_path / "b")
    add(undisturbed, range(1, 4))
    add(other, range(1, 3))
    other.evaluated(2, "TR@1", 50.0)
    other.restart_clock()
    add(other, range(3, 4))
    assert means(tmp_path / "a") == means(tmp_path / "b")


def test_a_resume_drops_an_evaluation_that_it_does_again(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text(LINE + EVALUATION)
    log(tmp_path, saved(log(tmp_path / "other"), 5), evaluated=(5,))
    assert (tmp_path / "metrics.jsonl").read_text() == LINE + EVALUATION
    log(tmp_path, saved(log(tmp_path / "other"), 5))
    assert (tmp_path / "metrics.jsonl").read_text() == LINE


def test_half_a_line_that_a_kill_left_is_left_out(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    file.write_text(LINE + EVALUATION + LINE[:40])
    step, evaluation = read_metrics(file)
    assert isinstance(step, StepLine) and step.losses == {"itm": 0.7}
    assert isinstance(evaluation, EvaluationLine) and evaluation.value == 31


@pytest.mark.parametrize(
    "damage",
    [
        "{\n",
        "\n",
        "[]\n",
        "{}\n",
        LINE.replace("5", '"x"', 1),
        LINE.replace("5", "-5", 1),
        LINE.replace("0.7", "null"),
        LINE.replace("5", "1" * 400, 1),
        "[" * 99999 + "\n",
        "\0\n",
    ],
)
def test_a_damaged_log_is_refused_with_the_way_out(tmp_path: Path, damage: str) -> None:
    file = tmp_path / "metrics.jsonl"
    file.write_text(LINE + damage + LINE)
    with pytest.raises(BlipbenchError, match=r"metrics\.jsonl: line 2 is not .*delete the file.*--fresh"):
        read_metrics(file)


def test_text_that_is_no_utf_8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_bytes(LINE.encode("utf-16"))
    with pytest.raises(BlipbenchError, match=r"metrics\.jsonl: line 1 is not"):
        log(tmp_path)


def test_a_log_that_cannot_be_written_is_an_error_that_names_it(tmp_path: Path) -> None:
    """/dev/full is a disk without room."""
    running = log(tmp_path)
    (tmp_path / "metrics.jsonl").unlink()
    (tmp_path / "metrics.jsonl").symlink_to("/dev/full")
    with pytest.raises(BlipbenchError, match=r"metrics\.jsonl could not be written: No space left.*--resume"):
        add(running, range(1, 4))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("value", ["NaN", "Infinity", "1e308", "-1e308", "1e-320"])
def test_extreme_losses_are_plotted(tmp_path: Path, value: str) -> None:
    (tmp_path / "metrics.jsonl").write_text(LINE.replace("0.7", value) + LINE.replace("5", "6", 1) + EVALUATION)
    plot_metrics(tmp_path / "metrics.jsonl", tmp_path / "plot.png", "losses")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_an_empty_log_is_plotted(tmp_path: Path) -> None:
    plot_metrics(tmp_path / "metrics.jsonl", tmp_path / "plot.png", "nothing")
    assert json.dumps(read_metrics(tmp_path / "metrics.jsonl")) == "[]"
