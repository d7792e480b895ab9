"""Loading pixels: in order, with and without worker processes, and undisturbed by bad files and killed workers."""

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from make_clips import write_clip
from PIL import Image
from shared_memory import can_mount, with_shared_memory
from torch.utils.data import DataLoader, Dataset

from blipbench.data.dataset import Video
from blipbench.data.images import decode_image
from blipbench.data.loader import Squares, batches_of, load_pixels, set_up_worker
from blipbench.data.video import decode_clip
from blipbench.errors import BlipbenchError, DataError


def images(folder: Path, count: int) -> list[tuple[Path, ...]]:
    paths = [folder / f"{number}.jpg" for number in range(count)]
    for number, path in enumerate(paths):
        Image.new("RGB", (20 + number, 20), (number * 5 % 256, 99, 180)).save(path)
    return [(path,) for path in paths]


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_come_in_order_with_the_pixels_of_their_sources(tmp_path: Path, workers: int) -> None:
    sources = images(tmp_path, 7)
    batches = list(load_pixels(sources, Squares(16, 3), workers))
    assert [batch.indices for batch in batches] == [[0, 1, 2], [3, 4, 5], [6]]
    expected = torch.stack([decode_image(path, 16) for (path,) in sources])
    assert torch.equal(torch.cat([batch.pixels for batch in batches]), expected)
    assert expected.dtype == torch.uint8


def test_a_large_batch_is_decoded_in_pieces_by_several_processes(tmp_path: Path) -> None:
    sources = images(tmp_path, 150)
    sources[40][0].write_text("no image")
    batches = list(load_pixels(sources, Squares(16, 70), 2))
    assert [len(batch.indices) + len(batch.failures) for batch in batches] == [64, 64, 22]
    assert [position for batch in batches for position, _ in batch.failures] == [40]
    indices = [index for batch in batches for index in batch.indices]
    assert indices == [index for index in range(150) if index != 40]
    expected = torch.stack([decode_image(sources[index][0], 16) for index in indices])
    assert torch.equal(torch.cat([batch.pixels for batch in batches]), expected)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_bad_file_is_a_failure_beside_its_sound_neighbours(tmp_path: Path, workers: int) -> None:
    sources = images(tmp_path, 4)
    sources[1][0].write_text("no image")
    (batch,) = load_pixels(sources, Squares(16, 4), workers)
    assert batch.indices == [0, 2, 3]
    assert batch.pixels.shape == (3, 3, 16, 16)
    ((position, reason),) = batch.failures
    assert position == 1
    assert f"{sources[1][0]}: not an image" in reason


def test_a_batch_of_bad_files_alone_has_no_pixels(tmp_path: Path) -> None:
    (batch,) = load_pixels([(tmp_path / "gone.jpg",)], Squares(16, 4), 0)
    assert (batch.indices, batch.pixels.shape) == ([], (0, 3, 16, 16))


def test_a_clip_is_a_stack_of_its_frames(tmp_path: Path) -> None:
    paths = [path for (path,) in images(tmp_path, 6)]
    (batch,) = load_pixels([tuple(paths[:3]), tuple(paths[3:])], Squares(16, 6), 1)
    assert batch.pixels.shape == (2, 3, 3, 16, 16)
    assert torch.equal(batch.pixels[1, 2], decode_image(paths[5], 16))


def test_a_clip_with_a_bad_frame_fails_whole(tmp_path: Path) -> None:
    paths = [path for (path,) in images(tmp_path, 4)]
    paths[3].unlink()
    (batch,) = load_pixels([tuple(paths[:2]), tuple(paths[2:])], Squares(16, 4), 0)
    assert batch.indices == [0]
    assert [position for position, _ in batch.failures] == [1]


def test_clips_of_different_lengths_are_refused_before_decoding(tmp_path: Path) -> None:
    paths = [path for (path,) in images(tmp_path, 3)]
    with pytest.raises(DataError, match=r"item 0 has 1, item 1 \(first file .*1\.jpg\) has 2"):
        load_pixels([(paths[0],), (paths[1], paths[2])], Squares(16, 4), 0)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_video_file_is_decoded_to_its_frames(tmp_path: Path, workers: int) -> None:
    clips = [Video(write_clip(tmp_path / f"{count}.mp4", count), frames=8) for count in (8, 20, 3)]
    batches = list(load_pixels(clips, Squares(16, 16), workers))
    assert [batch.indices for batch in batches] == [[0, 1], [2]]
    assert torch.equal(batches[0].pixels[1], decode_clip(clips[1].path, 16))


@pytest.mark.parametrize("batch_size, items", [(1, 1), (7, 1), (8, 1), (16, 2), (30, 3)])
def test_the_batch_size_counts_frames(tmp_path: Path, batch_size: int, items: int) -> None:
    clip = Video(write_clip(tmp_path / "clip.mp4", 8), frames=8)
    first = next(load_pixels([clip] * 4, Squares(16, batch_size), 0))
    assert first.pixels.shape == (items, 8, 3, 16, 16)


def test_a_bad_video_is_a_failure_beside_its_sound_neighbours(tmp_path: Path) -> None:
    clips = [Video(write_clip(tmp_path / f"{number}.mp4", 8), frames=8) for number in range(3)]
    clips[1].path.write_bytes(b"")
    (batch,) = load_pixels(clips, Squares(16, 24), 1)
    assert (batch.indices, [position for position, _ in batch.failures]) == ([0, 2], [1])


def test_nothing_to_load_gives_no_batches() -> None:
    assert list(load_pixels([], Squares(16, 4), 2)) == []


def test_no_more_workers_are_started_than_there_are_batches(tmp_path: Path) -> None:
    batches = load_pixels(images(tmp_path, 3), Squares(16, 2), 64)
    next(batches)
    assert len(multiprocessing.active_children()) <= 2
    assert len(list(batches)) == 1


@pytest.mark.parametrize("name", ["INT", "TERM"])
def test_workers_outlive_a_signal_to_the_whole_process_group(tmp_path: Path, name: str) -> None:
    batches = load_pixels(images(tmp_path, 12), Squares(16, 1), 2)
    next(batches)
    workers = [str(child.pid) for child in multiprocessing.active_children()]
    subprocess.run(["kill", f"-{name}", *workers], check=True)  # sent by another process, as a terminal or Slurm does
    assert [batch.indices for batch in batches] == [[number] for number in range(1, 12)]


def test_a_killed_worker_is_explained_with_the_way_out(tmp_path: Path) -> None:
    batches = load_pixels(images(tmp_path, 60), Squares(16, 1), 2)
    next(batches)
    for child in multiprocessing.active_children():
        os.kill(child.pid or 0, signal.SIGKILL)
    sum(range(100_000))  # the consumer's own work is not interrupted by the death
    with pytest.raises(BlipbenchError, match=r"died.*killed, or it ran out of memory.*--workers 0.*--set workers=0"):
        list(batches)


def test_workers_end_when_their_parent_ends_them(tmp_path: Path) -> None:
    batches = load_pixels(images(tmp_path, 60), Squares(16, 1), 2)
    next(batches)
    for child in multiprocessing.active_children():
        child.terminate()
        child.join(30)
        assert child.exitcode == 0


class Unsendable(Dataset[Callable[[], None]]):
    def __len__(self) -> int:
        return 2

    def __getitem__(self, position: int) -> Callable[[], None]:
        return lambda: None  # cannot be pickled, as a batch for which no file descriptor is left


def test_a_batch_that_cannot_be_sent_is_an_error_and_not_waited_for() -> None:
    loader = DataLoader(Unsendable(), batch_size=None, num_workers=1, worker_init_fn=set_up_worker, timeout=60)
    with pytest.raises(BlipbenchError, match=r"died.*open files"):
        list(batches_of(loader))


@pytest.mark.skipif(not can_mount(), reason="mounting a file system needs root and unshare")
def test_too_little_shared_memory_is_explained_with_the_way_out(tmp_path: Path) -> None:
    sources = [str(path) for (path,) in images(tmp_path, 40)]
    script = """
import sys
from pathlib import Path
from blipbench.data.loader import Squares, load_pixels
from blipbench.errors import BlipbenchError
try:
    list(load_pixels([(Path(name),) for name in sys.argv[1:]], Squares(384, 8), 2))
except BlipbenchError as error:
    print(error)
"""
    done = subprocess.run(
        with_shared_memory("1m", [sys.executable, "-c", script, *sources]), capture_output=True, text=True, timeout=120
    )
    assert "too little shared memory (/dev/shm: 1.0 MiB)" in done.stdout, done.stderr
    assert "--shm-size" in done.stdout and "--workers 0" in done.stdout


def test_leaving_early_ends_the_workers(tmp_path: Path) -> None:
    batches = load_pixels(images(tmp_path, 12), Squares(16, 1), 2)
    next(batches)
    children = multiprocessing.active_children()
    assert children
    del batches
    for child in children:
        child.join(5)
    assert not any(child.is_alive() for child in children)
