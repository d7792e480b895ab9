"""True or false sentences about two scenes for the NLVR2-like set, e.g. "there are three stars in total".

Takes the scenes of a split and returns `Claim`s: a sentence, its label, and the numbers of the two scenes. Labels are
sampled first; within every kind of sentence half are true. False sentences are hard. Some are true sentences with an
attribute or a relation replaced by another from the pictures. Others are true of the exchanged pair, or of a pair with
one different image. The label is computed from the scenes. A sentence is never used if the pictures do not decide it,
for example which of two overlapping figures is on the left.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

from blipbench.shapes.scene import HELD_OUT_LOOKS, Figure, Relation, RelationKind, Scene, relations
from blipbench.shapes.words import FORWARD, NUMBERS, pick, plural, with_article

SIDES = ("left", "right")
TRIES = 60
TRIES_TOGETHER = 6  # attempts with the same partner

ONE_SIDE = "the {side} image contains {a}"
NOT_THE_OTHER = "the {side} image contains {a} and the {other} image does not"
ONLY_ONE = "only one of the images contains {a}"
BOTH = "both images contain {a}"
TOTAL_ONE = "there is one {thing} in total"
TOTAL = "there are {n} {things} in total"
SOMEWHERE = "{a} is {phrase} {b} in one of the images"
MORE = "the {side} image contains more shapes than the {other} image"
TONES = "the {side} image has a {tone} background and the {other} image has a {other_tone} background"
BOTH_TONES = "both images have a {tone} background"
TEMPLATES = (ONE_SIDE, NOT_THE_OTHER, ONLY_ONE, BOTH, TOTAL_ONE, TOTAL, SOMEWHERE, MORE, TONES, BOTH_TONES)

Pair: TypeAlias = tuple[Scene, Scene]


@dataclasses.dataclass(frozen=True)
class Claim:
    """A labelled sentence. `left` and `right` are the numbers of the scenes."""

    sentence: str
    is_true: bool
    left: int
    right: int
    kind: str


@dataclasses.dataclass(frozen=True)
class Look:
    """A description that figures match or not. None matches every value."""

    shape: str | None
    colour: str | None
    texture: str | None = None

    def fits(self, figure: Figure) -> bool:
        return (
            self.shape in (None, figure.shape)
            and self.colour in (None, figure.colour)
            and self.texture in (None, figure.texture)
        )

    def is_in(self, scene: Scene) -> bool:
        return any(self.fits(figure) for figure in scene.figures)

    def words(self) -> str:
        return with_article(" ".join(word for word in (self.texture, self.colour, self.shape or "shape") if word))


@dataclasses.dataclass(frozen=True)
class Statement:
    """A sentence and the function that says whether it is true of a pair of scenes (None: undecided)."""

    text: str
    holds: Callable[[Pair], bool | None]


def make_claims(scenes: Sequence[Scene], rng: np.random.Generator, count: int) -> list[Claim]:
    """`count` claims for every scene and another scene, mostly the same one. Few scenes may give fewer claims."""
    shares = np.array([share for _, _, share in KINDS])
    claims = []
    for first in range(len(scenes)):
        partner = int(rng.integers(len(scenes)))
        for _ in range(count):
            name, make, _ = KINDS[rng.choice(len(KINDS), p=shares / shares.sum())]
            claim = _make_claim(scenes, rng, first, partner, name, make, bool(rng.random() < 0.5))
            if claim is not None:
                claims.append(claim)
    return claims


def _make_claim(
    scenes: Sequence[Scene],
    rng: np.random.Generator,
    first: int,
    partner: int,
    kind: str,
    make: "Maker",
    wanted: bool,
) -> Claim | None:
    """A claim about `first` and `partner`, or about `first` and another scene if these two give no claim."""
    for attempt in range(TRIES):
        pair = [first, partner if attempt < TRIES_TOGETHER else int(rng.integers(len(scenes)))]
        if rng.random() < 0.5:
            pair.reverse()
        is_twisted = not wanted and rng.random() < 0.5
        statement = make((scenes[pair[0]], scenes[pair[1]]), rng, is_twisted)
        if statement is None:
            continue
        if not wanted and not is_twisted:
            if rng.random() < 0.5:
                pair.reverse()
            else:
                pair[pair.index(first) - 1] = int(rng.integers(len(scenes)))
        if statement.holds((scenes[pair[0]], scenes[pair[1]])) is wanted:
            return Claim(statement.text, wanted, pair[0], pair[1], kind)
    return None


def _look_of(pair: Pair, figure: Figure, rng: np.random.Generator, is_twisted: bool) -> Look | None:
    """The look of a figure. If twisted, its shape or its colour comes from another figure of the two scenes."""
    look = Look(figure.shape, figure.colour)
    if is_twisted:
        others = [other for scene in pair for other in scene.figures]
        changed = {Look(other.shape, figure.colour) for other in others}
        changed |= {Look(figure.shape, other.colour) for other in others}
        options = sorted(
            changed - {look} - {Look(*held) for held in HELD_OUT_LOOKS},
            key=lambda one: (str(one.shape), str(one.colour)),
        )
        if not options:
            return None
        look = pick(rng, options)
    part = rng.random()
    if part < 0.15:
        return dataclasses.replace(look, colour=None)
    if part < 0.3:
        return dataclasses.replace(look, shape=None)
    if part < 0.5 and figure.texture != "solid":
        return dataclasses.replace(look, texture=figure.texture)
    return look


def _one_side(pair: Pair, rng: np.random.Generator, is_twisted: bool) -> Statement | None:
    side = int(rng.integers(2))
    look = _look_of(pair, pick(rng, pair[side].figures), rng, is_twisted)
    if look is None:
        return None
    if rng.random() < 0.6:
        return Statement(ONE_SIDE.format(side=SIDES[side], a=look.words()), lambda pair: look.is_in(pair[side]))
    text = NOT_THE_OTHER.format(side=SIDES[side], other=SIDES[1 - side], a=look.words())
    return Statement(text, lambda pair: look.is_in(pair[side]) and not look.is_in(pair[1 - side]))


def _only_one(pair: Pair, rng: np.random.Generator, is_twisted: bool) -> Statement | None:
    look = _look_of(pair, pick(rng, pick(rng, pair).figures), rng, is_twisted)
    if look is None:
        return None
    return Statement(ONLY_ONE.format(a=look.words()), lambda pair: look.is_in(pair[0]) != look.is_in(pair[1]))


def _both(pair: Pair, rng: np.random.Generator, is_twisted: bool) -> Statement | None:
    """About a shape or a colour, because two scenes rarely share a whole figure. Twisted: only one scene has it."""
    figure = pick(rng, pick(rng, pair).figures)
    look = Look(figure.shape, None) if rng.random() < 0.6 else Look(None, figure.colour)
    if not is_twisted and not (look.is_in(pair[0]) and look.is_in(pair[1])):
        return None
    return Statement(BOTH.format(a=look.words()), lambda pair: look.is_in(pair[0]) and look.is_in(pair[1]))


def _total(pair: Pair, rng: np.random.Generator, is_twisted: bool) -> Statement | None:
    """If twisted, the number is wrong by one (always up from 1), so that numbers are wrong as often as right."""
    shape = pick(rng, pick(rng, pair).figures).shape

    def number_in(pair: Pair) -> int:
        return sum(len(figure.places) for scene in pair for figure in scene.figures if figure.shape == shape)

    number = number_in(pair)
    if is_twisted:
        number += 1 if number == 1 or rng.random() < 0.4 else -1
    if number >= len(NUMBERS):
        return None
    things = plural(shape)
    text = TOTAL_ONE.format(thing=shape) if number == 1 else TOTAL.format(n=NUMBERS[number], things=things)
    return Statement(text, lambda pair: number_in(pair) == number)


def _somewhere(pair: Pair, rng: np.random.Generator, is_twisted: bool) -> Statement | None:
    """If twisted, subject and object are exchanged."""
    scene = pick(rng, pair)
    relation = pick(rng, relations(scene))
    a, b = scene.figures[relation.subject], scene.figures[relation.object]
    if len(a.places) > 1 or len(b.places) > 1:
        return None
    if is_twisted:
        a, b = b, a
    first, second = Look(a.shape, a.colour), Look(b.shape, b.colour)
    text = SOMEWHERE.format(a=first.words(), phrase=FORWARD[relation.kind][0], b=second.words())

    def holds(pair: Pair) -> bool | None:
        found = [_is_related(scene, relation.kind, first, second) for scene in pair]
        return True if True in found else None if None in found else False

    return Statement(text, holds)


def _is_related(scene: Scene, kind: RelationKind, first: Look, second: Look) -> bool | None:
    """False if a figure is missing or the relation is clearly reversed; None if neither direction is clear."""
    subjects = [i for i, figure in enumerate(scene.figures) if first.fits(figure)]
    objects = [i for i, figure in enumerate(scene.figures) if second.fits(figure)]
    if not subjects or not objects:
        return False
    clear = relations(scene)
    if Relation(kind, subjects[0], objects[0]) in clear:
        return True
    return False if Relation(kind, objects[0], subjects[0]) in clear else None


def _more(pair: Pair, rng: np.random.Generator, is_twisted: bool) -> Statement | None:
    numbers = [sum(len(figure.places) for figure in scene.figures) for scene in pair]
    if numbers[0] == numbers[1]:
        return None
    side = int(np.argmin(numbers) if is_twisted else np.argmax(numbers))

    def holds(pair: Pair) -> bool:
        numbers = [sum(len(figure.places) for figure in scene.figures) for scene in pair]
        return numbers[side] > numbers[1 - side]

    return Statement(MORE.format(side=SIDES[side], other=SIDES[1 - side]), holds)


def _tones(pair: Pair, rng: np.random.Generator, is_twisted: bool) -> Statement | None:
    tones = [scene.background.tone for scene in pair]
    if is_twisted:
        turned = int(rng.integers(2))
        tones[turned] = "dark" if tones[turned] == "light" else "light"
    if tones[0] == tones[1]:
        text = BOTH_TONES.format(tone=tones[0])
    else:
        side = int(rng.integers(2))
        text = TONES.format(side=SIDES[side], tone=tones[side], other=SIDES[1 - side], other_tone=tones[1 - side])
    return Statement(text, lambda pair: [scene.background.tone for scene in pair] == tones)


Maker: TypeAlias = Callable[[Pair, np.random.Generator, bool], Statement | None]
KINDS: tuple[tuple[str, Maker, float], ...] = (
    ("one side", _one_side, 0.34),
    ("only one", _only_one, 0.12),
    ("both", _both, 0.16),
    ("total", _total, 0.12),
    ("somewhere", _somewhere, 0.1),
    ("more", _more, 0.06),
    ("tones", _tones, 0.1),
)
