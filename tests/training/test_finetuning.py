"""Captioning, VQA and NLVR: losses and gradients are the reference's, from its own checkpoints."""

import pytest
from goldens import Golden, relative_error
from objective_goldens import KINDS, assert_gradient_norms, finetuning_case, gradient_norms, total


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("gradient_checkpointing", [False, True])
def test_the_loss_and_every_gradient_are_the_references(
    golden: Golden, kind: str, gradient_checkpointing: bool
) -> None:
    objective, batch = finetuning_case(kind, golden, gradient_checkpointing)
    losses = objective(batch, alpha=0.4)
    assert list(losses) == [KINDS[kind]]
    assert relative_error(losses[KINDS[kind]].detach()[None], golden.tensors(f"train_{kind}")["loss"]) < 1e-5
    total(losses).backward()
    assert_gradient_norms(gradient_norms(objective), golden.json(f"train_{kind}")["grad_norm"])
