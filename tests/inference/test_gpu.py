"""On a GPU: the loops never make the host wait for the device, and every precision stays near the reference."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from goldens import GOLDEN, Golden, relative_error
from random_captioner import random_captioner

from blipbench.config.models import load_model_config
from blipbench.data.loader import Squares, load_pixels
from blipbench.device import DEVIATION_BOUNDS, make_runtime
from blipbench.inference.blip import BlipRunner
from blipbench.inference.captioner import BlipCaptionRunner
from blipbench.inference.decoding import run_search
from blipbench.inference.search import Found, Method, SearchSettings
from blipbench.models.tokenizer import load_tokenizer

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="requires a GPU")


@pytest.fixture
def no_waiting() -> Iterator[None]:
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    yield
    torch.cuda.set_sync_debug_mode("default")


def golden_runner(golden: Golden, precision: str) -> tuple[BlipRunner, torch.Tensor, list[list[int]]]:
    runner = BlipRunner(golden.retrieval_model(), load_tokenizer(GOLDEN / "vocab.txt"), make_runtime("cuda", precision))
    case = golden.tensors("retrieval_k12")
    padded = zip(case["input_ids"], case["attention_mask"], strict=True)
    ids = [ids[: int(mask.sum())].tolist() for ids, mask in padded]
    (batch,) = load_pixels([(picture,) for picture in golden.pictures()[:12]], Squares(48, 12), 0)
    return runner, batch.pixels, ids


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16", "fp16"])
def test_scores_of_several_images_stay_near_the_reference(golden: Golden, precision: str) -> None:
    case = golden.tensors("retrieval_k12")
    runner, pixels, ids = golden_runner(golden, precision)
    _, tokens = runner.embed_images(pixels)
    owner, texts = (case["score_i2t"] > -100).nonzero().numpy().T
    scores = runner.matcher(ids).submit(tokens, texts, owner).result() + case["similarity_i2t"][owner, texts]
    assert relative_error(scores, case["score_i2t"][owner, texts]) < DEVIATION_BOUNDS[precision]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_matching_does_not_wait_between_batches(golden: Golden, precision: str, request: pytest.FixtureRequest) -> None:
    runner, pixels, ids = golden_runner(golden, precision)
    _, tokens = runner.embed_images(pixels)
    matcher, every = runner.matcher(ids), np.arange(len(ids))
    owner, texts = np.repeat([0, 1, 2], len(ids)), np.tile(every, 3)
    matcher.submit(tokens[:3], texts, owner).result()  # compiles the kernels and allocates page-locked memory
    request.getfixturevalue("no_waiting")
    pending = [matcher.submit(tokens[start : start + 3], texts, owner) for start in (0, 3, 6, 9)]
    assert all(torch.isfinite(one.result()).all() for one in pending)


@pytest.mark.parametrize("method", ["beam", "greedy"])
def test_captioning_does_not_wait_between_steps(
    method: Method, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = BlipCaptionRunner(
        random_captioner(load_model_config(str(GOLDEN / "tiny.yaml")), seed=0),
        load_tokenizer(GOLDEN / "vocab.txt"),
        make_runtime("cuda", "bf16"),
    )
    pixels = torch.zeros(4, 3, runner.config.vision.image_size, runner.config.vision.image_size, dtype=torch.uint8)
    tokens = runner.encode_images(pixels)
    settings = SearchSettings(method=method, max_length=12, min_length=5)
    runner.caption(tokens, "", settings)
    monkeypatch.setattr(Found, "hypotheses", lambda found: found)  # the one wait, at the end
    decoding = runner.decoder.begin(tokens, None, settings)
    request.getfixturevalue("no_waiting")
    run_search(decoding, runner.prompt_ids(""), settings, runner.tokenizer.sep_id, range(4))
