"""Scenes: twins share their figures and differ in one relation; figures keep to the image and to themselves."""

import numpy as np
import pytest
from blipbench.data.shapes_world import COLOURS, KINDS, SHAPES, TEXTURES, Scene, sample_scene
from shapes_reader import mask

SEED = 3
SCENES = 240


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [sample_scene(SEED, "test", index) for index in range(SCENES)]


def test_half_of_the_scenes_have_a_twin(scenes: list[Scene]) -> None:
    assert sum(scene.has_twin for scene in scenes) == SCENES // 2


def test_twins_have_the_same_figures_and_background(scenes: list[Scene]) -> None:
    for first, second in zip(scenes[0::4], scenes[1::4], strict=True):
        looks = [{(f.shape, f.colour, f.texture, f.shade, f.grain) for f in scene.figures} for scene in (first, second)]
        radii = [sorted(p.radius for f in scene.figures for p in f.places) for scene in (first, second)]
        assert looks[0] == looks[1]
        assert radii[0] == radii[1]
        assert (first.background, first.width, first.height) == (second.background, second.width, second.height)


def test_twins_turn_the_same_relation_round(scenes: list[Scene]) -> None:
    for first, second in zip(scenes[0::4], scenes[1::4], strict=True):
        kind = first.focus.kind
        subject = {scene: scene.figures[scene.focus.subject].colour for scene in (first, second)}
        other = {scene: scene.figures[scene.focus.object].colour for scene in (first, second)}
        assert second.focus.kind == kind
        assert (subject[first], other[first]) == (other[second], subject[second])


def test_every_relation_shape_colour_and_texture_occurs(scenes: list[Scene]) -> None:
    figures = [figure for scene in scenes for figure in scene.figures]
    assert {scene.focus.kind for scene in scenes} == set(KINDS)
    assert {figure.shape for figure in figures} == set(SHAPES)
    assert {figure.colour for figure in figures} == set(COLOURS)
    assert {figure.texture for figure in figures} == set(TEXTURES)
    assert {len(figure.places) for figure in figures} == {1, 2, 3, 4}


def test_figures_lie_within_the_image(scenes: list[Scene]) -> None:
    for scene in scenes:
        for figure in scene.figures:
            left, top, right, bottom = figure.box
            assert 0 <= left < right <= scene.width
            assert 0 <= top < bottom <= scene.height


def test_figures_overlap_only_where_the_scene_is_about_it(scenes: list[Scene]) -> None:
    for scene in scenes:
        covered = np.sum([mask(scene, figure) for figure in scene.figures], axis=0).max()
        assert covered == (2 if scene.focus.kind in ("inside", "behind") else 1)


def test_seed_split_and_index_each_give_another_scene() -> None:
    keys = [(0, "test", 2), (1, "test", 2), (0, "train", 2), (0, "test", 3)]
    assert len({sample_scene(*key) for key in keys}) == len(keys)
