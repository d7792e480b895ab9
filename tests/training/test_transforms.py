"""The training augmentation: all chances come from its seed."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from blipbench.training.transforms import OPERATIONS, augment, example_seed


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    noise = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((120, 80), Image.Resampling.BICUBIC)


def test_the_same_seed_gives_the_same_pixels_whatever_was_drawn_before(picture: Image.Image) -> None:
    first = augment(picture, 32, 0.5, seed=7)
    torch.rand(3)
    before = torch.get_rng_state()
    assert torch.equal(first, augment(picture, 32, 0.5, seed=7))
    assert torch.equal(before, torch.get_rng_state())
    assert first.shape == (3, 32, 32) and first.dtype == torch.uint8


def test_epochs_and_examples_have_seeds_of_their_own(picture: Image.Image) -> None:
    seeds = {example_seed(seed, epoch, example) for seed in (0, 1) for epoch in range(3) for example in range(50)}
    assert len(seeds) == 2 * 3 * 50
    first, second = (augment(picture, 32, 0.5, example_seed(0, epoch, 1)) for epoch in (0, 1))
    assert not torch.equal(first, second)


def test_a_translation_moves_by_five_pixels_and_fills_with_grey(picture: Image.Image) -> None:
    before = np.array(picture)
    moved = np.array(OPERATIONS["TranslateX"](picture, 1.0))
    assert (moved[:, :-5] == before[:, 5:]).all() and (moved[:, -5:] == 128).all()


def test_a_shear_moves_a_row_by_its_height_times_the_factor(picture: Image.Image) -> None:
    smooth = picture.filter(ImageFilter.GaussianBlur(4))
    before = np.array(smooth).astype(int)
    sheared = np.array(OPERATIONS["ShearX"](smooth, 1.0)).astype(int)
    assert np.abs(sheared[0, 1:] - before[0, 1:]).mean() < 1
    assert np.abs(sheared[40, 7:] - before[40, 1:-6]).mean() < 1 < np.abs(sheared[40] - before[40]).mean()  # 40 * 0.15


@pytest.mark.parametrize("name", ["Identity", "Brightness", "Sharpness"])
def test_at_magnitude_five_these_change_nothing_as_in_the_reference(picture: Image.Image, name: str) -> None:
    assert (np.array(OPERATIONS[name](picture, 1.0)) == np.array(picture)).all()
