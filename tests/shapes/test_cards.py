"""Cards: one figure each, as large in pixels as a scene's figures, nothing held out, and a caption that names it."""

import numpy as np
import pytest

from blipbench.shapes.cards import Card, draw_card, sample_card
from blipbench.shapes.draw import RGB
from blipbench.shapes.sampling import sample_scene
from blipbench.shapes.scene import COLOURS, HELD_OUT_LOOKS, SHAPES, TEXTURES

SEED = 3
CARDS = [sample_card(SEED, "cards", index) for index in range(400)]


def radius(card: Card) -> float:
    (place,) = card.figure.places
    return place.radius


def test_every_shape_colour_and_texture_occurs_and_nothing_held_out() -> None:
    assert {card.figure.shape for card in CARDS} == set(SHAPES)
    assert {card.figure.colour for card in CARDS} == set(COLOURS)
    assert {card.figure.texture for card in CARDS} == set(TEXTURES)
    assert not {(card.figure.shape, card.figure.colour) for card in CARDS} & HELD_OUT_LOOKS


def test_a_caption_names_all_there_is() -> None:
    for card in CARDS:
        figure = card.figure
        texture = [] if figure.texture == "solid" else [figure.texture]
        assert card.caption.split()[1:] == [*texture, figure.colour, figure.shape]
        assert card.caption.split()[0] == ("an" if card.caption.split()[1][0] in "aeiou" else "a")


def test_figures_lie_within_the_card() -> None:
    for card in CARDS:
        left, top, right, bottom = card.figure.box
        assert 0 <= left < right <= card.width
        assert 0 <= top < bottom <= card.height


def test_figures_are_as_many_pixels_wide_as_those_of_scenes() -> None:
    scenes = [sample_scene(SEED, "train", index) for index in range(200)]
    in_scenes = [p.radius for scene in scenes for figure in scene.figures for p in figure.places]
    assert np.median([radius(card) for card in CARDS]) == pytest.approx(np.median(in_scenes), rel=0.2)


def test_a_filled_figure_shows_its_colour_at_its_centre() -> None:
    solid = [card for card in CARDS if card.figure.texture == "solid"]
    for card in solid:
        (place,) = card.figure.places
        pixel = np.array(draw_card(card).getpixel((round(place.x), round(place.y))))
        assert np.abs(pixel - np.array(RGB[card.figure.colour]) * card.figure.shade).max() <= 4
