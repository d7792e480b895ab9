"""Noisy captions like those on the web, one per image: the input of CapFilt.

A share NOISE of the captions is noise. Half of it is wrong: the caption describes another scene, or this scene with
other colours or shapes. The other half is irrelevant: file names, advertisements. A separate file records the truth, so
that one can count what a filter kept. Input: a scene and its number. Output: a `WebCaption`.
"""

import dataclasses
from typing import Literal

import numpy as np

from blipbench.shapes.captions import caption_scene
from blipbench.shapes.sampling import sample_scene, scene_rng
from blipbench.shapes.scene import COLOURS, HELD_OUT_LOOKS, SHAPES, Scene
from blipbench.shapes.words import pick

Truth = Literal["clean", "wrong", "irrelevant"]

NOISE = 0.4  # share of captions that are wrong or irrelevant, half of each
SPLIT = "web"

JUNK = (
    "img {number} photo free download",
    "dsc {number} jpg",
    "buy now best price",
    "click here to see more pictures",
    "stock photo number {number}",
    "free wallpaper for your phone",
    "my holiday in the summer of {year}",
    "new collection now on sale",
    "follow us for more",
    "image not available",
    "page {page} of our catalogue",
    "share this picture with your friends",
    "best offer of the week only {price} dollars",
    "thumbnail {number} large file",
)


@dataclasses.dataclass(frozen=True)
class WebCaption:
    caption: str
    truth: Truth


def web_caption(scene: Scene, seed: int, index: int) -> WebCaption:
    """The caption of image `index` of the web set."""
    rng = scene_rng(seed, SPLIT, index, 1)
    drawn = rng.random()
    if drawn < NOISE / 2:
        return WebCaption(_irrelevant(rng), "irrelevant")
    if drawn < NOISE:
        return WebCaption(_any_caption(_another(scene, seed, index, rng), rng), "wrong")
    return WebCaption(_any_caption(scene, rng), "clean")


def _any_caption(scene: Scene, rng: np.random.Generator) -> str:
    return pick(rng, caption_scene(scene, rng))


def _another(scene: Scene, seed: int, index: int, rng: np.random.Generator) -> Scene:
    """The scene of another image (one of the next hundred), or this scene with all colours or all shapes changed."""
    if rng.random() < 0.5:
        other = index + int(rng.integers(2, 100))
        return sample_scene(seed, SPLIT, other)
    return _change_looks(scene, rng)


def _change_looks(scene: Scene, rng: np.random.Generator) -> Scene:
    """The scene with every figure's colour or shape changed, so that no caption is true. Colours stay different."""
    by_colour = rng.random() < 0.5
    taken = {figure.colour for figure in scene.figures}
    figures = []
    for figure in scene.figures:
        allowed = [
            (shape, colour)
            for shape in (SHAPES if not by_colour else (figure.shape,))
            for colour in (COLOURS if by_colour else (figure.colour,))
            if (shape, colour) not in HELD_OUT_LOOKS
            and ((by_colour and colour not in taken) or (not by_colour and shape != figure.shape))
        ]
        if allowed:
            shape, colour = pick(rng, allowed)
            taken.add(colour)
            figure = dataclasses.replace(figure, shape=shape, colour=colour)
        figures.append(figure)
    return dataclasses.replace(scene, figures=tuple(figures))


def _irrelevant(rng: np.random.Generator) -> str:
    return pick(rng, JUNK).format(
        number=int(rng.integers(1, 10_000)),
        year=int(rng.integers(2001, 2025)),
        page=int(rng.integers(1, 100)),
        price=int(rng.integers(2, 100)),
    )
