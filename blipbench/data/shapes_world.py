"""The shapes world: what a scene is, and how scene number `index` of a split is sampled.

A scene is two to four figures (a figure is one shape, or several equal ones) on a background, built around one relation
between its first two figures: left of, above, inside, behind, bigger than. Half of the scenes come as twins: scenes 4n
and 4n + 1 have the same figures on the same background and differ only in which of the two is left of (above, inside,
...) the other. Nouns and attributes are equal, so only a model that reads relations tells twins apart.

In: (seed, split, index). Out: a `Scene` in pixel units, x to the right, y down. Every draw depends on that triple
alone, so scene 7 is the same whether 10 or 10,000 are made. Pixels come from shapes_draw.py, words from
shapes_captions.py.
"""

import dataclasses
import itertools
import math
from typing import Literal

import numpy as np

RelationKind = Literal["left", "above", "inside", "behind", "bigger"]

SPLITS = ("train", "val", "test")
KINDS: tuple[RelationKind, ...] = ("left", "above", "inside", "behind", "bigger")
SHAPES = ("circle", "square", "triangle", "star", "heart", "cross", "diamond", "moon")
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "white", "black")
TEXTURES = ("solid", "striped", "dotted", "outlined")
BACKGROUNDS = ("plain", "shaded", "grainy", "striped", "checkered")
TONES = ("light", "dark")

BULKY = ("circle", "square", "heart", "diamond")  # convex enough to hold another figure, or to be covered in part
RADII = {"small": (0.095, 0.11), "medium": (0.145, 0.17), "large": (0.22, 0.24)}  # shares of the image's short side
SMALL_AT_MOST, LARGE_AT_LEAST = 0.125, 0.2
BIGGER_RATIO = 2.0  # at twice the radius even a triangle has more area than a circle
MARGIN = 1.0  # pixels between a figure and the image's edge
GAP = 3.0  # pixels between figures that do not overlap


@dataclasses.dataclass(frozen=True)
class Place:
    """Where one shape sits: centre and circumscribed radius in pixels, rotation in degrees."""

    x: float
    y: float
    radius: float
    angle: float


@dataclasses.dataclass(frozen=True)
class Figure:
    """One shape, or several equal ones. No two figures of a scene share a colour."""

    shape: str
    colour: str
    texture: str
    shade: float  # brightness factor of the colour, 0.9 to 1
    grain: float  # direction of the texture, degrees
    places: tuple[Place, ...]

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Left, top, right and bottom of the circumscribed circles, in pixels."""
        return (
            min(p.x - p.radius for p in self.places),
            min(p.y - p.radius for p in self.places),
            max(p.x + p.radius for p in self.places),
            max(p.y + p.radius for p in self.places),
        )


@dataclasses.dataclass(frozen=True)
class Background:
    """A muted backdrop: `colour` is its RGB; `period` (pixels) and `angle` (degrees) lay out stripes and checks."""

    kind: str
    tone: str
    colour: tuple[float, float, float]
    period: float
    angle: float
    noise_seed: int


@dataclasses.dataclass(frozen=True)
class Relation:
    """`subject` and `object` are indices into the scene's figures."""

    kind: RelationKind
    subject: int
    object: int


@dataclasses.dataclass(frozen=True)
class Scene:
    """Figures are drawn in order, so a later one covers an earlier one."""

    width: int
    height: int
    background: Background
    figures: tuple[Figure, ...]
    focus: Relation  # what the scene is about
    has_twin: bool  # another scene differs from this one in its focus alone

    @property
    def short_side(self) -> int:
        return min(self.width, self.height)


def sample_scene(seed: int, split: str, index: int) -> Scene:
    """The scene number `index` of a split; scenes 4n and 4n + 1 are twins."""
    has_twin = index % 4 < 2
    is_second = has_twin and index % 2 == 1
    scene = _sample(np.random.default_rng([seed, SPLITS.index(split), index - is_second]), has_twin)
    return swap_focus(scene) if is_second else scene


def swap_focus(scene: Scene) -> Scene:
    """The twin: the same figures, with the focus relation turned round.

    Left and above exchange positions, bigger exchanges sizes, inside exchanges both, behind the drawing order.
    """
    kind = scene.focus.kind
    first, second = scene.figures[:2]
    (p,), (q,) = first.places, second.places
    if kind in ("left", "above"):
        p, q = dataclasses.replace(p, x=q.x, y=q.y), dataclasses.replace(q, x=p.x, y=p.y)
    elif kind == "bigger":
        p, q = dataclasses.replace(p, radius=q.radius), dataclasses.replace(q, radius=p.radius)
    elif kind == "inside":
        p, q = q, p
    first, second = dataclasses.replace(first, places=(p,)), dataclasses.replace(second, places=(q,))
    focus = Relation(kind, scene.focus.object, scene.focus.subject)
    if kind in ("inside", "behind"):  # the drawing order turns round, and the indices with it
        first, second, focus = second, first, scene.focus
    return dataclasses.replace(scene, figures=(first, second, *scene.figures[2:]), focus=focus)


def relations(scene: Scene) -> list[Relation]:
    """The focus, and every clear left, above and bigger between any two figures (each once, in its true direction)."""
    found = [scene.focus]
    for i, j in itertools.combinations(range(len(scene.figures)), 2):
        for a, b in ((i, j), (j, i)):
            subject, other = scene.figures[a], scene.figures[b]
            across, down = other.box[0] - subject.box[2], other.box[1] - subject.box[3]
            if max(across, down) >= GAP:
                found.append(Relation("left" if across >= down else "above", a, b))
            if min(p.radius for p in subject.places) >= BIGGER_RATIO * max(p.radius for p in other.places):
                found.append(Relation("bigger", a, b))
    return list(dict.fromkeys(found))


def _sample(rng: np.random.Generator, has_twin: bool) -> Scene:
    width, height = int(rng.integers(160, 225)), int(rng.integers(128, 193))
    kind = KINDS[rng.integers(len(KINDS))]
    colours = rng.permutation(COLOURS)
    figures = [_sample_looks(rng, str(colours[i]), kind, has_twin, i) for i in range(2)]
    pair = _place_focus(rng, kind, width, height, has_twin)
    figures = [dataclasses.replace(figure, places=places) for figure, places in zip(figures, pair, strict=True)]
    # An extra figure keeps clear of the pair also after the twins' exchange, hence the larger radius of the two.
    reach = max(p.radius for places in pair for p in places) if has_twin else 0.0
    taken = [(p.x, p.y, max(p.radius, reach)) for places in pair for p in places]
    for colour in colours[2 : 2 + rng.choice(3, p=(0.3, 0.45, 0.25))]:
        place = _find_room(rng, width, height, taken)
        if place is not None:
            looks = _sample_looks(rng, str(colour), "left", False, len(figures))
            figures.append(dataclasses.replace(looks, places=(place,)))
            taken.append((place.x, place.y, place.radius))
    subject, other = (1, 0) if kind == "inside" else (0, 1)  # what is inside is drawn later
    return Scene(
        width=width,
        height=height,
        background=_sample_background(rng),
        figures=tuple(figures),
        focus=Relation(kind, subject, other),
        has_twin=has_twin,
    )


def _sample_looks(rng: np.random.Generator, colour: str, kind: RelationKind, has_twin: bool, order: int) -> Figure:
    """A figure without places. To hold or cover another figure it needs a bulky shape; to cover, a filled one too."""
    bulky = kind == "behind" or (kind == "inside" and (has_twin or order == 0))
    shapes = BULKY if bulky else SHAPES
    textures, shares = (TEXTURES[:3], (0.5, 0.25, 0.25)) if kind == "behind" else (TEXTURES, (0.4, 0.2, 0.2, 0.2))
    return Figure(
        shape=str(rng.choice(shapes)),
        colour=colour,
        texture=str(rng.choice(textures, p=shares)),
        shade=float(rng.uniform(0.9, 1.0)),
        grain=float(rng.uniform(0, 180)),
        places=(),
    )


def _sample_background(rng: np.random.Generator) -> Background:
    tone = str(rng.choice(TONES))
    level = rng.uniform(162, 184) if tone == "light" else rng.uniform(85, 105)
    red, green, blue = level + rng.uniform(-14, 14, size=3)
    return Background(
        kind=str(rng.choice(BACKGROUNDS)),
        tone=tone,
        colour=(float(red), float(green), float(blue)),
        period=float(rng.uniform(18, 40)),
        angle=float(rng.uniform(0, 180)),
        noise_seed=int(rng.integers(2**31)),
    )


def _sample_radius(rng: np.random.Generator, size: str, short_side: int) -> float:
    return float(rng.uniform(*RADII[size])) * short_side


def _angle(rng: np.random.Generator) -> float:
    return float(rng.uniform(-14, 14))


def _place_focus(
    rng: np.random.Generator, kind: RelationKind, width: int, height: int, has_twin: bool
) -> tuple[tuple[Place, ...], tuple[Place, ...]]:
    """The places of the first two figures. Holds by construction, for a twin also after `swap_focus`."""
    short = min(width, height)
    if kind == "inside":
        return _place_inside(rng, width, height)
    if kind == "behind":
        return _place_behind(rng, width, height)
    across = kind == "left" or (kind == "bigger" and rng.random() < 0.5)
    sizes = ["large", "small"] if kind == "bigger" else [str(size) for size in rng.choice(list(RADII), size=2)]
    count = 1 if has_twin or kind == "bigger" else int(rng.choice((1, 2, 3, 4), p=(0.4, 0.25, 0.2, 0.15)))
    if count > 1:
        sizes[0] = "small"
    radii = [_sample_radius(rng, size, short) for size in sizes]
    slots = _place_apart(rng, (width, height) if across else (height, width), max(radii), count)
    if count == 1 and kind == "bigger" and rng.random() < 0.5:
        slots = slots[::-1]  # the bigger one may be on either side
    turned = [[(along, beside) if across else (beside, along) for along, beside in slot] for slot in slots]
    first, second = (
        tuple(Place(x, y, radius, _angle(rng)) for x, y in slot) for slot, radius in zip(turned, radii, strict=True)
    )
    return first, second


def _place_apart(
    rng: np.random.Generator, size: tuple[int, int], radius: float, count: int
) -> list[list[tuple[float, float]]]:
    """`count` centres in the first half of the axis, one in the second half; `size` is (along the axis, beside it).

    Both halves leave room for `radius`, so the two figures can change places.
    """
    along, beside = size
    edge = radius + MARGIN
    first, second = (
        float(rng.uniform(low, high))
        for low, high in ((edge, along / 2 - radius - GAP / 2), (along / 2 + radius + GAP / 2, along - edge))
    )
    if count == 1:
        level = float(rng.uniform(edge, beside - edge))
        drift = 0.5 * (second - first)
        other = float(np.clip(level + rng.uniform(-drift, drift), edge, beside - edge))
        return [[(first, level)], [(second, other)]]
    steps = [beside * (k + 0.5) / count for k in range(count)]
    drift = max(0.0, radius - RADII["small"][1] * min(size))  # equal shapes stay in line unless the other one is large
    group = [(first + float(rng.uniform(-drift, drift)) / 2, step) for step in steps]
    return [group, [(second, float(rng.uniform(edge, beside - edge)))]]


def _place_inside(rng: np.random.Generator, width: int, height: int) -> tuple[tuple[Place], tuple[Place]]:
    """Outer, then inner: the inner circle fits into the outline of every bulky shape."""
    radius = float(rng.uniform(0.32, 0.40)) * min(width, height)
    x = float(rng.uniform(radius + MARGIN, width - radius - MARGIN))
    y = float(rng.uniform(radius + MARGIN, height - radius - MARGIN))
    dx, dy = (float(d) for d in rng.uniform(-0.03, 0.03, size=2) * radius)
    return (Place(x, y, radius, _angle(rng)),), (Place(x + dx, y + dy, 0.36 * radius, _angle(rng)),)


def _place_behind(rng: np.random.Generator, width: int, height: int) -> tuple[tuple[Place], tuple[Place]]:
    """Back, then front: near enough that bulky shapes overlap, far enough that the back one can be told."""
    short = min(width, height)
    back, front = (float(r) * short for r in rng.uniform(0.19, 0.235, size=2))
    direction = float(rng.uniform(0, 2 * math.pi))
    distance = 0.55 * (back + front)
    dx, dy = distance * math.cos(direction), distance * math.sin(direction)
    low_x, high_x = max(back, front - dx) + MARGIN, width - max(back, front + dx) - MARGIN
    low_y, high_y = max(back, front - dy) + MARGIN, height - max(back, front + dy) - MARGIN
    x, y = float(rng.uniform(low_x, high_x)), float(rng.uniform(low_y, high_y))
    return (Place(x, y, back, _angle(rng)),), (Place(x + dx, y + dy, front, _angle(rng)),)


def _find_room(
    rng: np.random.Generator, width: int, height: int, taken: list[tuple[float, float, float]]
) -> Place | None:
    """A place clear of all that is taken, or None when 40 tries find none."""
    for _ in range(40):
        size = str(rng.choice(["small", "small", "medium"]))
        radius = _sample_radius(rng, size, min(width, height))
        x = float(rng.uniform(radius + MARGIN, width - radius - MARGIN))
        y = float(rng.uniform(radius + MARGIN, height - radius - MARGIN))
        if all(math.hypot(x - tx, y - ty) >= radius + reach + GAP for tx, ty, reach in taken):
            return Place(x, y, radius, _angle(rng))
    return None
