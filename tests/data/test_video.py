"""Clips are decoded exactly: the right frames, whatever the codec, the keyframes and the clip's length."""

import re
import shutil
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from make_clips import grey_of, write_clip

from blipbench.data.video import decode_clip, frame_indices
from blipbench.errors import DataError


def greys(clip: torch.Tensor) -> list[int]:
    """The grey level of each frame, rounded to the nearest a clip can have."""
    return [round(frame.float().mean().item()) for frame in clip]


def assert_frames(clip: torch.Tensor, indices: list[int]) -> None:
    assert all(abs(found - grey_of(i)) <= 3 for found, i in zip(greys(clip), indices, strict=True)), greys(clip)


@pytest.mark.parametrize(
    "total, expected",
    [
        (80, [0, 10, 20, 30, 40, 50, 60, 70]),
        (23, [0, 2, 4, 6, 8, 10, 12, 14]),
        (8, [0, 1, 2, 3, 4, 5, 6, 7]),
        (7, [0] * 8),
        (1, [0] * 8),
    ],
)
def test_indices_step_evenly_and_never_reach_the_tail(total: int, expected: list[int]) -> None:
    assert frame_indices(total) == expected


@pytest.mark.parametrize("codec, b_frames", [("libx264", 2), ("libx264", 0), ("mpeg4", 0), ("mpeg4", 2)])
@pytest.mark.parametrize("gop", [1, 5, 100])
def test_the_frames_at_the_indices_are_decoded(tmp_path: Path, codec: str, b_frames: int, gop: int) -> None:
    clip = write_clip(tmp_path / "clip.mp4", 27, codec=codec, gop=gop, b_frames=b_frames)
    pixels = decode_clip(clip, 32)
    assert (pixels.shape, pixels.dtype) == ((8, 3, 32, 32), torch.uint8)
    assert_frames(pixels, [0, 3, 6, 9, 12, 15, 18, 21])


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi", ".mov"])
def test_seeking_gives_the_pixels_of_decoding_everything(tmp_path: Path, suffix: str) -> None:
    clip = write_clip(tmp_path / f"clip{suffix}", 26, codec="mpeg4" if suffix == ".avi" else "libx264", b_frames=0)
    with av.open(str(clip)) as container:
        every = [frame.reformat(16, 16, "rgb24", interpolation="BILINEAR") for frame in container.decode(video=0)]
    expected = [torch.from_numpy(every[index].to_ndarray()).permute(2, 0, 1) for index in frame_indices(26)]
    assert torch.equal(decode_clip(clip, 16), torch.stack(expected))


@pytest.mark.parametrize("b_frames", [0, 2])
def test_only_what_leads_from_a_keyframe_is_decoded(tmp_path: Path, b_frames: int) -> None:
    clip = write_clip(tmp_path / "clip.mp4", 160, gop=20, b_frames=b_frames)
    content = bytearray(clip.read_bytes())
    with av.open(str(clip)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    for packet in packets[6:20]:  # what no wanted frame (0, 20, ...) needs: the rest of the first keyframe's group
        assert packet.pos is not None and not packet.is_keyframe
        content[packet.pos : packet.pos + packet.size] = b"\xff" * packet.size
    clip.write_bytes(content)
    with pytest.raises(av.FFmpegError), av.open(str(clip)) as container:
        list(container.decode(video=0))
    assert_frames(decode_clip(clip, 16), list(range(0, 160, 20)))


def test_a_varying_frame_rate_does_not_shift_the_indices(tmp_path: Path) -> None:
    assert_frames(decode_clip(write_clip(tmp_path / "clip.mp4", 24, gaps=True), 16), [0, 3, 6, 9, 12, 15, 18, 21])


def test_a_stream_without_duration_or_count_is_counted(tmp_path: Path) -> None:
    options = {"movflags": "frag_keyframe+empty_moov"}
    clip = write_clip(tmp_path / "clip.mp4", 20, options=options)
    assert_frames(decode_clip(clip, 16), [0, 2, 4, 6, 8, 10, 12, 14])


def test_a_clip_shorter_than_eight_frames_gives_its_first_frame_eight_times(tmp_path: Path) -> None:
    assert_frames(decode_clip(write_clip(tmp_path / "clip.mp4", 5), 16), [0] * 8)


def test_another_number_of_frames_can_be_asked_for(tmp_path: Path) -> None:
    assert_frames(decode_clip(write_clip(tmp_path / "clip.mp4", 20), 16, frames=4), [0, 5, 10, 15])


def test_a_clip_filmed_on_its_side_is_turned_upright(tmp_path: Path) -> None:
    left_red = np.zeros((48, 64, 3), np.uint8)
    left_red[:, :32, 0] = 250
    plain, turned = tmp_path / "plain.mp4", tmp_path / "turned.mp4"
    for path, degrees in ((plain, 0), (turned, -90)):
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=10, options={"crf": "4"})
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            stream.set_display_rotation(degrees)
            for _ in range(8):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(left_red, format="rgb24")))
            container.mux(stream.encode())
    upright, sideways = decode_clip(plain, 32)[0, 0].float(), decode_clip(turned, 32)[0, 0].float()
    assert upright[:, :12].mean() > 200 > 40 > upright[:, 20:].mean()
    assert sideways[:12].mean() > 200 > 40 > sideways[20:].mean()  # clockwise: what was left is on top


def fails(path: Path, reason: str) -> None:
    with pytest.raises(DataError, match=f"{re.escape(str(path))}.*{reason}"):
        decode_clip(path, 16)


def test_a_file_that_is_no_video_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    fails(path, "cannot be read|No such file")
    path.write_bytes(b"")
    fails(path, "it is empty")
    path.write_text("no video")
    fails(path, "not a video")


def test_an_mp4_without_its_index_is_refused(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", 20)
    clip.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    fails(clip, "not a video")


@pytest.mark.parametrize("cut", [10, 600])
def test_an_mp4_that_ends_before_its_index_does_is_refused(tmp_path: Path, cut: int) -> None:
    clip = write_clip(tmp_path / "clip.mp4", 40, options={"movflags": "+faststart"})
    clip.write_bytes(clip.read_bytes()[:-cut])
    fails(clip, "cut short, [0-9]+ of 40 frames")


def test_a_damaged_stream_is_refused(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", 20)
    content = bytearray(clip.read_bytes())
    with av.open(str(clip)) as container:
        for packet in container.demux(video=0):
            if packet.size:
                assert packet.pos is not None
                content[packet.pos : packet.pos + packet.size] = b"\xff" * packet.size
    clip.write_bytes(content)
    fails(clip, "cannot be decoded|cannot be read|not a video")


def test_a_file_with_sound_alone_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        silence.sample_rate = 16000
        container.mux(stream.encode(silence))
        container.mux(stream.encode())
    fails(path, "no video in the file, only audio")


def test_a_playlist_that_names_other_files_is_not_followed(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "other.mp4", 20)
    shutil.copy(clip, tmp_path / "other.ts")
    playlist = tmp_path / "clip.mp4"
    playlist.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{clip}\n#EXT-X-ENDLIST\n")
    fails(playlist, "not a video")
