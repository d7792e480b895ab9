"""Sentences about two scenes: their labels hold, read by other means, and the words alone do not give them away."""

import itertools
import math
import re
from collections import Counter

import numpy as np
import pytest
from shapes_reader import PHRASES, holds

from blipbench.shapes.sampling import sample_scene
from blipbench.shapes.scene import COLOURS, HELD_OUT_LOOKS, SHAPES, Scene
from blipbench.shapes.statements import KINDS, Claim, make_claims
from blipbench.shapes.words import NUMBERS

SEED = 3
SCENES = 400

LOOK = rf"an? (?:(plain|striped|outlined) )?(?:({'|'.join(COLOURS)}) )?({'|'.join(SHAPES)}|shape)"


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [sample_scene(SEED, "test", index) for index in range(SCENES)]


@pytest.fixture(scope="module")
def claims(scenes: list[Scene]) -> list[Claim]:
    return make_claims(scenes, np.random.default_rng(0), 3)


def number(scene: Scene, texture: str | None, colour: str | None, shape: str) -> int:
    return sum(
        len(figure.places)
        for figure in scene.figures
        if texture in (None, figure.texture) and colour in (None, figure.colour) and shape in ("shape", figure.shape)
    )


def reads_true(sentence: str, pair: tuple[Scene, Scene]) -> bool:
    """From the sentence's words and the drawn outlines."""

    def match(pattern: str) -> tuple[str, ...] | None:
        found = re.fullmatch(pattern, sentence)
        return found.groups() if found else None

    side = {"left": 0, "right": 1}
    if words := match(rf"the (left|right) image contains {LOOK}"):
        return number(pair[side[words[0]]], *words[1:]) > 0
    if words := match(rf"the (left|right) image contains {LOOK} and the (?:left|right) image does not"):
        return number(pair[side[words[0]]], *words[1:]) > 0 == number(pair[1 - side[words[0]]], *words[1:])
    if words := match(rf"only one of the images contains {LOOK}"):
        return sum(number(scene, *words) > 0 for scene in pair) == 1
    if words := match(rf"both images contain {LOOK}"):
        return all(number(scene, *words) > 0 for scene in pair)
    if words := match(rf"there (?:is|are) (\w+) ({'|'.join(SHAPES)})(?:e?s)? in total"):
        return sum(number(scene, None, None, words[1]) for scene in pair) == NUMBERS.index(words[0])
    if words := match(r"the (left|right) image contains more shapes than the (?:left|right) image"):
        more, less = pair[side[words[0]]], pair[1 - side[words[0]]]
        return number(more, None, None, "shape") > number(less, None, None, "shape")
    if words := match(r"both images have a (light|dark) background"):
        return all(scene.background.tone == words[0] for scene in pair)
    if words := match(r"the (left|right) image has a (\w+) background and the (?:\w+) image has a (\w+) background"):
        first, second = pair[side[words[0]]], pair[1 - side[words[0]]]
        return (first.background.tone, second.background.tone) == words[1:]
    words = match(rf"{LOOK} is ({'|'.join(sorted(PHRASES, key=len, reverse=True))}) {LOOK} in one of the images")
    assert words, sentence
    return any(
        holds(scene, PHRASES[words[3]][0], first, second)
        for scene in pair
        for first in scene.figures
        for second in scene.figures
        if (first.colour, first.shape, second.colour, second.shape) == (words[1], words[2], words[5], words[6])
    )


def test_every_label_is_what_the_pictures_say(scenes: list[Scene], claims: list[Claim]) -> None:
    wrong = [
        claim
        for claim in claims
        if reads_true(claim.sentence, (scenes[claim.left], scenes[claim.right])) != claim.is_true
    ]
    assert wrong == []


def test_half_of_the_sentences_are_true_of_every_kind(claims: list[Claim]) -> None:
    assert len(claims) > 1100
    for kind, _, _ in KINDS:
        labels = [claim.is_true for claim in claims if claim.kind == kind]
        assert 0.35 < np.mean(labels) < 0.65
    assert 0.47 < np.mean([claim.is_true for claim in claims]) < 0.53


def test_a_false_sentence_names_no_held_out_combination(claims: list[Claim]) -> None:
    names = {f" {colour} {shape}" for shape, colour in HELD_OUT_LOOKS}
    assert [claim for claim in claims if any(name in f" {claim.sentence}" for name in names)] == []


def test_words_alone_tell_little_of_the_label(claims: list[Claim]) -> None:
    """A naive Bayes classifier of words and pairs of words, learnt from other scenes."""
    train = make_claims([sample_scene(SEED, "train", index) for index in range(800)], np.random.default_rng(1), 5)

    def features(sentence: str) -> set[str]:
        words = sentence.split()
        return {*words, *map("_".join, itertools.pairwise(words))}

    counts = {label: Counter[str]() for label in (True, False)}
    for claim in train:
        counts[claim.is_true].update(features(claim.sentence))

    def likelier(sentence: str) -> bool:
        score = {label: sum(math.log(counts[label][word] + 1) for word in features(sentence)) for label in counts}
        return score[True] > score[False]

    assert np.mean([likelier(claim.sentence) == claim.is_true for claim in claims]) < 0.62


def test_a_single_scene_can_be_paired_with_itself_alone() -> None:
    claims = make_claims([sample_scene(SEED, "test", 0)], np.random.default_rng(0), 20)
    assert claims
    assert {(claim.left, claim.right) for claim in claims} == {(0, 0)}
