"""Captioning, VQA and NLVR: losses and gradients are the reference's, from its own checkpoints."""

import pytest
from goldens import Golden, relative_error
from torch import nn
from training.objective_goldens import (
    assert_gradient_norms,
    gradient_norms,
    nlvr_batch,
    pair_batch,
    started_from,
    tiny_config,
    tiny_tokenizer,
    vqa_batch,
)

from blipbench.training.batches import NlvrBatch, PairBatch, VqaBatch
from blipbench.training.objectives import CaptionObjective, NlvrObjective, VqaObjective

Case = tuple[nn.Module, PairBatch | VqaBatch | NlvrBatch]


def case_of(kind: str, golden: Golden, gradient_checkpointing: bool = False) -> Case:
    told, tokens = golden.json(f"train_{kind}"), tiny_tokenizer()
    if kind == "caption":
        prompt_length = len(tokens.encode(["a picture of "], 40)[0]) - 1
        caption = CaptionObjective(
            tiny_config(),
            dec_id=tokens.dec_id,
            prompt_length=prompt_length,
            gradient_checkpointing=gradient_checkpointing,
        )
        return started_from(caption, kind), pair_batch(golden, told)
    if kind == "vqa":
        vqa = VqaObjective(
            tiny_config(),
            enc_id=tokens.enc_id,
            dec_id=tokens.dec_id,
            gradient_checkpointing=gradient_checkpointing,
        )
        return started_from(vqa, kind), vqa_batch(golden, told)
    nlvr = NlvrObjective(tiny_config("tiny_nlvr"), enc_id=tokens.enc_id, gradient_checkpointing=gradient_checkpointing)
    return started_from(nlvr, kind), nlvr_batch(golden, told)


KINDS = {"caption": "lm", "vqa": "vqa", "nlvr": "nlvr"}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("gradient_checkpointing", [False, True])
def test_the_loss_and_every_gradient_are_the_references(
    golden: Golden, kind: str, gradient_checkpointing: bool
) -> None:
    objective, batch = case_of(kind, golden, gradient_checkpointing)
    losses = objective(batch, alpha=0.4)
    assert list(losses) == [KINDS[kind]]
    assert relative_error(losses[KINDS[kind]].detach()[None], golden.tensors(f"train_{kind}")["loss"]) < 1e-5
    sum(losses.values()).backward()
    assert_gradient_norms(gradient_norms(objective), golden.json(f"train_{kind}")["grad_norm"])
