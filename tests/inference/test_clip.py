"""CLIP and SigLIP as retrieval models against transformers' own features of its own processor's outputs."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from goldens import Golden, relative_error
from PIL import Image
from tiny_clip import IMAGE_SIZE, MAX_TOKENS, make_dual_encoder

from blipbench.data.loader import Squares, load_pixels
from blipbench.device import make_runtime
from blipbench.inference.clip import ClipRunner
from blipbench.models.clip import FAMILIES, load_clip

TOLERANCE = 1e-5
TEXTS = [
    "a white bar near the circle",
    "",
    "two circles on a yellow square, and a bar in the white image with a circle near the square",
    "the square",
    "there is a circle",
    "the circle",
]


@pytest.fixture(scope="module", params=FAMILIES)
def runner(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ClipRunner:
    folder = make_dual_encoder(request.param, tmp_path_factory.mktemp("models") / request.param)
    return ClipRunner(load_clip(folder), make_runtime("cpu", "fp32"))


@pytest.fixture(scope="module")
def pixels(golden: Golden, runner: ClipRunner) -> torch.Tensor:
    """uint8 [18, 3, 32, 32] of all golden pictures: RGB, grey, with alpha, with a palette."""
    sources = [(path,) for path in golden.pictures()]
    (batch,) = load_pixels(sources, Squares(IMAGE_SIZE, 99, runner.vision.fit), 0)
    return batch.pixels


def features(golden: Golden, runner: ClipRunner) -> tuple[torch.Tensor, torch.Tensor]:
    """What transformers makes of the pictures and TEXTS by itself, unit norm."""
    checkpoint = runner.checkpoint
    pictures = [Image.open(path).convert("RGB") for path in golden.pictures()]
    how: dict[str, Any] = {"truncation": True, "max_length": checkpoint.max_tokens, "return_tensors": "pt"}
    padding = "max_length" if checkpoint.kind == "siglip" else True
    with torch.inference_mode():
        model = checkpoint.model
        images = model.get_image_features(**checkpoint.processor(images=pictures, return_tensors="pt")).pooler_output
        tokens = checkpoint.tokenizer(TEXTS, padding=padding, **how)
        if checkpoint.kind == "siglip":
            tokens = {"input_ids": tokens["input_ids"]}  # it was trained without a mask
        texts = model.get_text_features(**tokens).pooler_output
    return F.normalize(images, dim=-1), F.normalize(texts, dim=-1)


def test_similarities_equal_those_of_transformers(golden: Golden, runner: ClipRunner, pixels: torch.Tensor) -> None:
    images, texts = features(golden, runner)
    ours, _ = runner.embed_images(pixels)
    bank = runner.bank(runner.tokenize(TEXTS, 99))
    similarity = torch.from_numpy(ours @ runner.embed_texts(bank, np.arange(len(TEXTS))).T)
    assert relative_error(similarity, images @ texts.T) < TOLERANCE
    assert similarity.std() > 0.01


def test_texts_may_be_asked_for_in_any_order(runner: ClipRunner) -> None:
    bank = runner.bank(runner.tokenize(TEXTS, 99))
    in_order = runner.embed_texts(bank, np.arange(len(TEXTS)))
    assert np.allclose(runner.embed_texts(bank, np.array([4, 0, 2])), in_order[[4, 0, 2]], atol=1e-6)


def test_the_plain_way_agrees(runner: ClipRunner, pixels: torch.Tensor) -> None:
    ids = runner.tokenize(TEXTS, 99)
    images, _ = runner.embed_images(pixels[:1])
    fast = images @ runner.embed_texts(runner.bank(ids), np.arange(len(ids))).T
    match, plain = runner.plain_scores(pixels[:1], ids)
    assert match is None
    assert relative_error(torch.from_numpy(fast[0]), plain) < TOLERANCE


def test_a_clip_is_the_mean_of_its_frames(runner: ClipRunner, pixels: torch.Tensor) -> None:
    clip, tokens = runner.embed_images(pixels[None, :3])
    projected = [runner._encode_images(runner.plain, pixels[[i]])[0] for i in range(3)]
    expected = F.normalize(torch.cat(projected).mean(0), dim=-1)
    assert relative_error(torch.from_numpy(clip[0]), expected) < TOLERANCE
    assert tokens.shape[:2] == (
        1,
        3 * runner.checkpoint.model.vision_model(pixels[:1].float()).last_hidden_state.shape[1],
    )


def test_bfloat16_stays_near_float32(runner: ClipRunner, pixels: torch.Tensor) -> None:
    half = ClipRunner(runner.checkpoint, make_runtime("cpu", "bf16"))
    (ours, _), (expected, _) = half.embed_images(pixels), runner.embed_images(pixels)
    assert relative_error(torch.from_numpy(ours), torch.from_numpy(expected)) < 0.1


def test_small_batches_give_the_same(runner: ClipRunner, pixels: torch.Tensor) -> None:
    small = ClipRunner(runner.checkpoint, dataclasses.replace(runner.runtime, batch_tokens=20))
    assert small.vision.batch == 1
    ids = runner.tokenize(TEXTS, 99)
    which = np.arange(len(ids))
    assert np.allclose(small.embed_images(pixels)[0], runner.embed_images(pixels)[0], atol=1e-6)
    expected = runner.embed_texts(runner.bank(ids), which)
    assert np.allclose(small.embed_texts(small.bank(ids), which), expected, atol=1e-6)


class TestPreprocessing:
    """A picture three times as wide as high: a red square between two blue ones."""

    @pytest.fixture
    def wide(self, tmp_path: Path) -> Path:
        picture = Image.new("RGB", (192, 64), "blue")
        picture.paste("red", (64, 0, 128, 64))
        picture.save(tmp_path / "wide.png")
        return tmp_path / "wide.png"

    def seen(self, runner: ClipRunner, wide: Path) -> torch.Tensor:
        (batch,) = load_pixels([(wide,)], Squares(IMAGE_SIZE, 1, runner.vision.fit), 0)
        assert batch.pixels.dtype == torch.uint8 and batch.pixels.shape == (1, 3, IMAGE_SIZE, IMAGE_SIZE)
        return batch.pixels[0, :, IMAGE_SIZE // 2]  # [3, S]: the middle row

    def test_clip_sees_the_middle_and_siglip_the_whole_squeezed(self, runner: ClipRunner, wide: Path) -> None:
        red, _, blue = self.seen(runner, wide)
        sees_blue = bool((blue[:4] > 200).all() and (red[:4] < 50).all())
        assert sees_blue == (runner.checkpoint.kind == "siglip")

    def test_worker_processes_prepare_images_the_same_way(self, runner: ClipRunner, wide: Path) -> None:
        alone, shared = (
            next(iter(load_pixels([(wide,)], Squares(IMAGE_SIZE, 1, runner.vision.fit), w))) for w in (0, 1)
        )
        assert torch.equal(alone.pixels, shared.pixels)


def test_clip_texts_end_where_they_end_and_siglip_texts_are_filled_up(runner: ClipRunner) -> None:
    lengths = {len(ids) for ids in runner.tokenize(TEXTS, 99)}
    longest = MAX_TOKENS[runner.checkpoint.kind]
    assert max(lengths) == longest
    assert (len(lengths) == 1) == (runner.checkpoint.kind == "siglip")


def test_flops_grow_with_frames_and_length(runner: ClipRunner) -> None:
    assert runner.image_flops(8) == 8 * runner.image_flops(1) > 0
    short, long = runner.text_flops([4, 8])
    assert long > 2 * short
