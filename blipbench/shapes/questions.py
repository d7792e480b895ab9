"""Questions about a scene for the VQA-like set: existence, counting, colour, shape, texture, comparison, position.

Takes a scene and returns questions with answers. The scene alone determines the answer, and a question is used only if
the picture shows its answer clearly: "what is to the left of the red star" requires that one figure is to its left and
that no other figure nearly is. Questions do not give the answer away: the answer of a yes/no question is sampled first,
and then a question with this answer is made from the figures of the scene.

Ten people answer each question. One in ten answers differently (`SLIP`): half of them with a synonym if there is one
("two" for "2"), the others with a different answer of the same kind. At least seven agree, so the right answer always
scores 1.
"""

import dataclasses
from collections.abc import Callable
from typing import Literal

import numpy as np

from blipbench.shapes.scene import COLOURS, HELD_OUT_LOOKS, SHAPES, TEXTURES, TONES, Figure, Scene, relations
from blipbench.shapes.words import BACKWARD, FORWARD, NUMBERS, is_plural, noun, pick, plural, the, with_article

AnswerType = Literal["yes/no", "number", "other"]

ANSWERS = 10
SLIP = 0.1
MOST_SLIPS = 3
MOST_SHAPES = 9

EXISTS = "is there {a} in the picture?"
TEXTURE = "{is_the} {texture}?"
HOW_MANY = "how many {things} are there?"
ANY = "shapes"
COLOUR = "what color {is_the}?"
SHAPE = "which shape is {colour}?"
COMPARE = "{is_the} {phrase} {other}?"
WHICH = "which is {phrase}, {a} or {b}?"
MORE = "are there more {a} than {b}?"
WHAT = "what is {phrase} {other}?"
WHAT_COLOUR = "what color is the shape {phrase} {other}?"
TONE = "is the background light or dark?"
TEMPLATES = (EXISTS, TEXTURE, HOW_MANY, ANY, COLOUR, SHAPE, COMPARE, WHICH, MORE, WHAT, WHAT_COLOUR, TONE)

DIGITS = tuple(str(number) for number in range(MOST_SHAPES + 1))
ANSWER_LIST = ("yes", "no", *DIGITS, *COLOURS, *SHAPES, *TONES)
SAME: dict[str, str] = {
    "yes": "yeah",
    "no": "nope",
    **dict(zip(DIGITS, ("none", *NUMBERS[1:]), strict=False)),
    "purple": "violet",
    "cross": "plus",
    "moon": "crescent",
    "diamond": "rhombus",
}
_KINDS_OF_ANSWER = (("yes", "no"), DIGITS, COLOURS, SHAPES, TONES)


@dataclasses.dataclass(frozen=True)
class Question:
    text: str
    answer: str

    @property
    def answer_type(self) -> AnswerType:
        """One of VQAv2's three answer types."""
        return "yes/no" if self.answer in ("yes", "no") else "number" if self.answer in DIGITS else "other"


def ask(scene: Scene, rng: np.random.Generator, count: int) -> list[Question]:
    """At most `count` different questions about a scene; fewer if the scene does not allow as many."""
    shares = np.array([share for _, share in ASKERS])
    asked: dict[str, Question] = {}
    for _ in range(12 * count):
        if len(asked) == count:
            break
        asker = ASKERS[rng.choice(len(ASKERS), p=shares / shares.sum())][0]
        question = asker(scene, rng)
        if question is not None:
            asked.setdefault(question.text, question)
    return list(asked.values())


def answers_of_people(question: Question, rng: np.random.Generator) -> list[str]:
    """Ten raw answers, of which at least seven are right."""
    answers = [question.answer] * ANSWERS
    slips = min(int(rng.binomial(ANSWERS, SLIP)), MOST_SLIPS)
    for person in rng.permutation(ANSWERS)[:slips]:
        if question.answer in SAME and rng.random() < 0.5:
            answers[person] = SAME[question.answer]
        else:
            kind = next(kind for kind in _KINDS_OF_ANSWER if question.answer in kind)
            near = kind
            if kind is DIGITS:
                near = tuple(d for d in DIGITS if abs(int(d) - int(question.answer)) == 1)
            answers[person] = pick(rng, [answer for answer in near if answer != question.answer])
    return answers


def _yes_no(is_true: bool) -> str:
    return "yes" if is_true else "no"


def _is_the(figure: Figure) -> str:
    return f"{'are' if is_plural(figure) else 'is'} {the(figure)}"


def _ask_existence(scene: Scene, rng: np.random.Generator) -> Question | None:
    """For "no", asks about the shape of one figure with the colour of another."""
    there = {(f.shape, f.colour) for f in scene.figures}
    wanted = rng.random() < 0.5
    options = sorted(there)
    if not wanted:
        mixed = {(a.shape, b.colour) for a in scene.figures for b in scene.figures}
        options = sorted(mixed - there - HELD_OUT_LOOKS)
    if not options:
        return None
    shape, colour = pick(rng, options)
    return Question(EXISTS.format(a=with_article(f"{colour} {shape}")), _yes_no(wanted))


def _ask_texture(scene: Scene, rng: np.random.Generator) -> Question | None:
    wanted, asked = rng.random() < 0.5, pick(rng, TEXTURES)
    options = [figure for figure in scene.figures if (figure.texture == asked) == wanted]
    if not options:
        return None
    texture = "plain" if asked == "solid" else asked
    return Question(TEXTURE.format(is_the=_is_the(pick(rng, options)), texture=texture), _yes_no(wanted))


def _count(scene: Scene, shape: str) -> int:
    return sum(len(figure.places) for figure in scene.figures if figure.shape == shape)


def _ask_number_of_shape(scene: Scene, rng: np.random.Generator) -> Question | None:
    """The number is sampled first, so that "1" is not always the best guess."""
    shapes: dict[int, list[str]] = {}
    for shape in SHAPES:
        shapes.setdefault(_count(scene, shape), []).append(shape)
    number = pick(rng, sorted(shapes))
    return Question(HOW_MANY.format(things=plural(pick(rng, shapes[number]))), str(number))


def _ask_number_of_figure(scene: Scene, rng: np.random.Generator) -> Question | None:
    several = [figure for figure in scene.figures if is_plural(figure)]
    figure = pick(rng, several or scene.figures)
    return Question(HOW_MANY.format(things=f"{figure.colour} {plural(figure.shape)}"), str(len(figure.places)))


def _ask_number_of_all(scene: Scene, rng: np.random.Generator) -> Question | None:
    return Question(HOW_MANY.format(things=ANY), str(sum(len(figure.places) for figure in scene.figures)))


def _ask_colour(scene: Scene, rng: np.random.Generator) -> Question | None:
    alone = [f for f in scene.figures if sum(g.shape == f.shape for g in scene.figures) == 1]
    if not alone:
        return None
    figure = pick(rng, alone)
    be = "are" if is_plural(figure) else "is"
    return Question(COLOUR.format(is_the=f"{be} the {noun(figure)}"), figure.colour)


def _ask_shape(scene: Scene, rng: np.random.Generator) -> Question | None:
    figure = pick(rng, scene.figures)
    return Question(SHAPE.format(colour=figure.colour), figure.shape)


def _ask_relation(scene: Scene, rng: np.random.Generator) -> Question | None:
    """Asks about a relation that holds; for "no", with subject and object exchanged."""
    relation = pick(rng, relations(scene))
    wanted = rng.random() < 0.5
    a, b = scene.figures[relation.subject], scene.figures[relation.object]
    is_turned = rng.random() < 0.5
    phrase = (BACKWARD if is_turned else FORWARD)[relation.kind][0]
    first, second = (a, b) if wanted != is_turned else (b, a)
    return Question(COMPARE.format(is_the=_is_the(first), phrase=phrase, other=the(second)), _yes_no(wanted))


def _ask_which(scene: Scene, rng: np.random.Generator) -> Question | None:
    found = [
        (scene.figures[relation.subject], scene.figures[relation.object])
        for relation in relations(scene)
        if relation.kind == "bigger"
    ]
    options = [(a, b) for a, b in found if a.shape != b.shape and not (is_plural(a) or is_plural(b))]
    if not options:
        return None
    bigger, smaller = pick(rng, options)
    first, second = (bigger, smaller) if rng.random() < 0.5 else (smaller, bigger)
    ask_bigger = rng.random() < 0.5
    phrase, answer = ("bigger", bigger.shape) if ask_bigger else ("smaller", smaller.shape)
    return Question(WHICH.format(phrase=phrase, a=the(first), b=the(second)), answer)


def _ask_more(scene: Scene, rng: np.random.Generator) -> Question | None:
    numbers = {figure.shape: _count(scene, figure.shape) for figure in scene.figures}
    unequal = [(a, b) for a in numbers for b in numbers if numbers[a] > numbers[b]]
    if not unequal:
        return None
    more, less = pick(rng, unequal)
    wanted = rng.random() < 0.5
    a, b = (more, less) if wanted else (less, more)
    return Question(MORE.format(a=plural(a), b=plural(b)), _yes_no(wanted))


def _ask_what(scene: Scene, rng: np.random.Generator) -> Question | None:
    """Asks for the shape or colour of the only figure that has a given relation to another."""
    relation = pick(rng, relations(scene))
    if relation.kind == "bigger":
        return None
    is_turned = rng.random() < 0.5
    sought, anchor = (relation.object, relation.subject) if is_turned else (relation.subject, relation.object)
    if relation.kind in ("left", "above") and not _is_the_only_one(scene, relation.kind, is_turned, sought, anchor):
        return None
    figure = scene.figures[sought]
    phrase = (BACKWARD if is_turned else FORWARD)[relation.kind][0]
    by_shape = rng.random() < 0.5
    if not by_shape and is_plural(figure):
        return None
    text = (WHAT if by_shape else WHAT_COLOUR).format(phrase=phrase, other=the(scene.figures[anchor]))
    return Question(text, figure.shape if by_shape else figure.colour)


def _is_the_only_one(scene: Scene, kind: str, is_turned: bool, sought: int, anchor: int) -> bool:
    """Whether the centres of all other figures are on the other side of the anchor's centre."""
    axis = 0 if kind == "left" else 1
    sign = -1 if is_turned else 1
    middle = scene.figures[anchor].centre[axis]
    others = [f for i, f in enumerate(scene.figures) if i not in (sought, anchor)]
    return all(sign * (other.centre[axis] - middle) >= 0 for other in others)


def _ask_tone(scene: Scene, rng: np.random.Generator) -> Question | None:
    return Question(TONE, scene.background.tone)


Asker = Callable[[Scene, np.random.Generator], Question | None]
ASKERS: tuple[tuple[Asker, float], ...] = (
    (_ask_existence, 0.18),
    (_ask_texture, 0.1),
    (_ask_number_of_shape, 0.12),
    (_ask_number_of_figure, 0.06),
    (_ask_number_of_all, 0.04),
    (_ask_colour, 0.14),
    (_ask_shape, 0.1),
    (_ask_relation, 0.1),
    (_ask_which, 0.08),
    (_ask_more, 0.06),
    (_ask_what, 0.16),
    (_ask_tone, 0.04),
)
