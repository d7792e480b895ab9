"""Draws the pictures and clips of the shapes world to a data folder, in this process or in a process pool.

A picture's file depends only on (seed, split, number), so any process can draw it.
"""

from collections.abc import Iterator
from concurrent.futures import Executor, as_completed
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from av.video.stream import VideoStream

from blipbench.files import undisturbed
from blipbench.shapes.annotations import clip_name, image_name
from blipbench.shapes.cards import draw_card, sample_card
from blipbench.shapes.clips import FRAMES, HEIGHT, WIDTH, Clip, draw_frames, sample_clip, sample_clips
from blipbench.shapes.draw import draw_scene
from blipbench.shapes.sampling import sample_scene, scene_rng

PICTURES_A_JOB = 50
QUALITY = 90
FRAME_RATE = 12
CLIPS = "videos"
_FRAME_RNG = 4  # the `purpose` of `scene_rng` that chooses a single frame of a clip


class Job(NamedTuple):
    """The pictures or clips `start` to `stop` - 1 of a split."""

    out: Path
    seed: int
    split: str
    start: int
    stop: int


def draw_all(out: Path, seed: int, sizes: dict[str, int], pool: Executor | None) -> Iterator[int]:
    """Draw everything. Yields the number of pictures and clips done since the last yield.

    Folders are created if necessary. Raises OSError if a file cannot be written.
    """
    for split in sizes:
        (out / CLIPS if split == "video" else out / Path(image_name(split, 0)).parent).mkdir(
            parents=True, exist_ok=True
        )
    jobs = [
        Job(out, seed, split, start, min(start + PICTURES_A_JOB, size))
        for split, size in sizes.items()
        for start in range(0, size, PICTURES_A_JOB)
    ]
    if pool is None:
        for job in jobs:
            yield from _draw(job)
    else:
        for done in as_completed([pool.submit(_draw_job, job) for job in jobs]):
            yield done.result()


def write_clip(clip: Clip, path: Path) -> None:
    """Write an MP4 of FRAMES frames, in H.264 if this build of FFmpeg supports it, otherwise in MPEG-4."""
    codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=FRAME_RATE)
        assert isinstance(stream, VideoStream)  # for the type checker, which does not know the codec's type
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.options = {"crf": "16", "preset": "veryfast"} if codec == "libx264" else {"qmin": "2", "qmax": "4"}
        stream.codec_context.thread_count = 1  # the same bytes on every machine
        for image in draw_frames(clip):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.asarray(image), format="rgb24")))
        container.mux(stream.encode())


def _draw_job(job: Job) -> int:
    return sum(_draw(job))


def _draw(job: Job) -> Iterator[int]:
    if job.split == "video":
        # A clip's sample depends on all captions before it, so sampling starts at 0.
        for index, clip in enumerate(sample_clips(job.seed, job.split, job.stop)[job.start :], start=job.start):
            with undisturbed():
                write_clip(clip, job.out / CLIPS / f"{clip_name(index)}.mp4")
            yield 1
        return
    for index in range(job.start, job.stop):
        if job.split == "motion":
            number = int(scene_rng(job.seed, job.split, index, _FRAME_RNG).integers(FRAMES))
            (image,) = draw_frames(sample_clip(job.seed, job.split, index), range(number, number + 1))
        elif job.split == "cards":
            image = draw_card(sample_card(job.seed, job.split, index))
        else:
            image = draw_scene(sample_scene(job.seed, job.split, index))
        with undisturbed():
            image.save(job.out / image_name(job.split, index), quality=QUALITY, subsampling="4:4:4")
        yield 1
