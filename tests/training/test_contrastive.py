"""Retrieval finetuning and pre-training: losses, queues, negatives, momentum and gradients are the reference's."""

from typing import Any

import pytest
import torch
from goldens import Golden, relative_error
from objective_goldens import (
    Picks,
    assert_gradient_norms,
    gradient_norms,
    pair_batch,
    pretrain_objective,
    retrieval_objective,
    total,
)
from torch import Tensor

from blipbench.training.contrastive import ContrastiveObjective

CASES = ["train_retrieval", "train_retrieval_all_rank", "train_pretrain"]
LOSSES = {"itc": "loss_ita", "itm": "loss_itm", "lm": "loss_lm"}
QUEUES = ["image_queue", "text_queue", "idx_queue", "ptr_queue", "queue_ptr"]


class Step:
    """One forward and backward of a case."""

    def __init__(self, golden: Golden, case: str, **settings: Any) -> None:
        self.told, self.tensors, self.picks = golden.json(case), golden.tensors(case), Picks()
        self.objective: ContrastiveObjective
        if case == "train_pretrain":
            self.objective = pretrain_objective(self.picks, **settings)
        else:
            self.objective = retrieval_objective(self.picks, self.told["negative_all_rank"], **settings)
        batch = pair_batch(golden, self.told, length=30 if case == "train_pretrain" else 35)
        self.losses: dict[str, Tensor] = self.objective(batch, self.told["alpha"])
        total(self.losses).backward()


@pytest.fixture(scope="module", params=CASES)
def step(request: pytest.FixtureRequest) -> Step:
    return Step(Golden(), request.param)


def test_losses(step: Step) -> None:
    for name, loss in step.losses.items():
        assert relative_error(loss.detach()[None], step.tensors[LOSSES[name]]) < 1e-5, name


def test_queues_and_their_pointer_after_the_step(step: Step) -> None:
    state = step.objective.state_dict()
    compared = [name for name in QUEUES if name in state]
    assert {f"{name}_after" for name in compared} == {name for name in step.tensors if name.endswith("_after")}
    for name in compared:
        expected = step.tensors[f"{name}_after"]
        if expected.is_floating_point():
            assert relative_error(state[name], expected) < 1e-5
        else:
            assert torch.equal(state[name], expected.long())


def test_the_negatives_and_the_weights_they_are_drawn_by(step: Step) -> None:
    weights_t2i, weights_i2t = step.picks.weights
    assert relative_error(weights_t2i, step.tensors["weights_t2i"]) < 1e-5
    assert relative_error(weights_i2t, step.tensors["weights_i2t"]) < 1e-5
    images, texts = step.picks.picked
    assert images.tolist() == step.told["negative_image_of_each_text"]
    assert texts.tolist() == step.told["negative_text_of_each_image"]


def test_the_momentum_copies_after_the_step(step: Step) -> None:
    state = step.objective.state_dict()
    for name, expected in step.told["momentum_sum_after"].items():
        size = float(state[name].double().abs().sum())
        assert float(state[name].double().sum()) == pytest.approx(expected, abs=1e-6 * size), name


def test_every_gradient(step: Step) -> None:
    assert_gradient_norms(gradient_norms(step.objective), step.told["grad_norm"])


@pytest.mark.parametrize("case", CASES)
def test_checkpointing_changes_no_gradient(golden: Golden, case: str) -> None:
    told = golden.json(case)
    assert_gradient_norms(gradient_norms(Step(golden, case, gradient_checkpointing=True).objective), told["grad_norm"])
