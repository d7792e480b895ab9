"""Words for a scene of the shapes world: `Scene` in, five different true captions out.

Most captions state a relation ("a striped red star to the left of two small blue hearts"), some of them together with
a third figure or the background. A scene without a twin also gets one caption of nouns and attributes only; a scene
with a twin does not, since that would fit the twin as well: all five say who is left of (above, inside, ...) whom.
Captions are lower-case words and single spaces, at most 30 words, so text normalisation leaves them as they are.
"""

import numpy as np

from blipbench.data.shapes_world import (
    LARGE_AT_LEAST,
    SMALL_AT_MOST,
    SPLITS,
    Relation,
    RelationKind,
    Scene,
    relations,
)

CAPTIONS = 5

# The same relation, said from its subject and from its object.
FORWARD: dict[RelationKind, tuple[str, ...]] = {
    "left": ("to the left of", "left of", "further left than"),
    "above": ("above", "higher than"),
    "inside": ("inside", "within"),
    "behind": ("partly behind", "partly hidden by", "partly covered by"),
    "bigger": ("bigger than", "larger than"),
}
BACKWARD: dict[RelationKind, tuple[str, ...]] = {
    "left": ("to the right of", "right of", "further right than"),
    "above": ("below", "lower than", "beneath"),
    "inside": ("around", "surrounding"),
    "behind": ("in front of", "partly covering", "overlapping the edge of"),
    "bigger": ("smaller than",),
}
# Wordings that name both figures in one go: {a} is the subject, {b} the object, {bare_a} the subject without article.
WHOLE: dict[RelationKind, tuple[str, ...]] = {
    "left": ("{a} on the left and {b} on the right", "{b} on the right and {a} on the left"),
    "above": ("{a} at the top and {b} at the bottom", "{b} at the bottom and {a} at the top"),
    "inside": ("{b} with {a} inside it", "{b} holding {a}"),
    "behind": ("{a} peeking out from behind {b}", "{b} with {a} behind it"),
    "bigger": ("{b} and a bigger {bare_a}", "{b} with a larger {bare_a}"),
}
NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight")


def caption_scene(scene: Scene, seed: int, split: str, index: int) -> tuple[str, ...]:
    """The five captions of a scene, all different; they depend on the arguments alone."""
    rng = np.random.default_rng([seed, SPLITS.index(split), index, 1])
    others = [relation for relation in relations(scene) if relation != scene.focus]
    captions: list[str] = []
    while len(captions) < CAPTIONS:
        if scene.has_twin or len(captions) < 3 or not others:
            caption = _relation_caption(scene, scene.focus, rng)
        elif len(captions) == 3:
            caption = _relation_caption(scene, others[rng.integers(len(others))], rng)
        else:
            caption = _noun_caption(scene, rng)
        if caption not in captions:
            captions.append(caption)
    return tuple(captions[i] for i in rng.permutation(CAPTIONS))


def _relation_caption(scene: Scene, relation: Relation, rng: np.random.Generator) -> str:
    a, b = relation.subject, relation.object
    # "on the left" is said of the picture's halves, which only the focus is known to respect.
    if relation == scene.focus and rng.random() < 0.25:
        bare_a = _describe(scene, a, rng, sized=False)
        core = _pick(rng, WHOLE[relation.kind]).format(
            a=_count(scene, a, _describe(scene, a, rng)), b=_count(scene, b, _describe(scene, b, rng)), bare_a=bare_a
        )
    else:
        if rng.random() < 0.5:
            subject, phrase, other = a, _pick(rng, FORWARD[relation.kind]), b
        else:
            subject, phrase, other = b, _pick(rng, BACKWARD[relation.kind]), a
        be = "are" if _is_plural(scene, subject) else "is"
        pattern = _pick(rng, ("{s} {p} {o}", "{s} {p} {o}", "{s} {be} {p} {o}", "there {be} {s} {p} {o}"))
        core = pattern.format(
            s=_count(scene, subject, _describe(scene, subject, rng)),
            o=_count(scene, other, _describe(scene, other, rng)),
            p=phrase,
            be=be,
        )
    if rng.random() < 0.6:
        further = _further_figure(scene, relation, rng)
        if further:
            return f"{core} and {further}"
    return f"{core} {_backdrop(scene, rng)}" if rng.random() < 0.5 else core


def _further_figure(scene: Scene, relation: Relation, rng: np.random.Generator) -> str:
    """A third figure and where it is, seen from one of the relation's two; empty if none stands clear of them."""
    pair = (relation.subject, relation.object)
    clear = [
        other
        for other in relations(scene)
        if other.kind in ("left", "above") and (other.subject in pair) != (other.object in pair)
    ]
    if not clear:
        return ""
    chosen = clear[rng.integers(len(clear))]
    if chosen.object in pair:
        third, phrase, anchor = chosen.subject, _pick(rng, FORWARD[chosen.kind]), chosen.object
    else:
        third, phrase, anchor = chosen.object, _pick(rng, BACKWARD[chosen.kind]), chosen.subject
    figure = scene.figures[anchor]
    noun = _plural(figure.shape) if _is_plural(scene, anchor) else figure.shape
    return f"{_count(scene, third, _describe(scene, third, rng))} {phrase} the {figure.colour} {noun}"


def _noun_caption(scene: Scene, rng: np.random.Generator) -> str:
    order = [int(i) for i in rng.permutation(len(scene.figures))]
    named = " and ".join(_count(scene, i, _describe(scene, i, rng)) for i in order)
    if len(order) > 2 and rng.random() < 0.4:
        total = sum(len(figure.places) for figure in scene.figures)
        return f"{NUMBERS[total]} shapes including {named}"
    return f"{named} {_backdrop(scene, rng)}"


def _describe(scene: Scene, index: int, rng: np.random.Generator, sized: bool = True) -> str:
    """Attributes and noun without article: "large striped red circle". Only a solid texture may go unsaid."""
    figure = scene.figures[index]
    words = []
    if sized and rng.random() < 0.4:
        reach = figure.places[0].radius / scene.short_side
        words += ["small"] if reach <= SMALL_AT_MOST else ["large"] if reach >= LARGE_AT_LEAST else []
    if figure.texture != "solid" or rng.random() < 0.3:
        words.append("plain" if figure.texture == "solid" else figure.texture)
    words += [figure.colour, _plural(figure.shape) if _is_plural(scene, index) else figure.shape]
    return " ".join(words)


def _count(scene: Scene, index: int, description: str) -> str:
    """A description with its article or its number."""
    if _is_plural(scene, index):
        return f"{NUMBERS[len(scene.figures[index].places)]} {description}"
    return f"{'an' if description[0] in 'aeiou' else 'a'} {description}"


def _is_plural(scene: Scene, index: int) -> bool:
    return len(scene.figures[index].places) > 1


def _plural(noun: str) -> str:
    return f"{noun}es" if noun.endswith("s") else f"{noun}s"


def _backdrop(scene: Scene, rng: np.random.Generator) -> str:
    preposition = _pick(rng, ("on", "against"))
    return f"{preposition} a {scene.background.tone} {scene.background.kind} background"


def _pick(rng: np.random.Generator, options: tuple[str, ...]) -> str:
    return options[rng.integers(len(options))]
