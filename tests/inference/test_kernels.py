"""What goes through the Triton kernels equals torch and the reference. They run on a CPU in Triton's interpreter.

    TRITON_INTERPRET=1 pytest tests/inference/test_attention.py tests/inference/test_kernels.py

Triton decides at its import whether it interprets, so these tests require a process of their own.
"""

import os

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from goldens import GOLDEN, Golden, relative_error

from blipbench.config.models import load_model_config
from blipbench.data.loader import Squares, load_pixels
from blipbench.device import make_runtime
from blipbench.inference.attention import Spans
from blipbench.inference.blip import BlipRunner
from blipbench.inference.kernels import add_norm, attention_usable
from blipbench.inference.reasoning import NlvrRunner
from blipbench.models.checkpoint import load_checkpoint, load_weights
from blipbench.models.nlvr import BlipNlvr
from blipbench.models.tokenizer import load_tokenizer

pytestmark = pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") != "1", reason="requires TRITON_INTERPRET=1")

PRECISIONS = pytest.mark.parametrize("precision, bound", [("fp32", 1e-5), ("bf16", 0.1)])


@pytest.mark.parametrize("dtype, atol", [(torch.float32, 1e-5), (torch.float16, 4e-3), (torch.bfloat16, 3e-2)])
@pytest.mark.parametrize("rows", [0, 1, 5])
def test_add_and_layer_norm_in_one_kernel(rows: int, dtype: torch.dtype, atol: float) -> None:
    torch.manual_seed(0)
    norm = torch.nn.LayerNorm(24, eps=1e-12, dtype=dtype)  # a width that is not a power of two
    torch.nn.init.normal_(norm.weight)
    x, residual = torch.randn(rows, 48).to(dtype).chunk(2, dim=1)
    expected = F.layer_norm(x.float() + residual.float(), (24,), norm.weight.float(), norm.bias.float(), norm.eps)
    with torch.inference_mode():
        found = add_norm(x, residual, norm)
    torch.testing.assert_close(found, expected.to(dtype), rtol=1e-2, atol=atol)


def test_heads_whose_size_is_not_a_power_of_two() -> None:
    torch.manual_seed(0)
    query, key, value = torch.randn(5, 24), torch.randn(9, 24), torch.randn(9, 24)
    spans = Spans.of_owner(np.array([0]), np.array([5]), [9], torch.device("cpu"))
    q, k, v = (x.unflatten(-1, (2, -1)).transpose(0, 1) for x in (query, key, value))
    expected = F.scaled_dot_product_attention(q, k, v).transpose(0, 1).flatten(1)
    torch.testing.assert_close(spans.attend(query, key, value, num_heads=2), expected)


def golden_pixels(golden: Golden, which: list[int]) -> torch.Tensor:
    (batch,) = load_pixels([(golden.pictures()[i],) for i in which], Squares(48, len(which)), 0)
    return batch.pixels


@PRECISIONS
def test_itm_of_several_images_in_one_pass_equals_the_reference(golden: Golden, precision: str, bound: float) -> None:
    case = golden.tensors("retrieval_k6")
    padded = zip(case["input_ids"], case["attention_mask"], strict=True)
    ids = [ids[: int(mask.sum())].tolist() for ids, mask in padded]
    tokenizer = load_tokenizer(GOLDEN / "vocab.txt")
    runner = BlipRunner(golden.retrieval_model(), tokenizer, make_runtime("cpu", precision))
    matcher = runner.matcher(ids)
    assert attention_usable(runner.text_encoder.embeddings.word_embeddings.weight)
    images = [0, 1, 2, 3]
    candidates = [(case["score_i2t"][image] > -100).nonzero()[:, 0].numpy() for image in images]
    assert list(matcher.batches(zip(images, candidates, strict=True), image_tokens=10)) == [images]
    _, tokens = runner.embed_images(golden_pixels(golden, images))
    owner, texts = np.repeat(images, [len(some) for some in candidates]), np.concatenate(candidates)
    scores = matcher.submit(tokens, texts, owner).result() + case["similarity_i2t"][owner, texts]
    assert relative_error(scores, case["score_i2t"][owner, texts]) < bound


def test_images_are_matched_together_up_to_the_token_budget_of_texts_and_of_images(golden: Golden) -> None:
    tokenizer = load_tokenizer(GOLDEN / "vocab.txt")
    runner = BlipRunner(golden.retrieval_model(), tokenizer, make_runtime("cpu", "fp32", batch_tokens=40))
    matcher = runner.matcher([[2, 10, 11, 3]] * 8)  # texts of 4 tokens
    few, many = np.arange(2), np.arange(8)
    assert list(matcher.batches([("a", few), ("b", few), ("c", many)], image_tokens=10)) == [["a", "b"], ["c"]]
    assert list(matcher.batches([("a", few), ("b", few), ("c", few)], image_tokens=20)) == [["a", "b"], ["c"]]
    assert list(matcher.batches([("a", many), ("b", many)], image_tokens=1000)) == [["a"], ["b"]]


@PRECISIONS
def test_nlvr_equals_the_plain_model(golden: Golden, precision: str, bound: float) -> None:
    loaded = load_checkpoint(str(GOLDEN / "tiny_nlvr.pth"), config=load_model_config(str(GOLDEN / "tiny_nlvr.yaml")))
    model = BlipNlvr(loaded.config)
    load_weights(model, loaded, "nlvr")
    runner = NlvrRunner(model, load_tokenizer(GOLDEN / "vocab.txt"), make_runtime("cpu", precision))
    pixels = golden_pixels(golden, [0, 1])
    ids = runner.tokenize(["a red dog", "a cat on a mat near two small birds"])
    tokens = runner.encode_images(pixels)
    logits = runner.reason(tokens[:1], tokens[1:], ids, np.zeros(2, np.int64))
    assert relative_error(logits, runner.plain_logits(pixels[0], pixels[1], ids)) < bound
