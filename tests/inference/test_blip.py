"""The packed, shared computation against the reference's goldens, the plain path, and transformers."""

import numpy as np
import pytest
import torch
from goldens import Golden, relative_error

from blipbench.data.loader import Squares, load_pixels
from blipbench.device import make_runtime
from blipbench.inference.blip import BlipRunner
from blipbench.models.tokenizer import load_tokenizer

TOLERANCE = 1e-5


def pixels_of(golden: Golden, which: list[int]) -> torch.Tensor:
    """uint8 [n, 3, 48, 48] of pictures in the pool."""
    sources = [(golden.pictures()[i],) for i in which]
    (batch,) = load_pixels(sources, Squares(48, len(which)), 0)
    return batch.pixels


def golden_ids(golden: Golden) -> list[list[int]]:
    case = golden.tensors("retrieval_k6")
    return [
        ids[: int(mask.sum())].tolist() for ids, mask in zip(case["input_ids"], case["attention_mask"], strict=True)
    ]


def test_itc_similarities_equal_the_reference(golden: Golden, tiny_runner: BlipRunner) -> None:
    images, _ = tiny_runner.embed_images(pixels_of(golden, list(range(12))))
    ids = golden_ids(golden)
    texts = tiny_runner.embed_texts(tiny_runner.bank(ids), np.arange(len(ids)))
    expected = golden.tensors("retrieval_k6")["similarity_i2t"]
    assert relative_error(torch.from_numpy(images @ texts.T), expected) < TOLERANCE


@pytest.mark.parametrize("k_test", [6, 12])
def test_scores_of_candidates_equal_the_reference(golden: Golden, tiny_runner: BlipRunner, k_test: int) -> None:
    case = golden.tensors(f"retrieval_k{k_test}")
    _, tokens = tiny_runner.embed_images(pixels_of(golden, list(range(12))))
    matcher = tiny_runner.matcher(golden_ids(golden))
    for image in range(12):
        candidates = (case["score_i2t"][image] > -100).nonzero()[:, 0]
        scores = matcher.score(tokens[image], candidates.numpy()) + case["similarity_i2t"][image][candidates]
        assert relative_error(scores, case["score_i2t"][image][candidates]) < TOLERANCE


@pytest.mark.parametrize("batch_tokens", [1, 20, 10_000])
@pytest.mark.parametrize("cache_bytes", [0, 2**20])
def test_scores_do_not_depend_on_batching_or_caching(golden: Golden, batch_tokens: int, cache_bytes: int) -> None:
    runtime = make_runtime("cpu", "fp32", batch_tokens)
    from dataclasses import replace

    runner = BlipRunner(
        golden.retrieval_model(), load_tokenizer(golden.root / "vocab.txt"), replace(runtime, cache_bytes=cache_bytes)
    )
    pixels = pixels_of(golden, [4])
    _, tokens = runner.embed_images(pixels)
    ids = golden_ids(golden)
    scores = runner.matcher(ids).score(tokens[0], np.arange(len(ids)))
    plain, _ = runner.plain_scores(pixels, ids)
    assert relative_error(scores, plain) < TOLERANCE


@pytest.mark.parametrize("batch_tokens", [1, 40, 10_000])
def test_texts_scored_with_their_own_image_alone_get_the_same_logits(golden: Golden, batch_tokens: int) -> None:
    """Images have 0 to several texts each, in no order."""
    runner = BlipRunner(
        golden.retrieval_model(), load_tokenizer(golden.root / "vocab.txt"), make_runtime("cpu", "fp32", batch_tokens)
    )
    _, tokens = runner.embed_images(pixels_of(golden, list(range(4))))
    owner = np.array([3, 0, 0, 3, 1, 3, 0, 3, 1])
    matcher = runner.matcher(golden_ids(golden)[: len(owner)])
    together = matcher.submit(tokens, np.arange(len(owner)), owner).logits()
    alone = torch.cat(
        [
            matcher.submit(tokens[image][None], np.array([text]), np.array([0])).logits()
            for text, image in enumerate(owner)
        ]
    )
    assert relative_error(together, alone) < TOLERANCE


def test_bfloat16_stays_near_float32(golden: Golden) -> None:
    runner = BlipRunner(
        golden.retrieval_model(), load_tokenizer(golden.root / "vocab.txt"), make_runtime("cpu", "bf16")
    )
    pixels = pixels_of(golden, [0])
    _, tokens = runner.embed_images(pixels)
    ids = golden_ids(golden)
    scores = runner.matcher(ids).score(tokens[0], np.arange(len(ids)))
    plain, _ = runner.plain_scores(pixels, ids)
    assert 1e-5 < relative_error(scores, plain) < 0.1


def test_a_clip_is_embedded_by_the_mean_of_its_frames_projections(golden: Golden, tiny_runner: BlipRunner) -> None:
    pixels = pixels_of(golden, [0, 1, 2])
    clip, tokens = tiny_runner.embed_images(pixels[None])
    model = tiny_runner.plain
    each = model.vision_proj(tokens.unflatten(1, (3, -1))[0, :, 0])
    expected = torch.nn.functional.normalize(each.mean(0), dim=-1)
    assert tokens.shape == (1, 30, 24)
    assert relative_error(torch.from_numpy(clip[0]), expected) < TOLERANCE


def test_itm_with_cls_first_equals_the_reference_demo_class(golden: Golden) -> None:
    """The reference's blip_itm leaves [CLS] in front; the plain path with those ids gives its logits."""
    case, told = golden.tensors("itm"), golden.json("itm")
    model = golden.retrieval_model("tiny_itm.pth")
    ids = load_tokenizer(golden.root / "vocab.txt").encode(told["captions"], 35)
    padded = torch.nn.utils.rnn.pad_sequence([torch.tensor(text) for text in ids], batch_first=True)
    mask = torch.nn.utils.rnn.pad_sequence([torch.ones(len(text)) for text in ids], batch_first=True)
    image_embeds = model.encode_images(golden.tensors("images")["image"][told["images"]])
    assert relative_error(model.match_logits(padded, mask, image_embeds), case["itm_logits"]) < TOLERANCE
    similarity = model.project_images(image_embeds) @ model.project_texts(padded, mask).T
    assert relative_error(similarity, case["itc_similarity"]) < TOLERANCE
