"""Reads MSRVTT's 1K test split as the reference has it: `msrvtt_test.jsonl`, one line and one caption a clip.

    {"clip_name": "video7020", "caption": "a woman creating a fondant baby and flower", ...}

In go a data folder and that file, out comes a RetrievalDataset whose videos are known to be there. A clip is
`<clip_name>.mp4` in the data folder or in one of the folders that the archives of MSRVTT unpack to.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from blipbench.data.dataset import Clip, RetrievalDataset
from blipbench.data.files import file_size, first_of
from blipbench.data.records import path_inside
from blipbench.data.table import Row, read_rows
from blipbench.data.text import normalise_caption
from blipbench.data.video import FRAMES
from blipbench.errors import DataError

FOLDERS = ("", "videos", "videos/all", "TestVideo", "TrainValVideo")


def read_msrvtt(
    root: Path, annotation: Path, *, name: str, split: str, max_words: int, limit: int | None = None
) -> RetrievalDataset:
    """The clips of `annotation`, with their videos looked up under `root`; `name` is the task's, for messages.

    `limit` keeps the first clips, and only their files are looked for.

    Raises:
        DataError: the annotation is unreadable or malformed, or videos are missing or empty.
        UsageError: `limit` is not positive.
    """
    rows, sha256 = read_rows(annotation)
    clip_names = _clip_names(rows)
    captions = first_of([row.text("caption") for row in rows], limit, "clip")
    kept = clip_names[: len(captions)]
    return RetrievalDataset(
        name=name,
        split=split,
        root=root,
        annotation=annotation,
        annotation_sha256=sha256,
        names=kept,
        sources=[Clip(video, FRAMES) for video in _find_videos(root, kept, name)],
        texts=[normalise_caption(caption, max_words) for caption in captions],
        image_of_text=np.arange(len(kept), dtype=np.int32),
        total_images=len(clip_names),
        is_video=True,
    )


def _clip_names(rows: Sequence[Row]) -> list[str]:
    first: dict[str, str] = {}  # clip -> the row that has it
    for row in rows:
        clip = row.text("clip_name")
        try:
            path_inside(clip)
        except ValueError as error:
            raise DataError(f"{row.where}: clip_name {clip!r} {error}") from None
        if clip in first:
            raise DataError(f"{row.where}: clip {clip!r} is that of {first[clip]} again; a clip has one caption here")
        first[clip] = row.where
    return list(first)


def _find_videos(root: Path, clip_names: Sequence[str], task: str) -> list[Path]:
    videos: list[Path] = []
    missing: list[str] = []
    for clip in clip_names:
        places = [root / folder / f"{path_inside(clip)}.mp4" for folder in FOLDERS]
        sizes = {place: size for place in places if (size := file_size(place)) is not None}
        if any(sizes.values()):
            videos.append(next(place for place, size in sizes.items() if size))
        else:
            missing.append(f"{clip}.mp4" + (" (an empty file)" if sizes else ""))
    if missing:
        are = "is" if len(missing) == 1 else "are"
        raise DataError(
            f"{task}: {len(missing)} of {len(clip_names)} videos {are} missing under {root}, first: {missing[0]}; "
            f"looked in {', '.join(folder or 'the folder itself' for folder in FOLDERS)}; "
            f"run `blipbench data prepare {task}`"
        )
    return videos
