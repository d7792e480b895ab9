"""Scenes: twins differ in one relation alone, figures keep to the image, held-out combinations to their own split."""

import numpy as np
import pytest
from shapes_reader import mask

from blipbench.shapes.sampling import TWINS_EVERY, sample_scene
from blipbench.shapes.scene import COLOURS, DOMAINS, HELD_OUT_LOOKS, KINDS, SHAPES, TEXTURES, Scene, domain_of

SEED = 3
SCENES = 240


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [sample_scene(SEED, "test", index) for index in range(SCENES)]


def test_a_quarter_of_the_scenes_have_a_twin(scenes: list[Scene]) -> None:
    assert sum(scene.has_twin for scene in scenes) == SCENES // 4


def test_twins_have_the_same_figures_and_background(scenes: list[Scene]) -> None:
    for first, second in zip(scenes[0::TWINS_EVERY], scenes[1::TWINS_EVERY], strict=True):
        looks = [{(f.shape, f.colour, f.texture, f.shade, f.grain) for f in scene.figures} for scene in (first, second)]
        radii = [sorted(p.radius for f in scene.figures for p in f.places) for scene in (first, second)]
        assert looks[0] == looks[1]
        assert radii[0] == radii[1]
        assert (first.background, first.width, first.height) == (second.background, second.width, second.height)


def test_twins_turn_the_same_relation_round(scenes: list[Scene]) -> None:
    for first, second in zip(scenes[0::TWINS_EVERY], scenes[1::TWINS_EVERY], strict=True):
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
    assert {len(figure.places) for figure in figures} == {1, 2, 3}


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


@pytest.mark.parametrize("split", ["train", "val", "test", "web"])
def test_ordinary_splits_never_show_a_held_out_combination(split: str) -> None:
    assert {domain_of(sample_scene(SEED, split, index)) for index in range(400)} == {"in-domain"}


def test_nocaps_scenes_are_of_the_three_domains_in_turn() -> None:
    found = [domain_of(sample_scene(SEED, "nocaps", index)) for index in range(300)]
    assert found == [DOMAINS[index % 3] for index in range(300)]


def test_held_out_pairs_name_every_shape_and_colour_once() -> None:
    assert sorted(shape for shape, _ in HELD_OUT_LOOKS) == sorted(SHAPES)
    assert sorted(colour for _, colour in HELD_OUT_LOOKS) == sorted(COLOURS)


def test_near_domain_scenes_have_one_held_out_figure_and_out_domain_scenes_no_other() -> None:
    for index in range(300):
        scene = sample_scene(SEED, "nocaps", index)
        held_out = sum((figure.shape, figure.colour) in HELD_OUT_LOOKS for figure in scene.figures)
        assert held_out == (0, 1, len(scene.figures))[index % 3]
