"""A run in bf16 on a CPU that is slower in it is told so."""

from pathlib import Path

import pytest
from command_line import blipbench, golden_arguments
from forked import run_forked

from blipbench.evaluation import run


def test_bf16_on_a_processor_without_its_products_names_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "bf16_slowdown", lambda: 7.1)
    reason = run.slow_precision("cpu", "bf16")
    assert reason is not None
    assert reason.startswith("bf16 takes 7.1 times as long as fp32 on this processor")
    assert "fp32 (without --amp) is the faster" in reason


def test_bf16_on_a_processor_with_its_products_is_no_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "bf16_slowdown", lambda: 0.5)
    assert run.slow_precision("cpu", "bf16") is None


def test_fp32_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "bf16_slowdown", lambda: 7.1)
    assert run.slow_precision("cpu", "fp32") is None


def test_a_run_says_so_once_whatever_the_number_of_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "bf16_slowdown", lambda: 7.1)
    arguments = golden_arguments(tmp_path)
    done = blipbench("run", "retrieval_shapes", *arguments[1:], "--amp")
    assert done.output.count("warning: bf16 takes 7.1 times as long") == 1


def test_a_device_that_there_is_not_ends_every_rank(tmp_path: Path) -> None:
    ended = run_forked([*golden_arguments(tmp_path, device="tpu"), "--amp"], ranks=2)
    assert [rank.exit_code for rank in ended] == [2, 2]
    assert sum("--device tpu" in rank.output for rank in ended) == 1
