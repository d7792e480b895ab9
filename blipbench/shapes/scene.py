"""Defines the scenes of the shapes world: figures on a background, the relations between them, and the domain.

A scene has two to four figures on a background. A figure is one shape, or several equal shapes. The focus is a relation
between the first two figures. Units are pixels; x points right, y points down.

Some combinations are held out, like the novel objects of NoCaps: a few pairs of shape and colour, and a few shapes in
certain relations. They are in no training scene and in no ordinary test scene. `domain_of` says how much of a scene is
held out.
"""

import dataclasses
import itertools
from typing import Literal

RelationKind = Literal["left", "above", "inside", "behind", "bigger"]
Domain = Literal["in-domain", "near-domain", "out-domain"]

KINDS: tuple[RelationKind, ...] = ("left", "above", "inside", "behind", "bigger")
SHAPES = ("circle", "square", "triangle", "star", "heart", "cross", "diamond", "moon")
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "white", "black")
TEXTURES = ("solid", "striped", "outlined")
BACKGROUNDS = ("plain", "shaded", "striped", "checkered")
TONES = ("light", "dark")
DOMAINS: tuple[Domain, ...] = ("in-domain", "near-domain", "out-domain")  # NoCaps' own names

BULKY = ("circle", "square", "heart", "diamond")  # convex enough to contain another figure or to be partly covered
# Each shape and each colour occurs once, so that models learn both from the other pairs.
HELD_OUT_LOOKS = frozenset(
    {
        ("circle", "purple"),
        ("square", "orange"),
        ("triangle", "green"),
        ("star", "white"),
        ("heart", "blue"),
        ("cross", "yellow"),
        ("diamond", "red"),
        ("moon", "black"),
    }
)
# Relation and shape of its subject: no star or cross is inside another figure, and no diamond is behind one.
HELD_OUT_RELATIONS = frozenset({("inside", "star"), ("inside", "cross"), ("behind", "diamond")})

BIGGER_RATIO = 1.9  # with this ratio of radii even a triangle has a larger area than a circle
GAP = 3.0  # pixels between figures that do not overlap


@dataclasses.dataclass(frozen=True)
class Place:
    """The place of one shape: centre and circumscribed radius in pixels, rotation in degrees."""

    x: float
    y: float
    radius: float
    angle: float


@dataclasses.dataclass(frozen=True)
class Figure:
    """One shape, or several equal shapes. All figures of a scene have different colours."""

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

    @property
    def centre(self) -> tuple[float, float]:
        """The middle of the box."""
        left, top, right, bottom = self.box
        return (left + right) / 2, (top + bottom) / 2


@dataclasses.dataclass(frozen=True)
class Background:
    """A muted background. `colour` is RGB; `period` (pixels) and `angle` (degrees) define stripes and checks."""

    kind: str
    tone: str
    colour: tuple[float, float, float]
    period: float
    angle: float


@dataclasses.dataclass(frozen=True)
class Relation:
    """`subject` and `object` are indices into the scene's figures."""

    kind: RelationKind
    subject: int
    object: int


@dataclasses.dataclass(frozen=True)
class Scene:
    """A scene. Figures are drawn in order, so later figures cover earlier ones."""

    width: int
    height: int
    background: Background
    figures: tuple[Figure, ...]
    focus: Relation  # the main relation, between the first two figures
    has_twin: bool  # another scene differs from this one only in its focus

    @property
    def short_side(self) -> int:
        return min(self.width, self.height)


def relations(scene: Scene) -> list[Relation]:
    """The focus, and every clear left, above and bigger relation, each once in its true direction."""
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


def domain_of(scene: Scene) -> Domain:
    """In-domain: nothing is held out. Out-domain: every figure is held out, and the focus if its kind allows it."""
    looks = [(figure.shape, figure.colour) in HELD_OUT_LOOKS for figure in scene.figures]
    focus = (scene.focus.kind, scene.figures[scene.focus.subject].shape) in HELD_OUT_RELATIONS
    if not focus and not any(looks):
        return "in-domain"
    can_be = any(kind == scene.focus.kind for kind, _ in HELD_OUT_RELATIONS)
    return "out-domain" if all(looks) and (focus or not can_be) else "near-domain"
