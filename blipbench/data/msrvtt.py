"""Reads MSRVTT's 1K test split in the reference's format: `msrvtt_test.jsonl`, one line and one caption for each clip.

    {"clip_name": "video7020", "caption": "a woman creating a fondant baby and flower", ...}

Takes a data folder and that file, and returns a RetrievalDataset whose videos exist. A clip is `<clip_name>.mp4` in the
data folder or in one of the folders that the archives of MSRVTT unpack to.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from blipbench.data.dataset import RetrievalDataset, Video
from blipbench.data.files import Missing, file_size, first_of, refuse_missing
from blipbench.data.records import path_inside
from blipbench.data.table import Row, read_rows
from blipbench.data.text import normalise_caption
from blipbench.data.video import FRAMES

FOLDERS = ("", "videos", "videos/all", "TestVideo", "TrainValVideo")


def read_msrvtt(
    root: Path, annotation: Path, *, name: str, split: str, max_words: int, limit: int | None = None
) -> RetrievalDataset:
    """The clips of `annotation`, with their videos looked up under `root`. `name` is the task's, for messages.

    `limit` keeps the first clips, and only their files are required.

    Raises:
        DataError: the annotation is unreadable or malformed, or videos are missing or empty.
        UsageError: `limit` is not positive.
    """
    rows, problems, sha256 = read_rows(annotation)
    captions = _captions(rows, problems)
    kept = first_of(list(captions), limit, "clip")
    found, missing = _find_videos(root, kept)
    sources = [Video(video, FRAMES) for video in found]
    looked_in = ", ".join(folder or "the folder itself" for folder in FOLDERS)
    advice = f"looked in {looked_in}; run `blipbench data prepare {name}`"
    refuse_missing(Missing(root, missing, len(kept), "videos", advice), name, problems, sources, verify=name)
    return RetrievalDataset(
        name=name,
        split=split,
        root=root,
        annotation=annotation,
        annotation_sha256=sha256,
        names=list(kept),
        sources=sources,
        texts=[normalise_caption(captions[clip], max_words) for clip in kept],
        image_of_text=np.arange(len(kept), dtype=np.int32),
        total_images=len(captions),
        is_video=True,
    )


def _captions(rows: Sequence[Row], problems: list[str]) -> dict[str, str]:
    """The caption of each clip. Adds what is wrong with a row to `problems`."""
    captions: dict[str, str] = {}
    first: dict[str, str] = {}  # clip -> the row that has it
    for row in rows:
        try:
            clip = row.text("clip_name")
            try:
                path_inside(clip)
            except ValueError as error:
                raise ValueError(f"clip_name {clip!r} {error}") from None
            if first.setdefault(clip, row.where) != row.where:
                raise ValueError(f"clip {clip!r} is also that of {first[clip]}; a clip has one caption")
            captions[clip] = row.text("caption")
        except ValueError as error:
            problems.append(f"{row.where}: {error}")
    return captions


def _find_videos(root: Path, clip_names: Sequence[str]) -> tuple[list[Path], list[str]]:
    """The videos of the clips that exist, and the names of those that are missing or empty."""
    videos: list[Path] = []
    missing: list[str] = []
    for clip in clip_names:
        places = [root / folder / f"{path_inside(clip)}.mp4" for folder in FOLDERS]
        sizes = {place: size for place in places if (size := file_size(place)) is not None}
        if any(sizes.values()):
            videos.append(next(place for place, size in sizes.items() if size))
        else:
            missing.append(f"{clip}.mp4" + (" (an empty file)" if sizes else ""))
    return videos, missing
