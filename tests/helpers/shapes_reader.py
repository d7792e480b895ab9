"""Reads a shapes caption from its words alone and checks it against masks of the drawn outlines.

Neither the sampler's arithmetic nor the captioner's choices are trusted: a caption wrong about its picture shows.
"""

import dataclasses
import functools
import re

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from blipbench.shapes.draw import outline
from blipbench.shapes.scene import COLOURS, SHAPES, Figure, Scene

NUMBER = {"a": 1, "an": 1, "two": 2, "three": 3}
MENTION = re.compile(
    r"\b(?P<number>an?|the|two|three) (?:(?P<size>small|large|bigger|larger) )?"
    r"(?:(?P<texture>plain|striped|outlined) )?"
    rf"(?P<colour>{'|'.join(COLOURS)}) (?P<shape>{'|'.join(SHAPES)})(?:e?s)?\b"
)
# Where M is a mention: what "M phrase M" claims, and whether the second M is the relation's subject.
PHRASES = {
    "to the left of": ("left", False),
    "left of": ("left", False),
    "to the right of": ("left", True),
    "right of": ("left", True),
    "above": ("above", False),
    "higher than": ("above", False),
    "below": ("above", True),
    "lower than": ("above", True),
    "inside": ("inside", False),
    "within": ("inside", False),
    "around": ("inside", True),
    "surrounding": ("inside", True),
    "behind": ("behind", False),
    "partly covered by": ("behind", False),
    "in front of": ("behind", True),
    "partly covering": ("behind", True),
    "bigger than": ("bigger", False),
    "larger than": ("bigger", False),
    "smaller than": ("bigger", True),
}
WHOLE = {
    "M on the left and M on the right": ("left", False),
    "M on the right and M on the left": ("left", True),
    "M at the top and M at the bottom": ("above", False),
    "M at the bottom and M at the top": ("above", True),
    "M with M inside it": ("inside", True),
    "M holding M": ("inside", True),
    "M with M behind it": ("behind", True),
    "M and M": ("bigger", True),  # "a red star and a bigger blue moon"; without "bigger" it is a caption of nouns
    "M with M": ("bigger", True),
}
BACKDROP = re.compile(r" on a (light|dark)(?: (striped|checkered))? background$")


@dataclasses.dataclass(frozen=True)
class Mention:
    number: str
    size: str | None
    texture: str | None
    colour: str
    shape: str


@dataclasses.dataclass(frozen=True)
class Claims:
    """All that a caption says: who is there, what holds between them (subject, object), and the backdrop."""

    mentions: list[Mention]
    relations: list[tuple[str, Mention, Mention]]
    backdrop: tuple[str, str | None] | None
    total: int | None


def parse(caption: str) -> Claims:
    backdrop = BACKDROP.search(caption)
    body = caption[: backdrop.start()] if backdrop else caption
    found = [Mention(*match.group("number", "size", "texture", "colour", "shape")) for match in MENTION.finditer(body)]
    skeleton = re.sub(r"^there (is|are) ", "", MENTION.sub("M", body))
    skeleton = re.sub(r"^M (is|are) ", "M ", skeleton)
    tone = (backdrop.group(1), backdrop.group(2)) if backdrop else None
    counted = re.fullmatch(r"(three|four|five|six|seven) shapes including M(?: and M)*", skeleton)
    compared = any(mention.size in ("bigger", "larger") for mention in found)
    if counted or (re.fullmatch(r"M(?: and M)*", skeleton) and not compared):
        total = ["three", "four", "five", "six", "seven"].index(counted.group(1)) + 3 if counted else None
        return Claims(found, [], tone, total)
    relations = []
    further = re.fullmatch(rf"(.+) and M ({'|'.join(PHRASES)}) M", skeleton)
    if further and skeleton not in WHOLE:
        skeleton = further.group(1)
        relations.append(_relation(*PHRASES[further.group(2)], found[2], found[3]))
    between = re.fullmatch(r"M (.+) M", skeleton)
    claim = WHOLE.get(skeleton) or (PHRASES.get(between.group(1)) if between else None)
    assert claim is not None, f"cannot parse: {caption}"
    relations.append(_relation(*claim, found[0], found[1]))
    return Claims(found, relations, tone, None)


def _relation(kind: str, is_reversed: bool, first: Mention, second: Mention) -> tuple[str, Mention, Mention]:
    return (kind, second, first) if is_reversed else (kind, first, second)


@functools.cache
def mask(scene: Scene, figure: Figure) -> npt.NDArray[np.bool_]:
    """[height, width]: the area within the drawn outline of a figure, holes of outlined figures included."""
    canvas = Image.new("1", (scene.width, scene.height))
    for place in figure.places:
        ImageDraw.Draw(canvas).polygon([(x, y) for x, y in outline(figure.shape, place)], fill=1)
    return np.array(canvas)


def extent(scene: Scene, figure: Figure) -> tuple[int, int, int, int]:
    rows, columns = np.nonzero(mask(scene, figure))
    return columns.min(), rows.min(), columns.max(), rows.max()


def single_area(scene: Scene, figure: Figure) -> float:
    return float(mask(scene, figure).sum()) / len(figure.places)


def holds(scene: Scene, kind: str, subject: Figure, other: Figure) -> bool:
    a, b = mask(scene, subject), mask(scene, other)
    if kind == "left":
        return bool(extent(scene, subject)[2] < extent(scene, other)[0])
    if kind == "above":
        return bool(extent(scene, subject)[3] < extent(scene, other)[1])
    if kind == "inside":
        return bool((a & ~b).sum() == 0 and a.sum() < b.sum())
    if kind == "behind":
        hidden = (a & b).sum() / a.sum()
        return bool(0.01 < hidden < 0.6 and scene.figures.index(subject) < scene.figures.index(other))
    return single_area(scene, subject) > 1.1 * single_area(scene, other)


def find(scene: Scene, mention: Mention) -> Figure | None:
    for figure in scene.figures:
        texture = {"plain": "solid", None: figure.texture}.get(mention.texture, mention.texture)
        number = len(figure.places) if mention.number == "the" else NUMBER[mention.number]
        named = (mention.colour, mention.shape, texture, number)
        if (figure.colour, figure.shape, figure.texture, len(figure.places)) == named:
            left, top, right, bottom = extent(scene, dataclasses.replace(figure, places=figure.places[:1]))
            share = max(right - left, bottom - top) / min(scene.width, scene.height)
            fits = {"small": share < 0.28, "large": share > 0.29}.get(mention.size or "", True)
            return figure if fits else None
    return None


def is_true(claims: Claims, scene: Scene) -> bool:
    figures: dict[Mention, Figure] = {}
    for mention in claims.mentions:
        figure = find(scene, mention)
        if figure is None:
            return False
        figures[mention] = figure
    if claims.backdrop:
        tone, kind = claims.backdrop
        if tone != scene.background.tone or kind not in (None, scene.background.kind):
            return False
    if claims.total and claims.total != sum(len(figure.places) for figure in scene.figures):
        return False
    return all(holds(scene, kind, figures[a], figures[b]) for kind, a, b in claims.relations)
