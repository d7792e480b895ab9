"""Generated data with the sizes of COCO's 5K test split: lengths of captions, and JPEGs with their annotation file.

Imports no torch, so that the processes that draw start quickly.
"""

import functools
import json
import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

WIDTH, HEIGHT = 640, 480
CAPTIONS = 5  # of an image
IMAGES_PER_SIXTH_CAPTION = 500  # COCO's 5,000 test images have 25,010 captions
LONGEST = 35  # tokens


def caption_owners(images: int) -> npt.NDArray[np.int64]:
    """The image of each caption."""
    sixth = IMAGES_PER_SIXTH_CAPTION * np.arange(images // IMAGES_PER_SIXTH_CAPTION)
    return np.sort(np.concatenate([np.repeat(np.arange(images), CAPTIONS), sixth]))


def caption_lengths(rng: np.random.Generator, captions: int) -> npt.NDArray[np.int64]:
    """Tokens of each caption as in COCO: 12.5 on average with [CLS] and [SEP], at most 35."""
    return np.clip(np.round(rng.gamma(9.0, 5.5 / 9.0, captions) + 7.0), 8, LONGEST).astype(np.int64)


def write_coco(folder: Path, images: int, words: Sequence[str]) -> int:
    """Write the JPEGs and coco_karpathy_test.json. Each of `words` is one token. Returns the number of captions."""
    rng = np.random.default_rng(0)
    owner = caption_owners(images)
    captions: list[list[str]] = [[] for _ in range(images)]
    vocabulary = np.array(words)
    for image, length in zip(owner, caption_lengths(rng, len(owner)), strict=True):
        captions[image].append(" ".join(rng.choice(vocabulary, length - 2)))
    names = [f"val2014/COCO_val2014_{image:012d}.jpg" for image in range(images)]
    (folder / "val2014").mkdir(parents=True)
    with ProcessPoolExecutor(os.cpu_count(), mp_context=multiprocessing.get_context("spawn")) as pool:
        list(pool.map(functools.partial(draw, folder), names, range(images), chunksize=50))
    records = [{"image": name, "caption": texts} for name, texts in zip(names, captions, strict=True)]
    (folder / "coco_karpathy_test.json").write_text(json.dumps(records))
    return len(owner)


def draw(folder: Path, name: str, seed: int) -> None:
    """Noise over colours that differ from image to image, in a file about as large as COCO's."""
    rng = np.random.default_rng(seed)
    colours = Image.fromarray(rng.integers(0, 192, (4, 4, 3), dtype=np.uint8)).resize((WIDTH, HEIGHT))
    pixels = np.asarray(colours) + rng.integers(0, 32, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / name, quality=90)
