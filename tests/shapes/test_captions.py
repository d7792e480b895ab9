"""Captions: five a scene, true of its picture, false of its twin's, and seldom true of any other."""

import re
from collections import Counter

import numpy as np
import pytest
from shapes_reader import is_true, parse

from blipbench.shapes.captions import NOCAPS_CAPTIONS, caption_scene, plain_caption
from blipbench.shapes.sampling import TWINS_EVERY, sample_scene, scene_rng
from blipbench.shapes.scene import Scene

SEED = 3
SCENES = 240


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [sample_scene(SEED, "test", index) for index in range(SCENES)]


@pytest.fixture(scope="module")
def captions(scenes: list[Scene]) -> list[tuple[str, ...]]:
    return [caption_scene(scene, scene_rng(SEED, "test", index, 1)) for index, scene in enumerate(scenes)]


def test_every_image_has_five_different_captions(captions: list[tuple[str, ...]]) -> None:
    assert all(len(set(texts)) == len(texts) == 5 for texts in captions)


def test_captions_are_lower_case_words_and_at_most_thirty(captions: list[tuple[str, ...]]) -> None:
    for text in (text for texts in captions for text in texts):
        assert re.fullmatch(r"[a-z]+( [a-z]+)*", text)
        assert len(text.split()) <= 30


def test_every_caption_is_true_of_its_image(scenes: list[Scene], captions: list[tuple[str, ...]]) -> None:
    false = [
        text for scene, texts in zip(scenes, captions, strict=True) for text in texts if not is_true(parse(text), scene)
    ]
    assert false == []


def test_no_caption_is_true_of_the_twin(scenes: list[Scene], captions: list[tuple[str, ...]]) -> None:
    for start in range(0, SCENES, TWINS_EVERY):
        for index, twin in ((start, start + 1), (start + 1, start)):
            assert [text for text in captions[index] if is_true(parse(text), scenes[twin])] == []


def test_most_captions_name_a_relation_and_some_only_nouns(captions: list[tuple[str, ...]]) -> None:
    share = np.mean([bool(parse(text).relations) for texts in captions for text in texts])
    assert 0.8 < share < 0.95


def test_under_three_percent_of_captions_belong_to_several_of_a_thousand_images() -> None:
    texts = [
        text
        for index in range(1000)
        for text in caption_scene(sample_scene(SEED, "test", index), scene_rng(SEED, "test", index, 1))
    ]
    counts = Counter(texts)
    assert sum(count for count in counts.values() if count > 1) / len(texts) < 0.03


def test_under_five_percent_of_captions_are_true_of_another_image(
    scenes: list[Scene], captions: list[tuple[str, ...]]
) -> None:
    parsed = [(index, parse(text)) for index, texts in enumerate(captions) for text in texts]
    ambiguous = [
        any(other != index and is_true(claims, scene) for other, scene in enumerate(scenes)) for index, claims in parsed
    ]
    assert np.mean(ambiguous) < 0.05


def test_the_first_caption_says_the_focus_in_the_plainest_words(
    scenes: list[Scene], captions: list[tuple[str, ...]]
) -> None:
    assert [texts[0] for texts in captions] == [plain_caption(scene) for scene in scenes]
    kinds = [[kind for kind, _, _ in parse(texts[0]).relations] for texts in captions]
    assert kinds == [[scene.focus.kind] for scene in scenes]


def test_nocaps_images_have_ten_different_true_captions() -> None:
    for index in range(60):
        scene = sample_scene(SEED, "nocaps", index)
        texts = caption_scene(scene, scene_rng(SEED, "nocaps", index, 1), NOCAPS_CAPTIONS)
        assert len(set(texts)) == NOCAPS_CAPTIONS
        assert [text for text in texts if not is_true(parse(text), scene)] == []
