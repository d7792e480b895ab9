"""Training with decoding processes: one that can give no more batches ends the run, which never waits for it."""

import os
import resource
import signal
import subprocess
import time
from pathlib import Path

import pytest
from command_line import command
from shared_memory import can_mount, with_shared_memory
from training_runs import make_world, train_arguments, write_config

SECONDS = 120  # long before them a run must have ended


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_world(tmp_path_factory.mktemp("world"))


def train_with_workers(world: Path, folder: Path, epochs: int = 2) -> list[str]:
    """The command line of a run whose batches are 1.7 MiB each."""
    config = write_config(folder, cache_pixels=False, image_size=384, workers=2, epochs=epochs)
    return command(train_arguments(config, world, folder / "out"))


def limit_shared_memory() -> None:
    """A file in /dev/shm may have 1 MiB: what a full /dev/shm is to the worker that needs more."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))


def test_too_little_shared_memory_ends_the_run_with_the_way_out(world: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        train_with_workers(world, tmp_path),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        preexec_fn=limit_shared_memory,
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert "too little shared memory" in done.stderr and "--set workers=0" in done.stderr


@pytest.mark.skipif(not can_mount(), reason="mounting a file system needs root and unshare")
def test_a_small_shared_memory_as_containers_have_it_ends_the_run(world: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        with_shared_memory("4m", train_with_workers(world, tmp_path)), capture_output=True, text=True, timeout=SECONDS
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert "too little shared memory (/dev/shm: 4.0 MiB)" in done.stderr


def test_a_run_whose_workers_are_killed_ends_and_says_so(world: Path, tmp_path: Path) -> None:
    process = subprocess.Popen(
        train_with_workers(world, tmp_path, epochs=200), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    for worker in wait_for_children(process, 2):
        os.kill(worker, signal.SIGKILL)
    _, stderr = process.communicate(timeout=SECONDS)
    assert process.returncode == 1 and "Traceback" not in stderr, stderr
    assert "a process that decodes images died" in stderr


def wait_for_children(process: subprocess.Popen[str], count: int) -> list[int]:
    deadline = time.monotonic() + SECONDS
    while len(children := children_of(process.pid)) < count:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    return children


def children_of(pid: int) -> list[int]:
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True)
    return [int(child) for child in found.stdout.split()]
