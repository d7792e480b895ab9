"""Text-video retrieval from MP4 files to the table, through the command line."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import Result
from command_line import blipbench, golden_arguments, result_of
from make_clips import write_clip, write_msrvtt


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Six real clips of 5 to 30 frames, one caption each."""
    write_msrvtt(tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
def run(data: Path, tmp_path: Path) -> Callable[..., Result]:
    def with_flags(*flags: str) -> Result:
        arguments = golden_arguments(tmp_path / "runs", data=data, on_error="continue")
        return blipbench("run", "retrieval_msrvtt_golden", *arguments[2:], *flags)

    return with_flags


def test_videos_are_embedded_reranked_and_scored(run: Callable[..., Result], tmp_path: Path) -> None:
    done = run()
    assert done.exit_code == 0, done.output
    result = result_of(tmp_path / "runs", "retrieval_msrvtt_golden")
    assert result["data"]["counts"] == {"clips": 6, "texts": 6}
    assert {"vid_r1", "vid_r5", "vid_r10", "vid_mdR", "txt_r1"} <= result["metrics"].keys()
    assert 1 <= result["metrics"]["vid_mdR"]["value"] <= 6
    assert result["self_check"]["suspect"] is False and result["self_check"]["deviation"] < 1e-5
    samples = tmp_path / "runs" / "retrieval_msrvtt_golden" / "tiny_retrieval" / "samples"
    assert pq.read_table(samples / "embed.parquet").column("kind").to_pylist().count("clip") == 6


def test_decoding_in_worker_processes_gives_the_same(run: Callable[..., Result], tmp_path: Path) -> None:
    run()
    alone = result_of(tmp_path / "runs", "retrieval_msrvtt_golden")["metrics"]
    done = run("--fresh", "--workers", "2")
    assert done.exit_code == 0, done.output
    assert result_of(tmp_path / "runs", "retrieval_msrvtt_golden")["metrics"] == alone


def test_a_zero_length_clip_stops_the_run_before_it_starts(
    run: Callable[..., Result], data: Path, tmp_path: Path
) -> None:
    (data / "videos" / "video2.mp4").write_bytes(b"")
    done = run()
    assert done.exit_code == 1
    assert "1 of 6 videos is missing" in " ".join(done.output.split()) and "an empty file" in done.output
    assert not (tmp_path / "runs").exists()


def test_a_clip_shorter_than_eight_frames_counts_as_its_first_frame(
    run: Callable[..., Result], data: Path, tmp_path: Path
) -> None:
    samples = tmp_path / "runs" / "retrieval_msrvtt_golden" / "tiny_retrieval" / "samples"
    for number, frames in ((1, 7), (2, 1)):  # clips begin alike
        write_clip(data / "videos" / f"video{number}.mp4", frames)
    done = run()
    assert done.exit_code == 0, done.output
    rows = pq.read_table(samples / "embed.parquet").to_pylist()
    clips = np.array([row["embedding"] for row in rows if row["kind"] == "clip"])
    assert np.ptp(clips[:3], axis=0).max() < 1e-5 < 1e-3 < np.abs(clips[3:] - clips[0]).max(axis=1).min()


@pytest.mark.parametrize("deep", [False, True])
def test_verify_checks_clips_and_lists_every_bad_one_when_deep(data: Path, deep: bool) -> None:
    arguments = ("data", "verify", "retrieval_msrvtt", "--data", data, *(["--deep"] if deep else []))
    sound = blipbench(*arguments)
    assert sound.exit_code == 0, sound.output
    assert "6 clips, 6 texts" in sound.output
    for number in (1, 4):
        (data / "videos" / f"video{number}.mp4").write_text("no video")
    done = blipbench(*arguments)
    assert done.exit_code == (1 if deep else 0)
    assert ("2 problems" in done.output and "video1.mp4" in done.output and "video4.mp4" in done.output) is deep
