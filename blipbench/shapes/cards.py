"""Cards: small pictures of one figure each, a first training set before whole scenes.

Cards play the role that ImageNet plays for the paper's image encoder: a short caption describes everything in the
picture. A card is half as wide and half as high as a scene, and its figure has as many pixels as the figures of a
scene. So cards at half the image size of scenes look like patches of scenes.

Input: (seed, split, index). Output: a `Card`, its caption ("a striped red star") and its picture, RGB.
"""

import math
from dataclasses import dataclass

from PIL import Image

from blipbench.shapes.draw import cut_out, draw_background
from blipbench.shapes.sampling import MARGIN, sample_background, sample_figure, scene_rng
from blipbench.shapes.scene import COLOURS, HELD_OUT_LOOKS, SHAPES, Background, Figure, Place
from blipbench.shapes.words import looks, pick, with_article

RADII = (0.2, 0.46)  # relative to the card's short side: from a scene's small figures to its large ones


@dataclass(frozen=True)
class Card:
    """One card. `width` and `height` are in pixels."""

    width: int
    height: int
    background: Background
    figure: Figure

    @property
    def caption(self) -> str:
        return with_article(looks(self.figure))


def sample_card(seed: int, split: str, index: int) -> Card:
    """Card number `index` of a split. No card shows a held-out combination."""
    rng = scene_rng(seed, split, index, 0)
    width, height = int(rng.integers(56, 81)), int(rng.integers(48, 73))
    shape, colour = pick(rng, [(s, c) for s in SHAPES for c in COLOURS if (s, c) not in HELD_OUT_LOOKS])
    smallest, largest = map(math.log, RADII)
    radius = math.exp(rng.uniform(smallest, largest)) * min(width, height)  # more small figures, as in scenes
    x, y = (float(rng.uniform(radius + MARGIN, side - radius - MARGIN)) for side in (width, height))
    figure = sample_figure(rng, shape, colour, (Place(x, y, radius, float(rng.uniform(-14, 14))),))
    return Card(width, height, sample_background(rng), figure)


def draw_card(card: Card) -> Image.Image:
    image = draw_background(card.background, card.width, card.height)
    (place,) = card.figure.places
    paint, alpha, corner = cut_out(card.figure, place)
    image.paste(paint, corner, alpha)
    return image
