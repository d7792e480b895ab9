"""Reads the images of NoCaps, val or test. Their captions, if public, are in a file of reference captions.

    [{"image": "val/0013ea2087020901.jpg", "img_id": 0}]

Records are counted from 1 in messages.
"""

from collections import Counter
from pathlib import Path
from typing import Any

from blipbench.data.captioned import Captioned, CaptionedImage
from blipbench.data.coco import is_id
from blipbench.data.files import read_annotation
from blipbench.data.records import image_path, json_kind, require_fields

_EXPECTED = 'expected a list of {"image": "val/a.jpg", "img_id": 0}'


def read_nocaps(annotation: Path) -> Captioned:
    """The images without captions. Raises DataError if the file is not a JSON list."""
    records, sha256 = read_annotation(annotation, _EXPECTED)
    images: list[CaptionedImage] = []
    problems: list[str] = []
    for number, record in enumerate(records, start=1):
        try:
            images.append(_image(record))
        except ValueError as error:
            problems.append(f"{annotation}: record {number}: {error}")
    for what, values in (("img_id", [i.image_id for i in images]), ("image", [i.path for i in images])):
        repeated = [(value, times) for value, times in Counter(values).items() if times > 1]
        problems += [f"{annotation}: {what} {value!r} is there {times} times" for value, times in repeated]
    return Captioned(images, sha256, problems)


def _image(record: Any) -> CaptionedImage:
    """Raises ValueError that says what is wrong with the record."""
    require_fields(record, ("image", "img_id"), _EXPECTED)
    image, image_id = record["image"], record["img_id"]
    path = image_path(image)
    if not is_id(image_id):
        raise ValueError(f"'img_id' is {json_kind(image_id)}, not a whole number; {_EXPECTED}")
    return CaptionedImage(image, path, [], image_id)
