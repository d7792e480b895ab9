"""Learning rates and alpha by the reference's formulas, worked out by hand."""

from pathlib import Path
from typing import Any

import pytest
from training_runs import spec

from blipbench.training.schedule import Plan, learning_rate, soft_target_weight

PLAN = Plan(steps_per_epoch=10, total_steps=40)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (
            {"schedule": "cosine_per_epoch", "lr": 1.0, "min_lr": 0.2},
            # 0.8 * (1 + cos(pi * epoch / 4)) / 2 + 0.2, the same in all of an epoch
            {0: 1.0, 9: 1.0, 10: 0.882843, 19: 0.882843, 20: 0.6, 30: 0.317157, 39: 0.317157},
        ),
        (
            {
                "schedule": "step_decay",
                "lr": 1.0,
                "min_lr": 0.75,
                "decay_rate": 0.9,
                "warmup_steps": 5,
                "warmup_lr": 0.1,
            },
            # 0.1 + 0.9 * step / 5 in the first epoch, then 0.9 ** epoch, not under 0.75
            {0: 0.1, 1: 0.28, 5: 1.0, 9: 1.0, 10: 0.9, 20: 0.81, 30: 0.75},
        ),
        (
            {"schedule": "step_decay", "lr": 1.0, "decay_rate": 0.9, "warmup_steps": 100, "warmup_lr": 0.0},
            # a warm-up longer than the first epoch ends with it, as the reference's does
            {9: 0.09, 10: 0.9},
        ),
        (
            {"schedule": "cosine_per_step", "lr": 1.0, "min_lr": 0.0, "warmup_steps": 8},
            # (step + 1) / 8, then (1 + cos(pi * (step - 8) / 32)) / 2
            {0: 0.125, 7: 1.0, 8: 1.0, 16: 0.853553, 24: 0.5, 32: 0.146447},
        ),
    ],
)
def test_learning_rates(tmp_path: Path, settings: dict[str, Any], expected: dict[int, float]) -> None:
    run = spec(tmp_path, epochs=4, **settings)
    assert {step: learning_rate(run, PLAN, step) for step in expected} == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("epochs", "expected"),
    [
        (1, {0: 0.0, 5: 0.2, 10: 0.4, 39: 0.4}),  # finetuning: over the first epoch
        (2, {0: 0.0, 5: 0.1, 10: 0.2, 20: 0.4, 39: 0.4}),  # pre-training: over two
        (0, {0: 0.4}),
    ],
)
def test_alpha_rises_over_the_first_epochs(tmp_path: Path, epochs: int, expected: dict[int, float]) -> None:
    run = spec(tmp_path, alpha=0.4, alpha_epochs=epochs)
    assert {step: soft_target_weight(run, PLAN, step) for step in expected} == pytest.approx(expected)
