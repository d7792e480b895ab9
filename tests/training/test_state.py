"""Checkpoints are whole or not there, whatever happens while one is written."""

import math
import re
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from blipbench.errors import BlipbenchError, CheckpointError, UsageError
from blipbench.files import write_whole
from blipbench.training.state import Evaluations, TrainFolder, TrainingState, why_not_of


def state(step: int, size: int = 4) -> TrainingState:
    return TrainingState(
        model={"weight": torch.full((size,), float(step))},
        moments={},
        step=step,
        rng=[[torch.get_rng_state()]],
        losses={"itm": torch.tensor(2.5)},
        loss_steps=2,
    )


def test_a_state_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    folder = TrainFolder(tmp_path)
    assert folder.load_state() is None
    folder.save_state(state(3))
    read = folder.load_state()
    assert read is not None and read.step == 3 and read.model["weight"].tolist() == [3.0] * 4
    assert (read.losses["itm"].item(), read.loss_steps) == (2.5, 2)


@pytest.mark.parametrize("file", ["state.pt", "last.safetensors"])
def test_a_full_disk_leaves_the_earlier_checkpoint_and_the_error_says_so(tmp_path: Path, file: str) -> None:
    """A process that may write no file over 64 KiB meets its limit as it would meet a full disk."""
    script = """
import sys
from pathlib import Path
from blipbench.errors import BlipbenchError
sys.path.insert(0, sys.argv[2])
from test_state import save
save(Path(sys.argv[1]), sys.argv[3], 4)
try:
    save(Path(sys.argv[1]), sys.argv[3], 100_000)
except BlipbenchError as error:
    print(error)
    raise SystemExit(error.exit_code)
"""

    def limit_file_size() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))

    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path), str(Path(__file__).parent), file],
        capture_output=True,
        text=True,
        preexec_fn=limit_file_size,
    )
    assert done.returncode == 1, done.stderr
    assert f"{file} could not be written: no space is left; the earlier file is kept" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == [file]
    if file == "state.pt":
        read = TrainFolder(tmp_path).load_state()
        assert read is not None and read.step == 4


def save(folder: Path, file: str, size: int) -> None:
    """What the process above runs: `size` is the number of weights, and the step."""
    from safetensors.torch import save_file

    if file == "state.pt":
        TrainFolder(folder).save_state(state(size, size))
    else:
        write_whole(folder / file, lambda path: save_file({"weight": torch.zeros(size)}, path))


def test_a_writer_that_fails_leaves_what_was(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("before")

    def fail(temporary: Path) -> None:
        temporary.write_text("half")
        raise OSError("the cable was pulled")

    with pytest.raises(BlipbenchError, match=r"the cable was pulled; the earlier file is kept\. Free some space"):
        write_whole(file, fail)
    assert file.read_text() == "before" and list(tmp_path.iterdir()) == [file]


DAMAGED_STATES: dict[str, Any] = {
    "no dict": [1, 2],
    "a field is missing": {"step": 3},
    "a tensor is text": dict(state(3)) | {"model": {"weight": "x"}},
    "the step is negative": dict(state(3)) | {"step": -1},
    "the step is true": dict(state(3)) | {"step": True},
    "no ranks' random numbers are tensors": dict(state(3)) | {"rng": [[1]]},
    "a rank has no random numbers": dict(state(3)) | {"rng": [[]]},
    "moments are a list": dict(state(3)) | {"moments": []},
    "another field": dict(state(3)) | {"more": 1},
}


@pytest.mark.parametrize("damage", DAMAGED_STATES)
def test_a_state_of_another_form_is_refused_with_the_way_out(tmp_path: Path, damage: str) -> None:
    torch.save(DAMAGED_STATES[damage], tmp_path / "state.pt")
    with pytest.raises(CheckpointError, match=r"state\.pt: is damaged, or not this run's .*--fresh"):
        TrainFolder(tmp_path).load_state()


@pytest.mark.parametrize("content", [b"", b"PK\3\4 half a file", b"\x80\x04K\x05.", b"\xff" * 999, b"[1]"])
def test_a_state_of_damaged_bytes_is_refused_with_the_way_out(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "state.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"state\.pt: is damaged, or not this run's .*--fresh"):
        TrainFolder(tmp_path).load_state()


def test_a_state_that_is_cut_anywhere_is_refused(tmp_path: Path) -> None:
    folder = TrainFolder(tmp_path)
    folder.save_state(state(3))
    whole = folder.state.read_bytes()
    for length in range(0, len(whole), 97):
        folder.state.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match=r"state\.pt"):
            folder.load_state()


MISFITS: dict[str, tuple[dict[str, Any], str]] = {
    "missing": ({"model": {}}, "model: 1 tensors are missing or not expected, first: weight"),
    "other shape": ({"model": {"weight": torch.zeros(5)}}, r"model\.weight: \[5\] torch\.float32, not \[4\]"),
    "other type": ({"model": {"weight": torch.zeros(4).long()}}, r"model\.weight: \[4\] torch\.int64"),
    "beyond the end": ({"step": 99}, "step 99 of 10"),
    "other ranks": ({"rng": [[torch.zeros(2)]] * 2}, "random numbers of 2 ranks of 1"),
    "no generator": ({"rng": [[torch.zeros(2)]]}, "not the state of a random number generator"),
    "losses": ({"losses": {"itm": torch.zeros(2)}}, "losses: not single numbers"),
    "another parameter": ({"moments": {7: {}}}, "7 is not one of 1 parameters"),
    "half a moment": ({"moments": {0: {"step": torch.tensor(1.0)}}}, r"moments\.0: 2 tensors are missing"),
    "other moments": (
        {"moments": {0: {"step": torch.tensor(1.0), "exp_avg": torch.zeros(3), "exp_avg_sq": torch.zeros(4)}}},
        r"moments\.0\.exp_avg: \[3\]",
    ),
}


@pytest.mark.parametrize("misfit", MISFITS)
def test_a_state_of_another_run_is_told_by_what_does_not_fit(misfit: str) -> None:
    change, reason = MISFITS[misfit]
    weight = torch.zeros(4)
    assert why_not_of(state(3), {"weight": weight}, [weight], ranks=1, total_steps=10) is None
    other = state(3).model_copy(update=change)
    found = why_not_of(other, {"weight": weight}, [weight], ranks=1, total_steps=10)
    assert found is not None and re.search(reason, found), found


@pytest.mark.parametrize("content", ["", "{", "[]", '{"metric": 3, "values": {}}', '{"values": {"x": 1}}', "[" * 99999])
def test_damaged_evaluations_are_refused_with_the_way_out(tmp_path: Path, content: str) -> None:
    (tmp_path / "evaluations.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"evaluations\.json: is damaged .*delete it and add --resume"):
        TrainFolder(tmp_path).evaluations()


def test_evaluations_come_back_as_they_were_saved(tmp_path: Path) -> None:
    folder = TrainFolder(tmp_path)
    assert folder.evaluations().values == {}
    folder.save_evaluations(Evaluations(metric="TR@1", values={15: 31.25, 30: float("nan")}))
    read = folder.evaluations()
    assert read.metric == "TR@1" and read.values[15] == 31.25 and math.isnan(read.values[30])


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "[" * 99999])
def test_a_damaged_fingerprint_is_refused_and_fresh_is_the_way_out(tmp_path: Path, content: str) -> None:
    folder = TrainFolder(tmp_path)
    (tmp_path / "train.json").write_text(content)
    with pytest.raises(BlipbenchError, match=r"train\.json is damaged .*--fresh"):
        folder.begin({"lr": 1.0}, resume=True, fresh=False)
    folder.begin({"lr": 1.0}, resume=False, fresh=True)
    folder.begin({"lr": 1.0}, resume=True, fresh=False)


def test_a_run_under_another_configuration_is_refused_by_its_keys(tmp_path: Path) -> None:
    folder = TrainFolder(tmp_path / "run")
    folder.begin({"lr": 1.0, "data.max_words": 30, "seed": 0}, resume=False, fresh=False)
    folder.begin({"lr": 1.0, "data.max_words": 30, "seed": 0}, resume=True, fresh=False)
    with pytest.raises(UsageError, match=r"data\.max_words was 30, is 20; lr was 1\.0, is 2\.0\)") as error:
        folder.begin({"lr": 2.0, "data.max_words": 20, "seed": 0}, resume=True, fresh=False)
    assert "seed" not in str(error.value)
    with pytest.raises(UsageError, match="already holds a training run: add --resume"):
        folder.begin({"lr": 1.0}, resume=False, fresh=False)


def test_starting_over_removes_the_run_but_a_folder_of_somebody_elses_is_refused(tmp_path: Path) -> None:
    folder = TrainFolder(tmp_path)
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(UsageError, match="not made by blipbench"):
        folder.begin({"lr": 1.0}, resume=False, fresh=False)
    (tmp_path / "train.json").write_text("{}")
    folder.save_state(state(1))
    folder.begin({"lr": 1.0}, resume=False, fresh=True)
    assert folder.load_state() is None and (tmp_path / "mine.txt").exists()


def test_the_model_that_is_saved_has_no_momentum_copies_and_no_queues(tmp_path: Path) -> None:
    from objective_goldens import tiny_config
    from safetensors.torch import load_file

    from blipbench.training.contrastive import ContrastiveSettings
    from blipbench.training.objectives import RetrievalObjective

    config = tiny_config()
    objective: nn.Module = RetrievalObjective(config, ContrastiveSettings(enc_id=3, queue_size=8))
    folder = TrainFolder(tmp_path)
    folder.save_model(folder.last, objective, config)
    names = load_file(folder.last)
    assert {"temp", "itm_head.weight", "visual_encoder.cls_token"} <= names.keys()
    assert not [name for name in names if "queue" in name or "_m." in name]
