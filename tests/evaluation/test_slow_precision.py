"""A run in bf16 on a CPU that is slower in it is told so."""

import pytest

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
