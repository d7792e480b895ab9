"""Reads Karpathy's own split files: dataset_coco.json, dataset_flickr8k.json, dataset_flickr30k.json.

    {"images": [{"filepath": "val2014", "filename": "COCO_val2014_000000391895.jpg", "cocoid": 391895, "split": "test",
                 "sentences": [{"raw": "A man with a red helmet ..."}, ...]}, ...]}

Flickr's files have no "filepath" and no "cocoid". One file has all splits. COCO's "restval" belongs to train, as in
everybody's use of these splits. Images and captions keep the order of the file. Records are counted from 1 in messages.
"""

from pathlib import Path
from typing import Any

from blipbench.data.captioned import Captioned, CaptionedImage
from blipbench.data.coco import is_id
from blipbench.data.files import other_format, read_json
from blipbench.data.records import image_path, json_kind, require_fields, require_text
from blipbench.errors import DataError

_EXPECTED = 'expected {"images": [{"filename": "a.jpg", "split": "test", "sentences": [{"raw": "..."}, ...]}, ...]}'
_SPLITS = {"train": ("train", "restval"), "val": ("val",), "test": ("test",)}


def read_karpathy_splits(annotation: Path, split: str) -> Captioned:
    """The images of one split. Raises DataError if the file has no list of images or no image of the split."""
    content, sha256 = read_json(annotation, _EXPECTED)
    records = content.get("images") if isinstance(content, dict) else None
    if not isinstance(records, list):
        raise DataError(f"{annotation} has no list 'images'; {other_format(content) or _EXPECTED}")
    images: list[CaptionedImage] = []
    problems: list[str] = []
    first: dict[str, int] = {}  # path -> number of its record
    for number, record in enumerate(records, start=1):
        try:
            require_fields(record, ("filename", "split", "sentences"), _EXPECTED)
            if record["split"] not in _SPLITS[split]:
                continue
            image = _image(record)
            if first.setdefault(image.path, number) != number:
                raise ValueError(f"image {image.image!r} is also that of record {first[image.path]}")
            images.append(image)
        except ValueError as error:
            problems.append(f"{annotation}: images, record {number}: {error}")
    if not images and not problems:
        raise DataError(f"{annotation} has no images of the split {split!r}; choose another with --split")
    return Captioned(images, sha256, problems)


def _image(record: dict[str, Any]) -> CaptionedImage:
    """Raises ValueError that says what is wrong with the record."""
    folder, filename, sentences = record.get("filepath", ""), record["filename"], record["sentences"]
    require_text(folder, "'filepath'")
    require_text(filename, "'filename'")
    name = f"{folder}/{filename}" if folder else filename
    path = image_path(name)
    if not isinstance(sentences, list) or not sentences:
        raise ValueError(f"'sentences' is {'empty' if sentences == [] else json_kind(sentences)}; {_EXPECTED}")
    captions: list[str] = []
    for position, sentence in enumerate(sentences, start=1):
        require_fields(sentence, ("raw",), _EXPECTED)
        require_text(sentence["raw"], f"'raw' of sentence {position}")
        captions.append(sentence["raw"])
    image_id = record.get("cocoid")
    return CaptionedImage(name, path, captions, image_id if is_id(image_id) else None)
