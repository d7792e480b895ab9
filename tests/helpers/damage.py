"""Damaged and extreme values for property tests: JSON-like values and files, with a few places of them spoilt."""

import copy
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

# Sizes between a few thousand and 2**31 are left out: a machine would try to allocate them.
NUMBERS: list[Any] = [0, -1, 1, 3, 2**31, 2**63, -(10**30), 0.5, -0.0, 1e308, float("nan"), float("inf")]
TEXTS: list[Any] = [
    "",
    " ",
    "0",
    "-1",
    "nan",
    "x" * 5000,
    "../../x",
    "/dev/null",
    "a\0b",
    "\ud800",
    "🙂",
    "{}",
    "%s{0}",
]
KINDS: list[Any] = [None, True, False, [], {}, [[]], [None], {"": None}, {"x": {"y": [1]}}]
# Copies, because a value that is spoilt once more is changed in place.
ANYTHING = st.sampled_from([*NUMBERS, *TEXTS, *KINDS]).map(copy.deepcopy)


def nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key or index) inside."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield value, key
        yield from _places(inner)


@st.composite
def spoilt(draw: st.DrawFn, original: Any) -> Any:
    """The value with one to three places replaced, removed, doubled or wrapped; or something else altogether."""
    value = copy.deepcopy(original)
    for _ in range(draw(st.integers(1, 3))):
        places = list(_places(value))
        if not places:
            return draw(ANYTHING)
        container, key = places[draw(st.integers(0, len(places) - 1))]
        match draw(st.sampled_from(["replace", "replace", "remove", "add", "wrap", "deep"])):
            case "replace":
                container[key] = draw(ANYTHING)
            case "remove":
                del container[key]
            case "add" if isinstance(container, dict):
                container[draw(st.sampled_from(["unknown", "", "names", "🙂"]))] = draw(ANYTHING)
            case "add":
                container.insert(key, copy.deepcopy(container[key]))
            case "wrap":
                container[key] = [container[key]]
            case "deep":
                container[key] = nested(60)
    return value


@st.composite
def spoilt_bytes(draw: st.DrawFn, original: bytes) -> bytes:
    """The file cut short, with bytes overwritten, with something before or behind it, or empty."""
    at = draw(st.integers(0, max(0, len(original) - 1)))
    noise = draw(st.binary(min_size=1, max_size=16))
    match draw(st.sampled_from(["cut", "overwrite", "insert", "append", "zeros", "empty", "text"])):
        case "cut":
            return original[:at]
        case "overwrite":
            return original[:at] + noise + original[at + len(noise) :]
        case "insert":
            return original[:at] + noise + original[at:]
        case "append":
            return original + noise
        case "zeros":
            return original[:at] + bytes(len(original) - at)
        case "empty":
            return b""
        case _:
            return b"<html>403 Forbidden</html>"
