"""Checks that every reader of JSON records makes. A ValueError says what is wrong; the reader adds the place."""

import os
from collections.abc import Sequence
from typing import Any


def json_kind(value: Any) -> str:
    """What a JSON value is, in JSON's words."""
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


def has_half_surrogate(text: str) -> bool:
    """Whether the text has half a surrogate pair. JSON can state one, but tokenizers and Parquet do not accept it."""
    return not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text)


def path_inside(relative: str) -> str:
    """`relative` without "." and "..". ValueError says why it cannot name a file inside a folder."""
    if not relative or "\0" in relative or has_half_surrogate(relative):
        raise ValueError("is not a file name")
    path = os.path.normpath(relative)
    if os.path.isabs(path) or os.path.splitdrive(path)[0]:
        raise ValueError("is absolute; it must be relative to the data folder")
    if path.split(os.sep)[0] == os.pardir:
        raise ValueError("leaves the data folder")
    return path


def image_path(image: Any, called: str = "'image'") -> str:
    """As `path_inside`, for the value that a record states as its image, of any type."""
    if not isinstance(image, str):
        raise ValueError(f"{called} is {json_kind(image)}, not a file name")
    try:
        return path_inside(image)
    except ValueError as error:
        raise ValueError(f"image {image!r} {error}") from None


def require_fields(record: Any, fields: Sequence[str], expected: str) -> None:
    """ValueError says which field is missing, and what was expected."""
    if not isinstance(record, dict):
        raise ValueError(f"is {json_kind(record)}; {expected}")
    for field in fields:
        if field not in record:
            raise ValueError(f"has no {field!r}; {expected}")


def require_text(text: Any, called: str) -> None:
    """ValueError if it is not text, or cannot be encoded as UTF-8."""
    if not isinstance(text, str):
        raise ValueError(f"{called} is {json_kind(text)}, not a string")
    if has_half_surrogate(text):
        raise ValueError(f"{called} holds half a surrogate pair, which is not text: {text!a}")
