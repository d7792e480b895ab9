"""Writes small real videos for tests: every frame one grey level, so that a decoded frame says which one it is."""

import json
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

CAPTIONS = ["a red dog", "two cats on a mat", "a man rides a horse", "a blue car", "a woman with a hat", "the sea"]
LEVELS = 8  # between neighbouring frames; lossy coding moves a flat grey by far less


def grey_of(index: int) -> int:
    """The grey level of a frame."""
    return 16 + index * LEVELS % 224


def write_clip(
    path: Path,
    frames: int,
    *,
    codec: str = "libx264",
    gop: int = 5,
    b_frames: int = 2,
    size: tuple[int, int] = (64, 48),
    gaps: bool = False,
    options: dict[str, str] | None = None,
) -> Path:
    """A clip of `frames` flat grey frames with a keyframe every `gop`; `gaps` makes the frame rate vary."""
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.gop_size, stream.max_b_frames = gop, b_frames
        stream.options = {"qmin": "1", "qmax": "1"}
        if codec == "libx264":
            stream.options = {"crf": "4", "x264-params": f"keyint={gop}:min-keyint={gop}:scenecut=0"}
        stream.codec_context.time_base = Fraction(1, 100)
        for index in range(frames):
            pixels = np.full((size[1], size[0], 3), grey_of(index), np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.time_base = Fraction(1, 100)
            frame.pts = index * 10 + (index * index % 7 if gaps else 0)
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def write_msrvtt(folder: Path) -> None:
    """Six clips of 5 to 30 frames with a caption each, in MSRVTT's format."""
    (folder / "videos").mkdir(parents=True)
    lines = []
    for number, caption in enumerate(CAPTIONS):
        write_clip(folder / "videos" / f"video{number}.mp4", 5 + 5 * number)
        lines.append(json.dumps({"clip_name": f"video{number}", "caption": caption}))
    (folder / "msrvtt_test.jsonl").write_text("\n".join(lines) + "\n")
