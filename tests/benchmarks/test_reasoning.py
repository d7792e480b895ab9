"""Speed of NLVR2 at base size, 384 px, 4 pairs of images with one sentence each, compared with the plain way.

The plain way is the reference's, computed by our float32 model, because transformers has no such model. It encodes both
images of every pair, pads and masks sentences to the longest of the batch, and computes all tokens in every layer. With
one sentence per pair nothing is repeated, so the gain comes from the kernels and from the missing padding. Each time is
the best of several rounds, to reduce the effect of other work on the machine.
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from random_weights import fill_randomly
from torch import Tensor

from blipbench.config.models import load_model_config
from blipbench.data.images import normalise
from blipbench.device import make_runtime
from blipbench.inference.packing import pad
from blipbench.inference.peak import measure_peak
from blipbench.inference.reasoning import NlvrRunner
from blipbench.models.nlvr import BlipNlvr
from blipbench.models.tokenizer import load_tokenizer

pytestmark = pytest.mark.benchmark_suite

PAIRS, IMAGE_SIZE = 4, 384
LENGTHS = (13, 17, 20, 28)  # tokens with [ENC] and [SEP]; NLVR2's sentences have 15 words on average
ENC, SEP, PAD = 30523, 102, 0


@pytest.fixture(scope="module")
def runner() -> NlvrRunner:
    config = load_model_config("base")
    vision = config.vision.model_copy(update={"image_size": IMAGE_SIZE})
    model = BlipNlvr(config.model_copy(update={"vision": vision}))
    fill_randomly(model, seed=0)
    return NlvrRunner(model, load_tokenizer(None), make_runtime("cpu", "fp32"))


@pytest.fixture(scope="module")
def pixels() -> Tensor:
    """The left images, then the right images."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (2 * PAIRS, 3, IMAGE_SIZE, IMAGE_SIZE), generator=generator).to(torch.uint8)


@pytest.fixture(scope="module")
def sentences() -> list[list[int]]:
    rng = np.random.default_rng(0)
    return [[ENC, *rng.integers(1000, 30000, length - 2).tolist(), SEP] for length in LENGTHS]


@torch.inference_mode()
def plain_way(runner: NlvrRunner, pixels: Tensor, sentences: list[list[int]]) -> Tensor:
    ids, mask = pad(sentences, PAD)
    states = runner.plain.visual_encoder(normalise(pixels))
    return runner.plain(ids, mask, states[:PAIRS], states[PAIRS:])


def seconds_of(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def test_reasoning(benchmark: Any, runner: NlvrRunner, pixels: Tensor, sentences: list[list[int]]) -> None:
    def ours() -> Tensor:
        tokens = runner.encode_images(pixels)
        return runner.reason(tokens[:PAIRS], tokens[PAIRS:], sentences, np.arange(PAIRS))

    logits = benchmark.pedantic(ours, rounds=3, warmup_rounds=1)
    seconds = benchmark.stats.stats.min / PAIRS
    plain = plain_way(runner, pixels, sentences)
    plain_seconds = min(seconds_of(lambda: plain_way(runner, pixels, sentences)) for _ in range(2)) / PAIRS
    assert (logits - plain).abs().max() < 1e-4 * plain.abs().max()

    needed = 2 * runner.image_flops() + sum(runner.pair_flops([length]) for length in LENGTHS) / PAIRS
    share, ratio = needed / seconds / measure_peak(runner.runtime), plain_seconds / seconds
    benchmark.extra_info |= {"ratio": ratio, "share_of_peak": share}
    print(
        f"\nNLVR2, base, {IMAGE_SIZE} px, fp32, {PAIRS} pairs with one sentence, {torch.get_num_threads()} threads: "
        f"{seconds * 1e3:.0f} ms per pair, {needed / seconds / 1e9:.0f} GFLOP/s, {share:.2f} of peak; the plain way "
        f"{plain_seconds * 1e3:.0f} ms: {ratio:.1f} times"
    )
    assert ratio > 1
