"""Words that all texts of the shapes world use: numbers, plurals, articles, and phrases for relations."""

import re
from collections.abc import Iterable, Sequence
from typing import TypeVar

import numpy as np

from blipbench.shapes.scene import Figure, RelationKind

T = TypeVar("T")

NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")

# Phrases for a relation from subject to object, and from object to subject. The first of each is the simplest.
FORWARD: dict[RelationKind, tuple[str, ...]] = {
    "left": ("to the left of", "left of"),
    "above": ("above", "higher than"),
    "inside": ("inside", "within"),
    "behind": ("behind", "partly covered by"),
    "bigger": ("bigger than", "larger than"),
}
BACKWARD: dict[RelationKind, tuple[str, ...]] = {
    "left": ("to the right of", "right of"),
    "above": ("below", "lower than"),
    "inside": ("around", "surrounding"),
    "behind": ("in front of", "partly covering"),
    "bigger": ("smaller than",),
}


def plural(noun: str) -> str:
    return f"{noun}es" if noun.endswith("s") else f"{noun}s"


def with_article(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def is_plural(figure: Figure) -> bool:
    return len(figure.places) > 1


def noun(figure: Figure) -> str:
    """ "star" or "stars"."""
    return plural(figure.shape) if is_plural(figure) else figure.shape


def the(figure: Figure) -> str:
    """ "the red star", which is unique, because all figures of a scene have different colours."""
    return f"the {figure.colour} {noun(figure)}"


def looks(figure: Figure) -> str:
    """ "striped red star"; a solid texture is omitted."""
    texture = "" if figure.texture == "solid" else f"{figure.texture} "
    return f"{texture}{figure.colour} {noun(figure)}"


def counted(figure: Figure, description: str) -> str:
    """A description with an article, or with the number of shapes."""
    return f"{NUMBERS[len(figure.places)]} {description}" if is_plural(figure) else with_article(description)


def pick(rng: np.random.Generator, options: Sequence[T]) -> T:
    return options[int(rng.integers(len(options)))]


def words_in(templates: Iterable[str]) -> set[str]:
    """The words of format strings, without the {fields}. Punctuation marks count as words."""
    return {word for template in templates for word in re.findall(r"\w+|[^\w\s]", re.sub(r"\{.*?\}", " ", template))}
