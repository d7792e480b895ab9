"""Decodes a video file into the frames that a model sees: eight frames, spread over the clip as in the reference.

Takes a clip (MP4, MOV, WebM, Matroska or AVI) and returns uint8 pixels [frames, 3, S, S]. The container is first read
without decoding, to learn exactly how many frames there are and when each is shown. Then only the frames from a
keyframe to the next wanted frame are decoded.

As in the reference's decoder (decord), swscale scales frames to the square with bilinear interpolation, frames are
turned upright if the container says so, they are counted in the order in which they are shown, and bit errors that the
codec conceals are accepted. Unlike decord, a file that ends before its index is an error.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import av
import torch
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation
from av.video.stream import VideoStream
from packaging.version import Version

from blipbench.errors import DataError

FRAMES = 8  # of a clip, in the paper's retrieval (section 5.6)

# FFmpeg's other readers include playlists, which name further files and addresses.
_FORMATS = "mov,matroska,avi"

# A title that is not UTF-8 is no reason to refuse a clip. From version 19 on, PyAV replaces such bytes by itself.
_METADATA: dict[str, Any] = {"metadata_errors": "replace"} if Version(av.__version__) < Version("19") else {}


class _Coded(NamedTuple):
    """A frame in the file. `shown` is its time in units of the stream's time base."""

    shown: int
    is_key: bool


def frame_indices(total: int, frames: int = FRAMES) -> list[int]:
    """The frames taken of a clip of `total` frames, with the reference's integer step.

    The step is even and begins at the first frame, so the last frames may not be seen. Of a clip with fewer than
    `frames` frames, only the first frame is taken.
    """
    return [place * (total // frames) for place in range(frames)]


def decode_clip(path: Path, image_size: int, frames: int = FRAMES) -> torch.Tensor:
    """`frames` frames of a clip as uint8 [frames, 3, image_size, image_size], RGB.

    Raises DataError naming the file if it is not a video, has no frames, is cut short or cannot be decoded.
    """
    with _opened(path) as (container, stream):
        timeline = _read_timeline(path, container, stream)
        indices = frame_indices(len(timeline), frames)
        wanted = sorted(set(indices))
        in_order = _seek_frames if _has_distinct_times(timeline) else _count_frames
        found = {
            index: _to_pixels(frame, image_size)
            for index, frame in zip(wanted, in_order(container, stream, timeline, wanted), strict=False)
        }
        for index in wanted:
            if index not in found:
                raise DataError(f"{path}: frame {index} of {len(timeline)} cannot be decoded; replace the file")
    return torch.stack([found[index] for index in indices])  # [frames, 3, S, S]


@contextmanager
def _opened(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The container and its first video stream. Whatever FFmpeg raises inside becomes a DataError that names the file.

    FFmpeg would take a name with a colon for an address, so it gets the absolute path.
    """
    try:
        with av.open(str(path.absolute()), options={"format_whitelist": _FORMATS}, **_METADATA) as clip:
            if not clip.streams.video:
                raise DataError(f"{path}: there is no video in the file, only {_kinds(clip)}; replace the file")
            stream = clip.streams.video[0]
            stream.codec_context.thread_count = 1  # the loader decodes clips in parallel, one in each process
            yield clip, stream
    except av.FFmpegError as error:
        reason = "it is empty" if path.is_file() and not path.stat().st_size else error.strerror
        raise DataError(f"{path}: not a video that can be read ({reason}); replace the file") from error


def _read_timeline(path: Path, container: InputContainer, stream: VideoStream) -> list[_Coded]:
    """Every frame that is shown, in the order of showing. Frames without a time keep the order of the file."""
    packets = [packet for packet in container.demux(stream) if packet.size]  # the last one only ends the stream
    promised = len(stream.index_entries)
    if len(packets) < promised or any(packet.is_corrupt for packet in packets):
        raise DataError(
            f"{path}: the video is cut short, {len(packets)} of {promised} frames are there; replace the file"
        )
    if not packets:
        raise DataError(f"{path}: the video has no frames; replace the file")
    shown = [packet for packet in packets if not packet.is_discard]
    if any(packet.pts is None for packet in shown):
        return [_Coded(0, False) for _ in shown]
    coded = (_Coded(p.pts or 0, p.is_keyframe) for p in shown)
    return sorted(coded, key=lambda frame: frame.shown)


def _has_distinct_times(timeline: Sequence[_Coded]) -> bool:
    """Whether the time of a frame identifies it. In some AVI files, frames have no times."""
    return len({frame.shown for frame in timeline}) == len(timeline)


def _seek_frames(
    container: InputContainer, stream: VideoStream, timeline: Sequence[_Coded], wanted: Sequence[int]
) -> Iterator[VideoFrame]:
    """The frames at `wanted` (ascending). Decoding begins at the last keyframe before each, unless it is past that."""
    place = {frame.shown: index for index, frame in enumerate(timeline)}
    reached = -1
    container.seek(timeline[0].shown, stream=stream)
    decoded = container.decode(stream)
    for target in wanted:
        key = max((index for index in range(target + 1) if timeline[index].is_key), default=0)
        if key > reached + 1:
            container.seek(timeline[key].shown, stream=stream)
            decoded = container.decode(stream)
        for frame in decoded:
            reached = -1 if frame.pts is None else place.get(frame.pts, -1)
            if reached >= target:
                break
        if reached != target:
            return
        yield frame


def _count_frames(
    container: InputContainer, stream: VideoStream, timeline: Sequence[_Coded], wanted: Sequence[int]
) -> Iterator[VideoFrame]:
    """The frames at `wanted`, by decoding everything before them: for containers without times."""
    container.seek(0)
    chosen = set(wanted)
    for index, frame in enumerate(container.decode(stream)):
        if index in chosen:
            yield frame
        if index == wanted[-1]:
            return


def _to_pixels(frame: VideoFrame, image_size: int) -> torch.Tensor:
    scaled = frame.reformat(image_size, image_size, "rgb24", interpolation=Interpolation.BILINEAR)
    pixels = torch.from_numpy(scaled.to_ndarray()).permute(2, 0, 1)  # [3, S, S]
    quarter_turns = round(frame.rotation / 90)  # anticlockwise
    return pixels.rot90(quarter_turns, dims=(1, 2)).contiguous()


def _kinds(container: InputContainer) -> str:
    return ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
