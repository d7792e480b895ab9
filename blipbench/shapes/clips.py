"""Clips of moving shapes for the MSRVTT-like set: two shapes on a still background, one or both of which move.

For video, BLIP is an image model on a set of frames and does not know their order. So every single frame shows the
motion: a moving shape has a fading trail behind it, as in a long exposure. This lets a model learn the words for motion
("moves up", "moves to the left") from still frames with captions (`shapes_video_train.json`), and makes the clips of
the test set a fair test for a model that was never trained on video.

Input: (seed, split, index). Output: a `Clip`, its caption, and its frames: RGB pictures of WIDTH x HEIGHT pixels.
"""

import dataclasses
from collections.abc import Iterator
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from blipbench.shapes.draw import cut_out, draw_background
from blipbench.shapes.sampling import sample_background, sample_figure, scene_rng
from blipbench.shapes.scene import COLOURS, HELD_OUT_LOOKS, SHAPES, Background, Figure, Place
from blipbench.shapes.words import looks, pick, with_article

Heading = Literal["to the left", "to the right", "up", "down"]

WIDTH, HEIGHT = 128, 96
FRAMES = 24
TRAIL = (0.5, 0.32, 0.18)  # opacity of the copies that form the trail of a moving shape, nearest first
TRAIL_STEP = 0.6  # distance between the copies, in radii

STEPS: dict[Heading, tuple[int, int]] = {"to the left": (-1, 0), "to the right": (1, 0), "up": (0, -1), "down": (0, 1)}
STILL = "{a} moves {heading} {where} {b}"
TOGETHER = "{a} moves {heading} {where} {b} that moves {other}"
WHERE: dict[bool, tuple[str, str]] = {True: ("above", "below"), False: ("to the left of", "to the right of")}


@dataclasses.dataclass(frozen=True)
class Mover:
    """One shape and the path of its centre from `start` to `end`, in pixels. `heading` is None if it does not move."""

    figure: Figure
    start: tuple[float, float]
    end: tuple[float, float]
    heading: Heading | None


@dataclasses.dataclass(frozen=True)
class Clip:
    """`first` moves. `where` is its position relative to `second`, in the words of the caption."""

    background: Background
    first: Mover
    second: Mover
    where: str

    @property
    def caption(self) -> str:
        a, b = (with_article(looks(mover.figure)) for mover in (self.first, self.second))
        pattern = STILL if self.second.heading is None else TOGETHER
        return pattern.format(a=a, heading=self.first.heading, where=self.where, b=b, other=self.second.heading)


def sample_clip(seed: int, split: str, index: int) -> Clip:
    """Clip number `index` of a split."""
    return _sample(scene_rng(seed, split, index, 0))


def sample_clips(seed: int, split: str, count: int) -> list[Clip]:
    """The first `count` clips with different captions. A clip whose caption is already used is skipped."""
    clips: dict[str, Clip] = {}
    index = 0
    while len(clips) < count:
        clip = sample_clip(seed, split, index)
        clips.setdefault(clip.caption, clip)
        index += 1
    return list(clips.values())


def draw_frames(clip: Clip, numbers: range = range(FRAMES)) -> Iterator[Image.Image]:
    """The frames with these numbers. Frame 0 is the start of the motion, frame FRAMES - 1 its end."""
    backdrop = draw_background(clip.background, WIDTH, HEIGHT)
    movers = (clip.second, clip.first)
    pieces = [cut_out(mover.figure, mover.figure.places[0]) for mover in movers]
    for number in numbers:
        frame = backdrop.copy()
        for mover, (paint, alpha, corner) in zip(movers, pieces, strict=True):
            place = mover.figure.places[0]
            offset = np.array(corner) - (place.x, place.y)
            at = np.array(mover.start) + (np.array(mover.end) - mover.start) * (number / (FRAMES - 1))
            if mover.heading is not None:
                back = -np.array(STEPS[mover.heading]) * TRAIL_STEP * place.radius
                for step in range(len(TRAIL), 0, -1):
                    faint = alpha.point([round(value * TRAIL[step - 1]) for value in range(256)])
                    frame.paste(paint, _pixel(at + back * step + offset), faint)
            frame.paste(paint, _pixel(at + offset), alpha)
        yield frame


def _sample(rng: np.random.Generator) -> Clip:
    """Each shape has its own lane: upper and lower for horizontal motion, left and right for vertical motion."""
    is_horizontal = bool(rng.random() < 0.5)
    headings: tuple[Heading, ...] = ("to the left", "to the right") if is_horizontal else ("up", "down")
    colours = rng.permutation(COLOURS)
    first_lane = int(rng.integers(2))
    movers = []
    for i in range(2):
        heading = pick(rng, headings) if i == 0 or rng.random() < 0.5 else None
        movers.append(_sample_mover(rng, str(colours[i]), heading, is_horizontal, abs(first_lane - i)))
    return Clip(sample_background(rng), movers[0], movers[1], WHERE[is_horizontal][first_lane])


def _sample_mover(
    rng: np.random.Generator, colour: str, heading: Heading | None, is_horizontal: bool, lane: int
) -> Mover:
    shape = pick(rng, [shape for shape in SHAPES if (shape, colour) not in HELD_OUT_LOOKS])
    radius = float(rng.uniform(0.15, 0.19)) * HEIGHT
    length, breadth = (WIDTH, HEIGHT) if is_horizontal else (HEIGHT, WIDTH)
    beside = breadth * (0.25 if lane == 0 else 0.75) + float(rng.uniform(-0.03, 0.03)) * breadth
    along = 1.4 * radius + float(rng.uniform(0, 0.06)) * length
    ends = [along, length - along] if heading in ("to the right", "down") else [length - along, along]
    if heading is None:
        ends = [float(rng.uniform(along, length - along))] * 2
    start, end = ((end, beside) if is_horizontal else (beside, end) for end in ends)
    figure = sample_figure(rng, shape, colour, (Place(2 * radius, 2 * radius, radius, float(rng.uniform(-14, 14))),))
    return Mover(figure, start, end, heading)


def _pixel(point: npt.NDArray[np.float64]) -> tuple[int, int]:
    return round(float(point[0])), round(float(point[1]))
