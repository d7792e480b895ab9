"""A small retrieval protocol at base size, 384 px, compared with transformers' BLIP run the reference's way.

`make bench` runs it. Times are medians. Shapes, dtype and threads are printed with them. The parts are measured by
test_parts.py.
"""

from typing import Any

import numpy as np
import pytest
import torch
from reference_way import ReferenceWay

from blipbench.config.models import load_model_config
from blipbench.data.images import normalise
from blipbench.device import make_runtime
from blipbench.inference.blip import BlipRunner
from blipbench.inference.similarity import top_candidates
from blipbench.models.blip import BlipRetrieval
from blipbench.models.checkpoint import Checkpoint, load_checkpoint, load_weights
from blipbench.models.conversion import save_checkpoint
from blipbench.models.random_weights import random_state_dict
from blipbench.models.tokenizer import load_tokenizer

pytestmark = pytest.mark.benchmark_suite

IMAGES, PROTOCOL_TEXTS, K_TEST = 24, 120, 32


def coco_like_ids(count: int, seed: int) -> list[list[int]]:
    """Random texts as long as COCO's captions: 12.5 tokens on average with [CLS] and [SEP], at most 35."""
    rng = np.random.default_rng(seed)
    lengths = np.clip(np.round(rng.gamma(9.0, 5.5 / 9.0, count) + 7.0), 8, 35).astype(int)
    return [[101, *rng.integers(1000, 30000, length - 2).tolist(), 102] for length in lengths]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    path = tmp_path_factory.mktemp("weights") / "base.pth"
    config = load_model_config("base")
    save_checkpoint(random_state_dict(config, seed=0), config, path)
    return load_checkpoint(str(path), config=load_model_config("base"))


def make_runner(checkpoint: Checkpoint, precision: str) -> BlipRunner:
    model = BlipRetrieval(checkpoint.config)
    load_weights(model, checkpoint, "retrieval_coco")
    return BlipRunner(model, load_tokenizer(None), make_runtime("cpu", precision))


@pytest.fixture(scope="module")
def reference(checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> ReferenceWay:
    tokenizer = load_tokenizer(None)
    return ReferenceWay(checkpoint, tmp_path_factory.mktemp("transformers"), tokenizer.pad_id, tokenizer.enc_id)


@pytest.fixture(scope="module")
def pictures() -> torch.Tensor:
    return torch.randint(0, 256, (IMAGES, 3, 384, 384), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_small_protocol(
    benchmark: Any, checkpoint: Checkpoint, reference: ReferenceWay, pictures: torch.Tensor
) -> None:
    """24 images, 120 texts, k 32: embed everything, select candidates, rerank both directions. Scores must be equal.

    Our time is the median of three runs. The baseline reranks every fourth query, and this time counts four times.
    """
    runner = make_runner(checkpoint, "fp32")
    input_ids = coco_like_ids(PROTOCOL_TEXTS, seed=3)

    def ours() -> torch.Tensor:
        return score_all(runner, pictures, input_ids)

    benchmark.pedantic(ours, rounds=3, warmup_rounds=0)
    seconds = benchmark.stats.stats.median
    i2t, t2i, baseline = reference.evaluate(normalise(pictures), input_ids, K_TEST, every=4)
    scores = ours()
    for expected in (i2t, t2i.T):
        candidate = expected > -100
        deviation = float((scores[candidate] - expected[candidate]).abs().max() / expected[candidate].abs().max())
        assert deviation < 1e-4
    ratio = baseline / seconds
    benchmark.extra_info["ratio"] = ratio
    print(
        f"\nsmall protocol, base, 384 px, fp32, {IMAGES} images, {PROTOCOL_TEXTS} texts, k {K_TEST}, "
        f"{torch.get_num_threads()} threads: {seconds:.1f} s; "
        f"transformers, the reference's way: {baseline:.1f} s, {ratio:.1f} times as long"
    )
    assert ratio >= 8


def score_all(runner: BlipRunner, pictures: torch.Tensor, input_ids: list[list[int]]) -> torch.Tensor:
    """Scores [images, texts] of the union of both directions' candidates, -100 elsewhere."""
    bank = runner.bank(input_ids)
    texts = torch.from_numpy(runner.embed_texts(bank, np.arange(len(input_ids))))
    embeds, tokens = runner.embed_images(pictures)
    images = torch.from_numpy(embeds)
    asked = torch.zeros(len(images), len(texts), dtype=torch.bool)
    asked.scatter_(1, torch.from_numpy(top_candidates(images, texts, K_TEST)).long(), True)
    asked.T.scatter_(1, torch.from_numpy(top_candidates(texts, images, K_TEST)).long(), True)
    scores = torch.full((len(images), len(texts)), -100.0)
    matcher = runner.matcher(input_ids)
    for image, row in enumerate(asked):
        which = row.nonzero()[:, 0]
        scores[image, which] = matcher.score(tokens[image], which.numpy()) + texts[which] @ images[image]
    return scores
