"""Writes the shapes world to disk: pictures, clips, annotations in the official formats, and a vocabulary.

`make_shapes` writes to one folder: `shapes.json` (generator version, seed, images per split),
`images/<split>/shapes_<split>_000007.jpg` (112x96 to 160x144 pixels, quality 90, 4:4:4), `videos/*.mp4` and the files
that annotations.py lists. File names in annotations are relative to the folder. The same seed gives the same files on
the same installation. Image 7 of a split does not depend on the number of images.

The splits are train, val and test (retrieval, captioning, VQA, NLVR), web (noisy captions), nocaps (held-out
combinations), video (clips), motion (single frames of clips, for training) and cards (one figure each, half as large).
"""

import contextlib
import dataclasses
import json
import multiprocessing
import os
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

from blipbench.data.workers import heed_parent, signals_for_parent
from blipbench.errors import BlipbenchError, DataError, UsageError
from blipbench.files import undisturbed
from blipbench.shapes.annotations import split_files
from blipbench.shapes.captions import CAPTIONS
from blipbench.shapes.pictures import CLIPS, PICTURES_A_JOB, draw_all
from blipbench.shapes.questions import ANSWER_LIST
from blipbench.shapes.sampling import SPLITS
from blipbench.shapes.scene import DOMAINS
from blipbench.shapes.vocabulary import shapes_vocabulary

GENERATOR = "blipbench shapes"
VERSION = 5  # increased whenever the same seed gives different files
MANIFEST = "shapes.json"


@dataclasses.dataclass(frozen=True)
class ShapesSummary:
    """What `make_shapes` wrote: the number of images (for video: clips) per split, and the annotation files."""

    out: Path
    seed: int
    images: Mapping[str, int]
    captions_per_image: int
    annotations: Sequence[Path]


def split_sizes(images: int, splits: Sequence[str] = SPLITS, train_images: int | None = None) -> dict[str, int]:
    """The number of pictures per split if the test split has `images`.

    train and cards have `train_images` (default: 4 * `images`), web a quarter of that, and motion 15% of it. val has a
    fifth of `images`; nocaps and video have `images`. Raises UsageError for a count below one or an unknown split.
    """
    if images < 1:
        raise UsageError(f"--images {images}: must be at least 1")
    if train_images is not None and train_images < 1:
        raise UsageError(f"--train-images {train_images}: must be at least 1")
    unknown = [split for split in splits if split not in SPLITS]
    if unknown or not splits:
        found = ", ".join(unknown) if unknown else "no split"
        raise UsageError(f"splits: found {found}; use one or more of {', '.join(SPLITS)}")
    train = train_images or 4 * images
    sizes = {
        "train": train,
        "val": max(1, images // 5),
        "test": images,
        "web": max(1, train // 4),
        "nocaps": max(len(DOMAINS), images),
        "video": images,
        "motion": max(1, round(0.15 * train)),
        "cards": train,
    }
    return {split: sizes[split] for split in SPLITS if split in splits}


def make_shapes(
    out: Path,
    images: int,
    seed: int,
    progress: Callable[[int], None] | None = None,
    splits: Sequence[str] = SPLITS,
    train_images: int | None = None,
    workers: int = 1,
) -> ShapesSummary:
    """Write the shapes world to the folder `out`. `images` is the size of the test split.

    `out` is created if necessary. It must be empty or contain an earlier shapes data set, whose annotations and
    pictures are replaced. Annotations are written last: after an interruption there are none, and a second call
    completes the data set. `progress` is called repeatedly with the number of pictures and clips done, out of
    `sum(split_sizes(images, splits, train_images).values())`. `workers` processes draw pictures and make texts.

    Raises UsageError if `out` contains other files, or for a bad count, split or seed; DataError if `out` cannot be
    written; BlipbenchError if a worker died.
    """
    if seed < 0:
        raise UsageError(f"--seed {seed}: must be 0 or greater")
    sizes = split_sizes(images, splits, train_images)
    try:
        _claim(out)
        manifest = {"made_by": GENERATOR, "version": VERSION, "seed": seed, "images": sizes}
        _write(out / MANIFEST, json.dumps(manifest, indent=1))
        annotations = []
        with _pool(workers, sum(sizes.values())) as pool:
            texts = _texts(sizes, seed, pool)
            done = 0
            for drawn in draw_all(out, seed, sizes, pool):
                done += drawn
                if progress is not None:
                    progress(done)
            for of_split in texts:
                for name, text in of_split.items():
                    _write(out / name, text)
                    annotations.append(out / name)
        _write(out / "answer_list.json", json.dumps(ANSWER_LIST, indent=1))
        _write(out / "vocab.txt", "".join(f"{entry}\n" for entry in shapes_vocabulary()))
    except OSError as error:
        raise DataError(
            f"{error.filename or out}: cannot write the shapes data set: {error.strerror or error}; "
            "free some space or use another --out, then try again"
        ) from error
    return ShapesSummary(out=out, seed=seed, images=sizes, captions_per_image=CAPTIONS, annotations=annotations)


def _claim(out: Path) -> None:
    """Make `out` an empty shapes folder. Files that blipbench did not write are kept."""
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out}: is a file; use a folder")
    out.mkdir(parents=True, exist_ok=True)
    if any(out.iterdir()) and not _is_ours(out / MANIFEST):
        raise UsageError(f"--out {out}: is not empty and contains no shapes data set; use an empty or a new folder")
    names = {name for split in SPLITS for name in split_files(split, 1, 0)} | {"answer_list.json", "vocab.txt"}
    for name in names:
        (out / name).unlink(missing_ok=True)
    for split in SPLITS:
        for picture in (out / "images" / split).glob(f"shapes_{split}_*.jpg"):
            picture.unlink()
    for clip in (out / CLIPS).glob("shapes_clip_*.mp4"):
        clip.unlink()


def _is_ours(manifest: Path) -> bool:
    try:
        content = json.loads(manifest.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and content.get("made_by") == GENERATOR


@contextlib.contextmanager
def _pool(workers: int, pictures: int) -> Generator[Executor | None]:
    """A process pool, or None if there is too little work to start processes."""
    if workers < 2 or pictures < 2 * workers * PICTURES_A_JOB:
        yield None
        return
    # Spawned, not forked: the caller may have threads, and a fork would copy their locks in an unknown state.
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=spawn, initializer=heed_parent) as pool:
        try:
            resource_tracker.ensure_running()  # else it would start with the first worker, and lift the signals' mask
            with signals_for_parent():
                for _ in range(workers):  # the first tasks start the processes
                    pool.submit(os.getpid)
            yield pool
        except BrokenProcessPool as error:
            raise BlipbenchError(
                "a process that draws the shapes data set died: it was killed or ran out of memory; run the same "
                "command again, if need be with --workers 1"
            ) from error
        except BaseException:
            pool.shutdown(cancel_futures=True)  # what is being drawn is finished first
            raise


def _texts(sizes: Mapping[str, int], seed: int, pool: Executor | None) -> Iterable[dict[str, str]]:
    """The annotation files of each split by name. A pool starts them at once, before the pictures."""
    return (pool.map if pool else map)(_split_texts, sizes, sizes.values(), [seed] * len(sizes))


def _split_texts(split: str, size: int, seed: int) -> dict[str, str]:
    return {name: _as_text(name, content) for name, content in split_files(split, size, seed).items()}


def _as_text(name: str, content: Any) -> str:
    if name.endswith(".jsonl"):
        return "".join(f"{json.dumps(row)}\n" for row in content)
    return json.dumps(content, indent=1)


def _write(path: Path, text: str) -> None:
    """Write atomically: a reader never sees an incomplete file under the final name."""
    temporary = path.with_name(f".{path.name}.tmp")
    with undisturbed():
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
