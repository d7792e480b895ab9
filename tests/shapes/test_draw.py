"""Drawing: outlines fit their places, and pixels show the colours and textures that the scene names."""

import numpy as np
import pytest
from PIL import Image, ImageDraw
from shapes_reader import mask

from blipbench.shapes.draw import RGB, draw_scene, outline
from blipbench.shapes.sampling import sample_scene
from blipbench.shapes.scene import BULKY, SHAPES, Place

SEED = 3


@pytest.mark.parametrize("shape", SHAPES)
def test_an_outline_fills_its_circle_and_contains_its_centre(shape: str) -> None:
    polygon = outline(shape, Place(x=50, y=40, radius=30, angle=10))
    canvas = Image.new("1", (100, 80))
    ImageDraw.Draw(canvas).polygon([(x, y) for x, y in polygon], fill=1)
    assert np.hypot(*(polygon - (50, 40)).T).max() == pytest.approx(30, rel=1e-9)
    assert canvas.getpixel((50, 40))


@pytest.mark.parametrize("shape", BULKY)
def test_a_bulky_outline_holds_a_disc_of_two_fifths_of_its_radius(shape: str) -> None:
    canvas = Image.new("1", (200, 200))
    ImageDraw.Draw(canvas).polygon([(x, y) for x, y in outline(shape, Place(100, 100, 90, 0))], fill=1)
    y, x = np.mgrid[:200, :200]
    assert np.array(canvas)[np.hypot(x - 100, y - 100) <= 0.41 * 90].all()


def test_an_unknown_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="no such shape: blob"):
        outline("blob", Place(0, 0, 1, 0))


def test_filled_figures_show_their_named_colour() -> None:
    names = list(RGB)
    palette = np.array([RGB[name] for name in names], dtype=float)
    for scene in (sample_scene(SEED, "test", index) for index in range(80)):
        pixels = np.asarray(draw_scene(scene), dtype=float)
        for order, figure in enumerate(scene.figures):
            if figure.texture == "outlined":
                continue
            later = [mask(scene, other) for other in scene.figures[order + 1 :]]
            visible = mask(scene, figure) & ~np.any([np.zeros_like(mask(scene, figure)), *later], axis=0)
            nearest = np.linalg.norm(pixels[visible][:, None] - palette, axis=2).argmin(axis=1)  # [visible pixels]
            assert names[np.bincount(nearest).argmax()] == figure.colour


def test_a_solid_figure_has_its_colour_at_the_centre() -> None:
    solid = [
        (scene, figure)
        for scene in (sample_scene(SEED, "val", index) for index in range(60))
        for figure in scene.figures
        if figure.texture == "solid" and scene.focus.kind not in ("inside", "behind")
    ]
    assert len(solid) > 20
    for scene, figure in solid:
        image = draw_scene(scene)
        for place in figure.places:
            pixel = np.array(image.getpixel((round(place.x), round(place.y))))
            assert np.abs(pixel - np.array(RGB[figure.colour]) * figure.shade).max() <= 4


def test_an_outlined_figure_shows_the_background_within() -> None:
    scene = next(
        scene
        for scene in (sample_scene(SEED, "val", index) for index in range(200))
        if scene.background.kind == "plain"
        and any(f.texture == "outlined" and f.shape == "square" for f in scene.figures)
        if scene.focus.kind != "inside"
    )
    place = next(f for f in scene.figures if f.texture == "outlined" and f.shape == "square").places[0]
    pixel = np.array(draw_scene(scene).getpixel((round(place.x), round(place.y))))
    assert np.abs(pixel - np.array(scene.background.colour)).max() <= 1


def test_edges_are_antialiased() -> None:
    scene = next(
        scene
        for scene in (sample_scene(SEED, "val", index) for index in range(200))
        if scene.background.kind == "plain" and all(figure.texture == "solid" for figure in scene.figures)
    )
    colours = {colour for _, colour in draw_scene(scene).getcolors(scene.width * scene.height) or []}
    assert len(colours) > 10 * (len(scene.figures) + 1)
