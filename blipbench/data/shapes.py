"""Makes the shapes data set: JPEG files and annotations in the Karpathy format, as COCO and Flickr30k come.

`make_shapes` writes, under one folder:

    shapes.json                               what made the folder: generator version, seed, images per split
    images/<split>/shapes_<split>_000007.jpg  160x128 to 224x192 pixels, quality 90, 4:4:4
    shapes_karpathy_train.json                [{"image", "caption", "image_id"}], one row a caption
    shapes_karpathy_{val,test}.json           [{"image", "caption": [5]}]

"image" is relative to the folder. The same seed gives the same files on the same installation, and image 7 of a split
is the same however many are made. What a scene is, how it is drawn and what is said of it: shapes_world.py,
shapes_draw.py, shapes_captions.py.
"""

import dataclasses
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from blipbench.data.shapes_captions import CAPTIONS, caption_scene
from blipbench.data.shapes_draw import draw_scene
from blipbench.data.shapes_world import SPLITS, sample_scene
from blipbench.errors import DataError, UsageError

GENERATOR = "blipbench shapes"
VERSION = 1  # raised whenever the same seed would give other files
MANIFEST = "shapes.json"


@dataclasses.dataclass(frozen=True)
class ShapesSummary:
    """What `make_shapes` wrote: per split, the number of images and the annotation file."""

    out: Path
    seed: int
    images: Mapping[str, int]
    captions_per_image: int
    annotations: Mapping[str, Path]


def split_sizes(images: int, splits: Sequence[str] = SPLITS) -> dict[str, int]:
    """Images per split when the test split has `images`: train four times as many, val a fifth of them, at least one.

    Raises UsageError for a count below one or an unknown split.
    """
    if images < 1:
        raise UsageError(f"--images {images}: the test split needs at least 1 image")
    unknown = [split for split in splits if split not in SPLITS]
    if unknown or not splits:
        found = ", ".join(unknown) if unknown else "no split"
        raise UsageError(f"shapes: splits: found {found}; choose among {', '.join(SPLITS)}")
    sizes = {"train": 4 * images, "val": max(1, images // 5), "test": images}
    return {split: sizes[split] for split in SPLITS if split in splits}


def make_shapes(
    out: Path,
    images: int,
    seed: int,
    progress: Callable[[int], None] | None = None,
    splits: Sequence[str] = SPLITS,
) -> ShapesSummary:
    """Write the shapes data set into `out`, which is made if need be; `images` is the size of the test split.

    `out` must be empty or an earlier shapes data set; of the latter the annotations and pictures are replaced, so
    afterwards it holds exactly what was asked for. Annotations are written last: an interrupted run leaves none, and
    running it again completes it. `progress` is called after every image with the number of images done, of
    `sum(split_sizes(images, splits).values())`.

    Raises UsageError for a folder of another making, a bad count, split or seed; DataError if `out` cannot be written.
    """
    if seed < 0:
        raise UsageError(f"--seed {seed}: choose 0 or a positive number")
    sizes = split_sizes(images, splits)
    try:
        _claim(out)
        _write_json(out / MANIFEST, {"made_by": GENERATOR, "version": VERSION, "seed": seed, "images": sizes})
        rows: dict[str, list[dict[str, Any]]] = {}
        done = 0
        for split, size in sizes.items():
            rows[split] = []
            for index in range(size):
                rows[split] += _write_image(out, seed, split, index)
                done += 1
                if progress is not None:
                    progress(done)
        annotations = {split: out / f"shapes_karpathy_{split}.json" for split in sizes}
        for split, path in annotations.items():
            _write_json(path, rows[split])
    except OSError as error:
        raise DataError(
            f"{error.filename or out}: cannot write the shapes data set: {error.strerror or error}; "
            "free space or choose another --out, then run it again"
        ) from error
    return ShapesSummary(out=out, seed=seed, images=sizes, captions_per_image=CAPTIONS, annotations=annotations)


def _claim(out: Path) -> None:
    """Make `out` an empty shapes folder. Files that this module does not write stay."""
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out}: is a file; choose a folder")
    out.mkdir(parents=True, exist_ok=True)
    if any(out.iterdir()) and not _is_ours(out / MANIFEST):
        raise UsageError(f"--out {out}: is not empty and holds no shapes data set; choose an empty or a new folder")
    for split in SPLITS:
        (out / f"shapes_karpathy_{split}.json").unlink(missing_ok=True)
        for picture in (out / "images" / split).glob(f"shapes_{split}_*.jpg"):
            picture.unlink()


def _is_ours(manifest: Path) -> bool:
    try:
        content = json.loads(manifest.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and content.get("made_by") == GENERATOR


def _write_image(out: Path, seed: int, split: str, index: int) -> list[dict[str, Any]]:
    """Draw one image, write it, and return its annotation rows."""
    scene = sample_scene(seed, split, index)
    captions = caption_scene(scene, seed, split, index)
    name = f"images/{split}/shapes_{split}_{index:06d}.jpg"
    path = out / name
    path.parent.mkdir(parents=True, exist_ok=True)
    draw_scene(scene).save(path, quality=90, subsampling="4:4:4")
    if split == "train":
        return [{"image": name, "caption": caption, "image_id": f"shapes_{index:06d}"} for caption in captions]
    return [{"image": name, "caption": list(captions)}]


def _write_json(path: Path, content: Any) -> None:
    """Write whole or not at all: a reader never sees half a file under the final name."""
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(content, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
