"""Runs that torchrun or a terminal ends, interrupts or spreads over ranks give the result of one that was left alone.

By the example of retrieval, in processes started as a user starts them; what every protocol keeps is in
`test_every_protocol.py`. Every process has one thread, as torchrun's have: the number of threads alone moves float32
scores by 1e-6.
"""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from command_line import command, result_of, run_processes

from blipbench.models.config import ModelConfig, TextConfig, VisionConfig
from blipbench.models.conversion import save_checkpoint
from blipbench.models.random_weights import random_state_dict
from blipbench.shapes import make_shapes

RERANK = "samples/rerank"


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("OMP_NUM_THREADS", "1")
        yield


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data and a checkpoint that keep rerank busy for some ten seconds, so that it can be killed on the way."""
    folder = tmp_path_factory.mktemp("world")
    make_shapes(folder / "shapes", images=40, seed=0, splits=("test",))
    config = ModelConfig(
        name="busy",
        vision=VisionConfig(width=128, depth=2, num_heads=4, image_size=96),
        text=TextConfig(width=256, depth=6, num_heads=4, intermediate_size=1024, max_positions=64),
    )
    save_checkpoint(random_state_dict(config, seed=0), config, folder / "busy.safetensors")
    return folder


def arguments(world: Path, out: Path, *flags: str) -> list[str]:
    return [
        *("run", "retrieval_shapes", "--ckpt", str(world / "busy.safetensors"), "--data", str(world / "shapes")),
        *("--out", str(out), "--k-test", "200", "--device", "cpu", "--workers", "1", *flags),
    ]


def result(out: Path) -> dict[str, Any]:
    return result_of(out, "retrieval_shapes", "busy")


def scores(out: Path) -> np.ndarray[Any, Any]:
    table = pq.read_table(out / "retrieval_shapes" / "busy" / f"{RERANK}.parquet")
    order = np.argsort(table.column("image").to_numpy())
    return np.concatenate([np.asarray(row) for row in table.column("itm").take(order).to_pylist()])


@pytest.fixture(scope="module")
def whole(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole")
    done = run_processes(arguments(world, out))
    assert done.returncode == 0, done.stderr
    return out


def hear_ctrl_c() -> None:
    """A test run in the background of a shell has it ignored, and its children would inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def start_and_wait_for_parts(line: list[str], out: Path) -> subprocess.Popen[str]:
    """A process group of its own, running until rerank has journaled something."""
    process = subprocess.Popen(
        line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, preexec_fn=hear_ctrl_c
    )
    deadline = time.monotonic() + 120
    while not list((out / "retrieval_shapes" / "busy" / RERANK).glob("[!.]*.parquet")):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return process


def assert_same_as_whole(out: Path, whole: Path) -> None:
    assert result(out)["metrics"] == result(whole)["metrics"]
    assert np.abs(scores(out) - scores(whole)).max() / np.abs(scores(whole)).max() <= 1e-6


def test_three_ranks_of_torchrun_give_the_metrics_and_scores_of_one(world: Path, whole: Path, tmp_path: Path) -> None:
    done = run_processes(arguments(world, tmp_path), ranks=3)
    assert done.returncode == 0, done.stderr
    assert_same_as_whole(tmp_path, whole)
    assert result(tmp_path)["environment"]["world_size"] == 3


def test_a_killed_run_is_gone_on_with_by_more_ranks(world: Path, whole: Path, tmp_path: Path) -> None:
    process = start_and_wait_for_parts(command(arguments(world, tmp_path)), tmp_path)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    folder = tmp_path / "retrieval_shapes" / "busy"
    assert not (folder / "result.json").exists()
    kept = {
        row["image"]: row["itm"]
        for part in (folder / RERANK).glob("[!.]*.parquet")
        for row in pq.read_table(part).to_pylist()
    }

    done = run_processes(arguments(world, tmp_path, "--resume"), ranks=2)
    assert done.returncode == 0, done.stderr
    assert_same_as_whole(tmp_path, whole)
    embed, rerank = result(tmp_path)["timing"]["stages"]
    assert embed["items"] == 0
    assert rerank["reused_items"] == sum(map(len, kept.values())) > 0
    assert rerank["items"] + rerank["reused_items"] == len(scores(whole))
    final = {row["image"]: row["itm"] for row in pq.read_table(folder / f"{RERANK}.parquet").to_pylist()}
    assert all(final[image] == itm for image, itm in kept.items())


def test_a_killed_rank_ends_the_run_and_a_resume_finishes_it(world: Path, whole: Path, tmp_path: Path) -> None:
    process = start_and_wait_for_parts(command(arguments(world, tmp_path), ranks=2), tmp_path)
    os.kill(rank_process(process.pid, rank=1), signal.SIGKILL)
    assert process.wait(timeout=120) != 0
    done = run_processes(arguments(world, tmp_path, "--resume"), ranks=2)
    assert done.returncode == 0, done.stderr
    assert_same_as_whole(tmp_path, whole)
    assert result(tmp_path)["timing"]["stages"][1]["reused_items"] > 0


def rank_process(launcher: int, rank: int) -> int:
    """The process of a rank among the children of torchrun."""
    children = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
    for child in children:
        if f"\0RANK={rank}\0".encode() in b"\0" + Path(f"/proc/{child}/environ").read_bytes():
            return int(child)
    raise AssertionError(f"no child of {launcher} is rank {rank}")


def test_ctrl_c_leaves_a_resumable_run_and_prints_the_command(world: Path, whole: Path, tmp_path: Path) -> None:
    process = start_and_wait_for_parts(command(arguments(world, tmp_path)), tmp_path)
    os.killpg(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "Resume it with:" in stderr and "--resume" in stderr and "Traceback" not in stderr
    resume = stderr.strip().splitlines()[-1].split()
    assert resume[0] == "blipbench"
    done = run_processes(resume[1:])
    assert done.returncode == 0, done.stderr
    assert_same_as_whole(tmp_path, whole)
