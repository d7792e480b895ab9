"""The web's captions: as many are no good as is said, and each is what the truth file says of it."""

from collections import Counter

import pytest
from shapes_reader import is_true, parse

from blipbench.shapes.sampling import sample_scene
from blipbench.shapes.scene import Scene
from blipbench.shapes.web import NOISE, WebCaption, web_caption

SEED = 3
IMAGES = 600


@pytest.fixture(scope="module")
def found() -> list[tuple[Scene, WebCaption]]:
    scenes = [sample_scene(SEED, "web", index) for index in range(IMAGES)]
    return [(scene, web_caption(scene, SEED, index)) for index, scene in enumerate(scenes)]


def test_the_stated_share_is_noise_half_wrong_and_half_irrelevant(found: list[tuple[Scene, WebCaption]]) -> None:
    shares = Counter(caption.truth for _, caption in found)
    assert shares["wrong"] / IMAGES == pytest.approx(NOISE / 2, abs=0.04)
    assert shares["irrelevant"] / IMAGES == pytest.approx(NOISE / 2, abs=0.04)


def test_clean_captions_are_true_of_their_image_and_wrong_ones_are_not(
    found: list[tuple[Scene, WebCaption]],
) -> None:
    for scene, caption in found:
        if caption.truth != "irrelevant":
            assert is_true(parse(caption.caption), scene) == (caption.truth == "clean"), caption


def test_irrelevant_captions_describe_nothing(found: list[tuple[Scene, WebCaption]]) -> None:
    for _, caption in found:
        if caption.truth == "irrelevant":
            with pytest.raises(AssertionError, match="cannot parse"):
                parse(caption.caption)
