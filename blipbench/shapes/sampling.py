"""Samples the scene number `index` of a split: takes (seed, split, index) and returns a `Scene`.

A quarter of the ordinary scenes are twins: scenes 8n and 8n + 1 have the same figures on the same background and differ
only in which figure is left of (above, inside, ...) the other. Nouns and attributes are equal, so only a model that
understands relations can distinguish twins. The scenes of the split "nocaps" belong to its three domains in turn, have
no twins, and are the only scenes with held-out combinations.

All samples depend only on (seed, split, index), so scene 7 does not depend on the number of scenes.
"""

import dataclasses
import math

import numpy as np

from blipbench.shapes.scene import (
    BACKGROUNDS,
    BULKY,
    COLOURS,
    DOMAINS,
    GAP,
    HELD_OUT_LOOKS,
    HELD_OUT_RELATIONS,
    KINDS,
    SHAPES,
    TEXTURES,
    TONES,
    Background,
    Domain,
    Figure,
    Place,
    Relation,
    RelationKind,
    Scene,
)

SPLITS = ("train", "val", "test", "web", "nocaps", "video", "motion", "cards")  # a split's position is part of its seed
TWINS_EVERY = 8

RADII = {"small": (0.106, 0.116), "medium": (0.155, 0.175), "large": (0.222, 0.232)}  # relative to the short side
SMALL_AT_MOST, LARGE_AT_LEAST = 0.135, 0.2
MARGIN = 1.0  # pixels between a figure and the image's edge


def scene_rng(seed: int, split: str, index: int, purpose: int) -> np.random.Generator:
    """The random generator of one scene for one purpose: 0 for the scene itself, 1 for its captions, and so on."""
    return np.random.default_rng([seed, SPLITS.index(split), index, purpose])


def sample_scene(seed: int, split: str, index: int) -> Scene:
    """Scene number `index` of a split. Scenes 8n and 8n + 1 are twins."""
    if split == "nocaps":
        return _sample(scene_rng(seed, split, index, 0), False, DOMAINS[index % len(DOMAINS)])
    has_twin = index % TWINS_EVERY < 2
    is_second = has_twin and index % TWINS_EVERY == 1
    scene = _sample(scene_rng(seed, split, index - is_second, 0), has_twin, "in-domain")
    return swap_focus(scene) if is_second else scene


def swap_focus(scene: Scene) -> Scene:
    """The twin: the same figures with the focus relation reversed.

    For left and above the figures exchange positions, for bigger sizes, for inside both, for behind the drawing order.
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
    if kind in ("inside", "behind"):  # the drawing order is reversed, and the indices change with it
        first, second, focus = second, first, scene.focus
    return dataclasses.replace(scene, figures=(first, second, *scene.figures[2:]), focus=focus)


def _sample(rng: np.random.Generator, has_twin: bool, domain: Domain) -> Scene:
    width, height = int(rng.integers(112, 161)), int(rng.integers(96, 145))
    kind = KINDS[rng.integers(len(KINDS))]
    looks = _choose_looks(rng, kind, has_twin, domain, figures=int(rng.choice((2, 3, 4), p=(0.35, 0.45, 0.2))))
    places = list(_place_focus(rng, kind, width, height, has_twin))
    # An extra figure must not touch the pair in either twin, so both places count with the larger radius.
    reach = max(p.radius for pair in places for p in pair) if has_twin else 0.0
    taken = [(p.x, p.y, max(p.radius, reach)) for pair in places for p in pair]
    for _ in looks[2:]:
        place = _find_room(rng, width, height, taken)
        if place is not None:
            places.append((place,))
            taken.append((place.x, place.y, place.radius))
    figures = [
        sample_figure(rng, shape, colour, where, filled=kind == "behind" and i < 2)
        for i, ((shape, colour), where) in enumerate(zip(looks, places, strict=False))
    ]
    subject, other = (1, 0) if kind == "inside" else (0, 1)  # the inner figure is drawn later
    return Scene(
        width=width,
        height=height,
        background=sample_background(rng),
        figures=tuple(figures),
        focus=Relation(kind, subject, other),
        has_twin=has_twin,
    )


def _choose_looks(
    rng: np.random.Generator, kind: RelationKind, has_twin: bool, domain: Domain, figures: int
) -> list[tuple[str, str]]:
    """Shape and colour of each figure, with different colours. Containing or partly covered figures must be bulky."""
    novel_one = int(rng.integers(2)) if domain == "near-domain" else -1
    subject = 1 if kind == "inside" else 0
    held_out_here = {shape for relation, shape in HELD_OUT_RELATIONS if relation == kind}
    chosen: list[tuple[str, str]] = []
    for i in range(figures):
        is_novel = domain == "out-domain" or i == novel_one
        bulky = i < 2 and (kind == "behind" or (kind == "inside" and (has_twin or i == 0)))
        shapes = list(BULKY if bulky else SHAPES)
        if held_out_here and (i == subject or (has_twin and i < 2)):
            shapes = [
                shape
                for shape in (SHAPES if domain == "out-domain" else shapes)
                if (shape in held_out_here) == (domain == "out-domain")
            ]
        taken = {colour for _, colour in chosen}
        options = [
            (shape, colour)
            for shape in shapes
            for colour in COLOURS
            if colour not in taken and ((shape, colour) in HELD_OUT_LOOKS) == is_novel
        ]
        chosen.append(options[rng.integers(len(options))])
    return chosen


def sample_figure(
    rng: np.random.Generator, shape: str, colour: str, places: tuple[Place, ...], filled: bool = False
) -> Figure:
    """A figure with a random texture, shade and grain. `filled` excludes the outlined texture, which is see-through."""
    textures, shares = (TEXTURES[:2], (0.6, 0.4)) if filled else (TEXTURES, (0.5, 0.25, 0.25))
    return Figure(
        shape=shape,
        colour=colour,
        texture=str(rng.choice(textures, p=shares)),
        shade=float(rng.uniform(0.9, 1.0)),
        grain=float(rng.uniform(0, 180)),
        places=places,
    )


def sample_background(rng: np.random.Generator) -> Background:
    tone = str(rng.choice(TONES))
    level = rng.uniform(162, 184) if tone == "light" else rng.uniform(85, 105)
    red, green, blue = level + rng.uniform(-14, 14, size=3)
    return Background(
        kind=str(rng.choice(BACKGROUNDS)),
        tone=tone,
        colour=(float(red), float(green), float(blue)),
        period=float(rng.uniform(14, 30)),
        angle=float(rng.uniform(0, 180)),
    )


def _sample_radius(rng: np.random.Generator, size: str, short_side: int) -> float:
    return float(rng.uniform(*RADII[size])) * short_side


def _angle(rng: np.random.Generator) -> float:
    return float(rng.uniform(-14, 14))


def _place_focus(
    rng: np.random.Generator, kind: RelationKind, width: int, height: int, has_twin: bool
) -> tuple[tuple[Place, ...], tuple[Place, ...]]:
    """The places of the first two figures, for which the focus holds; for twins, also after `swap_focus`."""
    short = min(width, height)
    if kind == "inside":
        return _place_inside(rng, width, height)
    if kind == "behind":
        return _place_behind(rng, width, height)
    across = kind == "left" or (kind == "bigger" and rng.random() < 0.5)
    sizes = ["large", "small"] if kind == "bigger" else [str(size) for size in rng.choice(list(RADII), size=2)]
    count = 1 if has_twin or kind == "bigger" else int(rng.choice((1, 2, 3), p=(0.4, 0.35, 0.25)))
    if count > 1:
        sizes[0] = "small"
    radii = [_sample_radius(rng, size, short) for size in sizes]
    slots = _place_apart(rng, (width, height) if across else (height, width), max(radii), count)
    if count == 1 and kind == "bigger" and rng.random() < 0.5:
        slots = slots[::-1]  # the bigger figure may be on either side
    turned = [[(along, beside) if across else (beside, along) for along, beside in slot] for slot in slots]
    first, second = (
        tuple(Place(x, y, radius, _angle(rng)) for x, y in slot) for slot, radius in zip(turned, radii, strict=True)
    )
    return first, second


def _place_apart(
    rng: np.random.Generator, size: tuple[int, int], radius: float, count: int
) -> list[list[tuple[float, float]]]:
    """`count` centres in the first half of the axis and one in the second. `size` is (along the axis, across it).

    Both halves have room for `radius`, so the two figures can exchange places.
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
    drift = max(0.0, radius - RADII["small"][1] * min(size))  # equal shapes are in line unless the other is large
    group = [(first + float(rng.uniform(-drift, drift)) / 2, step) for step in steps]
    return [group, [(second, float(rng.uniform(edge, beside - edge)))]]


def _place_inside(rng: np.random.Generator, width: int, height: int) -> tuple[tuple[Place], tuple[Place]]:
    """The outer and the inner place. The inner circle fits into the outline of every bulky shape."""
    radius = float(rng.uniform(0.32, 0.40)) * min(width, height)
    x = float(rng.uniform(radius + MARGIN, width - radius - MARGIN))
    y = float(rng.uniform(radius + MARGIN, height - radius - MARGIN))
    dx, dy = (float(d) for d in rng.uniform(-0.03, 0.03, size=2) * radius)
    return (Place(x, y, radius, _angle(rng)),), (Place(x + dx, y + dy, 0.36 * radius, _angle(rng)),)


def _place_behind(rng: np.random.Generator, width: int, height: int) -> tuple[tuple[Place], tuple[Place]]:
    """The back and the front place: bulky shapes overlap, but the back shape remains recognisable."""
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
    """A free place away from all taken ones, or None if 40 attempts fail."""
    for _ in range(40):
        size = str(rng.choice(["small", "small", "medium"]))
        radius = _sample_radius(rng, size, min(width, height))
        x = float(rng.uniform(radius + MARGIN, width - radius - MARGIN))
        y = float(rng.uniform(radius + MARGIN, height - radius - MARGIN))
        if all(math.hypot(x - tx, y - ty) >= radius + reach + GAP for tx, ty, reach in taken):
            return Place(x, y, radius, _angle(rng))
    return None
