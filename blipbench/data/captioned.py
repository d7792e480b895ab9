"""Images with captions: what every reader of captions returns, whatever the format of its file.

A reader takes the annotation, the split and, for a table, the names of its columns. It returns all sound images, and a
list of everything that is wrong with the file.
"""

import dataclasses
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class CaptionedImage:
    """An image with all its captions.

    `image` is its name in the annotation, `path` the same without "." and "..". `image_id` is its id on the benchmark's
    server, if the annotation states it.
    """

    image: str
    path: str
    captions: list[str]
    image_id: int | None = None


@dataclasses.dataclass(frozen=True)
class Captioned:
    """`sha256` is that of the annotation. `own` says that they are a user's own pictures, to be turned upright."""

    images: Sequence[CaptionedImage]
    sha256: str
    problems: Sequence[str] = ()
    own: bool = False
