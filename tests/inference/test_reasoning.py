"""The packed computation of NLVR2 against the reference's goldens and the plain model."""

import numpy as np
import pytest
import torch
from goldens import GOLDEN, Golden, relative_error

from blipbench.config.models import load_model_config
from blipbench.data.loader import Squares, load_pixels
from blipbench.device import make_runtime
from blipbench.inference.reasoning import NlvrRunner, fold
from blipbench.models.checkpoint import load_checkpoint, load_weights
from blipbench.models.nlvr import BlipNlvr
from blipbench.models.tokenizer import load_tokenizer

TOLERANCE = 1e-5


def make_runner(precision: str = "fp32") -> NlvrRunner:
    loaded = load_checkpoint(str(GOLDEN / "tiny_nlvr.pth"), config=load_model_config(str(GOLDEN / "tiny_nlvr.yaml")))
    model = BlipNlvr(loaded.config)
    load_weights(model, loaded, "nlvr")
    return NlvrRunner(model, load_tokenizer(GOLDEN / "vocab.txt"), make_runtime("cpu", precision))


@pytest.fixture(scope="module")
def runner() -> NlvrRunner:
    return make_runner()


@pytest.fixture(scope="module")
def pixels(golden: Golden) -> torch.Tensor:
    """uint8 [12, 3, 48, 48]"""
    (batch,) = load_pixels([(path,) for path in golden.pictures()[:12]], Squares(48, 12), 0)
    return batch.pixels


def test_logits_equal_the_reference(golden: Golden, runner: NlvrRunner, pixels: torch.Tensor) -> None:
    told, tokens = golden.json("nlvr"), runner.encode_images(pixels)
    ids = runner.tokenize(told["sentences"])
    logits = runner.reason(tokens[told["images0"]], tokens[told["images1"]], ids, np.arange(6))
    assert relative_error(logits, golden.tensors("nlvr")["logits"]) < TOLERANCE


def test_sentences_may_share_a_pair_in_any_order(runner: NlvrRunner, pixels: torch.Tensor) -> None:
    tokens = runner.encode_images(pixels)
    ids = runner.tokenize(["two circles", "a purple background in the left image", "two circles", "there is a square"])
    pair_of = np.array([1, 0, 0, 1])
    logits = runner.reason(tokens[:2], tokens[2:4], ids, pair_of)
    for sentence, pair in enumerate(pair_of):
        plain = runner.plain_logits(pixels[pair], pixels[2 + pair], [ids[sentence]])
        assert relative_error(logits[sentence], plain[0]) < TOLERANCE


def test_the_order_of_the_images_matters(runner: NlvrRunner, pixels: torch.Tensor) -> None:
    tokens, ids = runner.encode_images(pixels[:2]), runner.tokenize(["the left image has a white bar"])
    given, swapped = (runner.reason(tokens[[a]], tokens[[b]], ids, np.array([0])) for a, b in ((0, 1), (1, 0)))
    assert not torch.allclose(given, swapped, rtol=1e-3)


def test_bfloat16_stays_near_float32(runner: NlvrRunner, pixels: torch.Tensor) -> None:
    ids, half = runner.tokenize(["two circles", "there is a square"]), make_runner("bf16")
    full_tokens, half_tokens = runner.encode_images(pixels[:2]), half.encode_images(pixels[:2])
    full = runner.reason(full_tokens[:1], full_tokens[1:], ids, np.array([0, 0]))
    assert relative_error(half.reason(half_tokens[:1], half_tokens[1:], ids, np.array([0, 0])), full) < 0.1


@pytest.mark.parametrize("layer", [0, 7])
def test_output_projections_fold_into_one_layer(runner: NlvrRunner, layer: int) -> None:
    output = runner.plain.text_encoder.encoder.layer[layer].crossattention.output
    left, right = torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(0))
    weight, bias = fold(output)
    merged = torch.cat([left, right], dim=-1) @ weight.T + bias
    assert relative_error(output.LayerNorm(merged + left), output(left, right, left)) < TOLERANCE


def test_sentences_start_with_enc_and_are_not_cut_at_35_tokens(runner: NlvrRunner) -> None:
    (ids,) = runner.tokenize([" ".join(["circle"] * 50)])
    assert (ids[0], ids[-1], len(ids)) == (runner.tokenizer.enc_id, runner.tokenizer.sep_id, 52)
