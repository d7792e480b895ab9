"""Checkpoints are whole or not there, whatever happens while one is written."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from blipbench.errors import BlipbenchError, CheckpointError, UsageError
from blipbench.files import write_whole
from blipbench.training.state import TrainFolder, TrainingState


def state(step: int, size: int = 4) -> TrainingState:
    return TrainingState({"weight": torch.full((size,), float(step))}, {"state": {}}, step, [[torch.zeros(2)]])


def test_a_state_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    folder = TrainFolder(tmp_path)
    assert folder.load_state() is None
    folder.save_state(state(3))
    read = folder.load_state()
    assert read is not None and read.step == 3 and read.model["weight"].tolist() == [3.0] * 4


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


def test_a_damaged_state_is_named(tmp_path: Path) -> None:
    (tmp_path / "state.pt").write_bytes(b"PK\3\4 half a file")
    with pytest.raises(CheckpointError, match=r"state\.pt: cannot be read .*--init and --fresh"):
        TrainFolder(tmp_path).load_state()


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

    from blipbench.training.objectives import RetrievalObjective

    config = tiny_config()
    objective: nn.Module = RetrievalObjective(config, enc_id=3, queue_size=8)
    folder = TrainFolder(tmp_path)
    folder.save_model(folder.last, objective, config)
    names = load_file(folder.last)
    assert {"temp", "itm_head.weight", "visual_encoder.cls_token"} <= names.keys()
    assert not [name for name in names if "queue" in name or "_m." in name]


@pytest.mark.parametrize("content", ["", "[]", "{", "[" * 100_000], ids=["empty", "list", "cut", "deep"])
def test_a_damaged_fingerprint_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "train.json").write_text(content)
    with pytest.raises(BlipbenchError, match=r"train\.json is damaged .*start over with --fresh"):
        TrainFolder(tmp_path).begin({"seed": 0}, resume=True, fresh=False)


@pytest.mark.parametrize("content", ["", "{}", '{"metric": "m", "values": 5}', '{"metric": "m", "values": {"a": 1}}'])
def test_damaged_evaluations_are_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "evaluations.json").write_text(content)
    with pytest.raises(BlipbenchError, match=r"evaluations\.json is damaged"):
        TrainFolder(tmp_path).evaluations()
