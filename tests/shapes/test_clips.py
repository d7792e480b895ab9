"""Clips: what moves where is in the pixels of every frame, and each caption belongs to one clip."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from blipbench.data.video import decode_clip
from blipbench.shapes.clips import FRAMES, STEPS, Clip, draw_frames, sample_clips
from blipbench.shapes.draw import RGB
from blipbench.shapes.pictures import write_clip
from blipbench.shapes.scene import HELD_OUT_LOOKS

SEED = 3


@pytest.fixture(scope="module")
def clips() -> list[Clip]:
    return sample_clips(SEED, "video", 60)


def middle_of(image: Image.Image, colour: str) -> np.ndarray:
    """Where a colour is, x and y: the mean of the pixels nearest to it among all colours, shadows left out."""
    pixels = np.asarray(image, dtype=float)
    near = np.abs(pixels - RGB[colour]).max(axis=2) < 30
    rows, columns = np.nonzero(near)
    assert len(rows)
    return np.array([columns.mean(), rows.mean()])


def test_captions_are_all_different_and_the_first_ones_stay_when_more_are_made(clips: list[Clip]) -> None:
    assert len({clip.caption for clip in clips}) == len(clips)
    assert sample_clips(SEED, "video", 10) == clips[:10]


def test_a_caption_says_who_moves_where(clips: list[Clip]) -> None:
    sentence = r"an? [a-z ]+ moves (to the (left|right)|up|down) (above|below|to the (left|right) of) an? [a-z ]+"
    assert all(re.fullmatch(sentence, clip.caption) for clip in clips)


def test_a_shape_moves_as_the_caption_says_or_stands_still(clips: list[Clip]) -> None:
    solid = [clip for clip in clips if clip.first.figure.texture == clip.second.figure.texture == "solid"]
    assert len(solid) > 5
    for clip in solid:
        first, last = draw_frames(clip, range(0, FRAMES, FRAMES - 1))
        for mover in (clip.first, clip.second):
            moved = middle_of(last, mover.figure.colour) - middle_of(first, mover.figure.colour)
            if mover.heading is None:
                assert np.abs(moved).max() < 1
            else:
                assert moved @ STEPS[mover.heading] > 25


def test_a_moving_shape_drags_a_trail_and_a_still_one_none(clips: list[Clip]) -> None:
    """The same clip without its movers' headings differs behind the moving shapes and nowhere ahead of them."""
    clip = next(clip for clip in clips if clip.second.heading is None and clip.first.heading == "to the right")
    (frame,) = draw_frames(clip, range(12, 13))
    first = clip.first
    x = first.start[0] + (first.end[0] - first.start[0]) * 12 / (FRAMES - 1)
    radius, y = first.figure.places[0].radius, round(first.start[1])
    row = np.asarray(frame, dtype=float)[y]
    behind, ahead = row[round(x - 1.6 * radius)], row[round(x + 1.6 * radius)]
    colour = np.array(RGB[first.figure.colour]) * first.figure.shade
    assert np.abs(behind - colour).sum() < np.abs(ahead - colour).sum()


def test_no_held_out_combination_moves(clips: list[Clip]) -> None:
    figures = [mover.figure for clip in clips for mover in (clip.first, clip.second)]
    assert not {(figure.shape, figure.colour) for figure in figures} & HELD_OUT_LOOKS


def test_a_written_clip_is_read_back_frame_by_frame(clips: list[Clip], tmp_path: Path) -> None:
    write_clip(clips[0], tmp_path / "clip.mp4")
    decoded = decode_clip(tmp_path / "clip.mp4", 64).permute(0, 2, 3, 1).numpy().astype(float)  # [8, 64, 64, 3]
    drawn = [np.asarray(frame.resize((64, 64), Image.Resampling.BILINEAR)) for frame in draw_frames(clips[0])]
    for number, frame in enumerate(decoded):
        distances = [np.abs(frame - other).mean() for other in drawn]
        assert int(np.argmin(distances)) == 3 * number
