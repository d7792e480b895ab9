"""A run that is killed or interrupted, and gone on with, ends with the weights of one that was not: bit for bit on CPU.

Every process has one thread, as torchrun's have. What need not be a process of its own runs in this one.
"""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from command_line import blipbench, command, run_processes
from training_runs import make_world, metrics, train_arguments, weights, write_config

EPOCHS = 6
STEPS_PER_EPOCH = {1: 15, 2: 7}  # by ranks


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("OMP_NUM_THREADS", "1")
        yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_world(tmp_path_factory.mktemp("world"))


def config(folder: Path, **changes: object) -> Path:
    """All that a resume must bring back: dropout, drawn negatives, queues, momentum, augmentation, both schedules."""
    settings = {"dropout": 0.1, "augment": "reference", "cache_pixels": False, "epochs": EPOCHS, "checkpoint_every": 4}
    return write_config(folder, log_every=1, negative_all_rank=True, **settings, **changes)


def start_and_wait_for_a_checkpoint(line: list[str], out: Path) -> subprocess.Popen[str]:
    """A process group of its own, running until it has written a state."""
    process = subprocess.Popen(
        line,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 180
    while not (out / "tiny" / "state.pt").exists():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return process


def run_to_the_end(arguments: list[str], ranks: int = 1) -> None:
    if ranks == 1:
        alone = blipbench(*arguments)
        assert alone.exit_code == 0, alone.output
    else:
        together = run_processes(arguments, ranks)
        assert together.returncode == 0, together.stderr


def assert_same_weights(one: Path, other: Path) -> None:
    alone, resumed = weights(one), weights(other)
    assert alone.keys() == resumed.keys()
    assert [name for name in alone if not torch.equal(alone[name], resumed[name])] == []


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_run_killed_in_mid_epoch_and_resumed_gives_the_same_weights(world: Path, tmp_path: Path, ranks: int) -> None:
    file = config(tmp_path, queue_size=16)
    run_to_the_end(train_arguments(file, world, tmp_path / "whole"), ranks)

    killed = start_and_wait_for_a_checkpoint(
        command(train_arguments(file, world, tmp_path / "killed"), ranks), tmp_path / "killed"
    )
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    at = torch.load(tmp_path / "killed" / "tiny" / "state.pt", weights_only=True)["step"]
    assert 0 < at < EPOCHS * STEPS_PER_EPOCH[ranks] and at % STEPS_PER_EPOCH[ranks] != 0

    run_to_the_end(train_arguments(file, world, tmp_path / "killed", "--resume"), ranks)
    assert_same_weights(tmp_path / "whole", tmp_path / "killed")
    steps = [line["step"] for line in metrics(tmp_path / "killed")]
    assert steps == list(range(1, EPOCHS * STEPS_PER_EPOCH[ranks] + 1))
    losses = ([(line["itc"], line["itm"]) for line in metrics(tmp_path / name)] for name in ("whole", "killed"))
    assert next(losses) == next(losses)


def test_ctrl_c_saves_between_two_steps_and_prints_the_command_that_goes_on(world: Path, tmp_path: Path) -> None:
    arguments = train_arguments(config(tmp_path), world, tmp_path / "out")
    process = start_and_wait_for_a_checkpoint(command(arguments), tmp_path / "out")
    os.killpg(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 1 and "Traceback" not in stderr, stderr
    at = torch.load(tmp_path / "out" / "tiny" / "state.pt", weights_only=True)["step"]
    assert at == metrics(tmp_path / "out")[-1]["step"]
    resume = stderr.strip().splitlines()[-1].split()
    assert resume[0] == "blipbench" and resume[-1] == "--resume"
    run_to_the_end(resume[1:])
    assert metrics(tmp_path / "out")[-1]["step"] == EPOCHS * STEPS_PER_EPOCH[1]
