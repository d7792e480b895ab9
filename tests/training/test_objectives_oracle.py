"""transformers' captioner and VQA model as the judges: the same random weights give the same loss and gradients.

In float64, where they agree to the twelfth digit: float32's noise over 30524 words is in a gradient's fourth.
"""

from pathlib import Path

import pytest
import torch
from random_captioner import SEP, random_captioner, transformers_captioner
from random_vqa import random_vqa_checkpoint, transformers_vqa
from torch import Tensor, nn

from blipbench.inference.packing import pad
from blipbench.models.config import ModelConfig, TextConfig, VisionConfig
from blipbench.models.layouts import to_transformers
from blipbench.models.med import IGNORED, LABEL_SMOOTHING
from blipbench.training.batches import PairBatch, VqaBatch
from blipbench.training.objectives import CaptionObjective, VqaObjective

# transformers gives every cross-attention the ViT's width, so the widths must be equal.
SMALL = ModelConfig(
    name="small",
    vision=VisionConfig(width=64, depth=2, num_heads=4, image_size=64),
    text=TextConfig(width=64, depth=3, num_heads=4, intermediate_size=128),
)
CLS, DEC, ENC, PAD = 101, 30522, 30523, 0


def random_texts(lengths: tuple[int, ...], seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    words = [torch.randint(1000, 30000, (length - 2,), generator=generator).tolist() for length in lengths]
    return pad([[CLS, *text, SEP] for text in words], PAD)


def starting_with(token: int, input_ids: Tensor) -> Tensor:
    return torch.cat([torch.full((len(input_ids), 1), token), input_ids[:, 1:]], dim=1)


def random_images(count: int) -> Tensor:
    return torch.randn(count, 3, 64, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def assert_same_gradients(objective: nn.Module, oracle: nn.Module, kind: str) -> None:
    ours = {name: parameter.grad for name, parameter in objective.named_parameters() if parameter.grad is not None}
    expected = {name: p.grad for name, p in oracle.named_parameters() if p.grad is not None}
    found, _ = to_transformers(Path("ours"), ours, kind)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        assert torch.allclose(found[name], gradient, rtol=1e-9, atol=1e-12), name


def test_captioning() -> None:
    model = random_captioner(SMALL, seed=0, std=0.08)
    oracle = transformers_captioner(model).requires_grad_(True).double()
    oracle.text_decoder.label_smoothing = LABEL_SMOOTHING
    objective = CaptionObjective(SMALL, dec_id=DEC, prompt_length=4).double()
    objective.load_state_dict(model.state_dict(), strict=False)
    images, (ids, mask) = random_images(4), random_texts((9, 6, 12, 7), seed=1)

    labels = starting_with(DEC, ids).masked_fill(mask == 0, IGNORED)
    labels[:, :4] = IGNORED
    expected = oracle(images, starting_with(DEC, ids), attention_mask=mask, labels=labels).loss
    expected.backward()

    loss = objective(PairBatch(images, ids, mask, torch.arange(4)), alpha=0.0)["lm"]
    loss.backward()
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-12)
    assert_same_gradients(objective, oracle, "caption")


def test_vqa(tmp_path: Path) -> None:
    """Questions of one length: transformers' decoder attends to the padding of shorter ones (the goldens have some)."""
    checkpoint = random_vqa_checkpoint(SMALL, tmp_path, seed=0, std=0.08)
    oracle = transformers_vqa(checkpoint, tmp_path / "transformers").double()
    objective = VqaObjective(SMALL, enc_id=ENC, dec_id=DEC).double()
    objective.load_state_dict(checkpoint.state_dict, strict=False)
    images, (questions, question_mask) = random_images(3), random_texts((7, 7, 7), seed=1)
    answers, answer_mask = random_texts((3, 5, 4, 3, 6), seed=2)
    counts, weights = torch.tensor([2, 1, 2]), torch.tensor([0.7, 1.0, 0.5, 0.3, 0.2], dtype=torch.float64)

    context = oracle.text_encoder(
        starting_with(ENC, questions),
        attention_mask=question_mask,
        encoder_hidden_states=oracle.vision_model(images)[0],
    )[0]
    decoder_ids = starting_with(DEC, answers)
    losses = oracle.text_decoder(
        decoder_ids,
        attention_mask=answer_mask,
        encoder_hidden_states=context.repeat_interleave(counts, 0),
        encoder_attention_mask=question_mask.repeat_interleave(counts, 0),
        labels=decoder_ids.masked_fill(answer_mask == 0, IGNORED),
        reduction="none",
    ).loss
    expected = (weights * losses).sum() / 3
    expected.backward()

    own = torch.arange(3)
    batch = VqaBatch(images, own, questions, question_mask, answers, answer_mask, counts, weights)
    loss = objective(batch, alpha=0.0)["vqa"]
    loss.backward()
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-12)
    assert_same_gradients(objective, oracle, "vqa")
