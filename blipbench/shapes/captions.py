"""Captions of a scene: takes a `Scene` and returns five different true captions (ten for the NoCaps-like set).

The first caption describes the focus in the simplest words ("a striped red star to the left of two blue hearts"). The
others describe the focus or another relation in other words; some add a third figure or the background. A scene without
a twin also gets captions with nouns and attributes only. A scene with a twin does not, because such a caption would
also be true of the twin: all its captions say which figure is left of (above, inside, ...) which. Captions are
lower-case words and single spaces, at most 30 words, so text normalisation does not change them.
"""

import numpy as np

from blipbench.shapes.sampling import LARGE_AT_LEAST, SMALL_AT_MOST
from blipbench.shapes.scene import Background, Figure, Relation, RelationKind, Scene, relations
from blipbench.shapes.words import BACKWARD, FORWARD, NUMBERS, counted, is_plural, looks, pick, the

CAPTIONS = 5
NOCAPS_CAPTIONS = 10

PATTERNS = ("{s} {p} {o}", "{s} {p} {o}", "{s} {be} {p} {o}", "there {be} {s} {p} {o}")
# Patterns for both figures at once: {a} is the subject, {b} the object, {bare_a} the subject without an article.
WHOLE: dict[RelationKind, tuple[str, ...]] = {
    "left": ("{a} on the left and {b} on the right", "{b} on the right and {a} on the left"),
    "above": ("{a} at the top and {b} at the bottom", "{b} at the bottom and {a} at the top"),
    "inside": ("{b} with {a} inside it", "{b} holding {a}"),
    "behind": ("{b} with {a} behind it",),
    "bigger": ("{b} and a bigger {bare_a}", "{b} with a larger {bare_a}"),
}
COUNTED = "{n} shapes including {named}"
PATTERNED = ("striped", "checkered")  # background kinds that captions mention
BACKDROP = "on a {backdrop} background"
SIZES = ("small", "large")
PLAIN = "plain"  # optional word for a solid figure


def caption_scene(scene: Scene, rng: np.random.Generator, count: int = CAPTIONS) -> tuple[str, ...]:
    """`count` different captions, the simplest first."""
    others = [relation for relation in relations(scene) if relation != scene.focus]
    captions: list[str] = [plain_caption(scene)]
    while len(captions) < count:
        turn = len(captions) % CAPTIONS
        if scene.has_twin or turn < 3 or (turn == 3 and not others):
            caption = _relation_caption(scene, scene.focus, rng)
        elif turn == 3:
            caption = _relation_caption(scene, pick(rng, others), rng)
        else:
            caption = _noun_caption(scene, rng)
        # There are few different noun captions. If they run out, a caption of the focus is used instead.
        for _ in range(4):
            if caption in captions:
                caption = _relation_caption(scene, scene.focus, rng)
        if caption not in captions:
            captions.append(caption)
    return tuple(captions)


def plain_caption(scene: Scene) -> str:
    """The focus in the simplest words, subject first: the best answer of a captioner."""
    a, b = (scene.figures[i] for i in (scene.focus.subject, scene.focus.object))
    return f"{counted(a, looks(a))} {FORWARD[scene.focus.kind][0]} {counted(b, looks(b))}"


def _relation_caption(scene: Scene, relation: Relation, rng: np.random.Generator) -> str:
    a, b = scene.figures[relation.subject], scene.figures[relation.object]
    # "on the left" refers to the halves of the picture. Only the figures of the focus are sure to be in two halves.
    if relation == scene.focus and rng.random() < 0.2:
        core = pick(rng, WHOLE[relation.kind]).format(
            a=_mention(scene, a, rng), b=_mention(scene, b, rng), bare_a=looks(a)
        )
    else:
        subject, other, phrases = (a, b, FORWARD) if rng.random() < 0.5 else (b, a, BACKWARD)
        core = pick(rng, PATTERNS).format(
            s=_mention(scene, subject, rng),
            p=pick(rng, phrases[relation.kind]),
            o=_mention(scene, other, rng),
            be="are" if is_plural(subject) else "is",
        )
    if rng.random() < 0.35:
        further = _further_figure(scene, relation, rng)
        if further:
            return f"{core} and {further}"
    return f"{core} {_backdrop(scene.background)}" if rng.random() < 0.35 else core


def _further_figure(scene: Scene, relation: Relation, rng: np.random.Generator) -> str:
    """A third figure and its position relative to a figure of the relation; empty if no position is clear."""
    pair = (relation.subject, relation.object)
    clear = [
        other
        for other in relations(scene)
        if other.kind in ("left", "above") and (other.subject in pair) != (other.object in pair)
    ]
    if not clear:
        return ""
    chosen = pick(rng, clear)
    if chosen.object in pair:
        third, phrases, anchor = chosen.subject, FORWARD, chosen.object
    else:
        third, phrases, anchor = chosen.object, BACKWARD, chosen.subject
    phrase = pick(rng, phrases[chosen.kind])
    return f"{_mention(scene, scene.figures[third], rng)} {phrase} {the(scene.figures[anchor])}"


def _noun_caption(scene: Scene, rng: np.random.Generator) -> str:
    order = [scene.figures[i] for i in rng.permutation(len(scene.figures))]
    named = " and ".join(_mention(scene, figure, rng) for figure in order)
    if len(order) > 2 and rng.random() < 0.4:
        return COUNTED.format(n=NUMBERS[sum(len(figure.places) for figure in scene.figures)], named=named)
    return f"{named} {_backdrop(scene.background)}"


def _mention(scene: Scene, figure: Figure, rng: np.random.Generator) -> str:
    """ "a large striped red circle": the size and a solid texture may be omitted."""
    words = []
    if rng.random() < 0.25:
        reach = figure.places[0].radius / scene.short_side
        words += ["small"] if reach <= SMALL_AT_MOST else ["large"] if reach >= LARGE_AT_LEAST else []
    if figure.texture == "solid" and rng.random() < 0.15:
        words.append(PLAIN)
    return counted(figure, " ".join([*words, looks(figure)]))


def _backdrop(background: Background) -> str:
    kind = f" {background.kind}" if background.kind in PATTERNED else ""
    return BACKDROP.format(backdrop=f"{background.tone}{kind}")
