"""A run is resumed only under what it was started with, the version of blipbench included."""

import json
import re
import shutil
from pathlib import Path

import pytest
from command_line import blipbench, golden_arguments, says
from goldens import GOLDEN

from blipbench import __version__
from blipbench.errors import UsageError
from blipbench.evaluation.fingerprint import refuse_other, with_version


def test_another_version_is_refused_with_both_named() -> None:
    recorded = {**with_version({"seed": 0}), "blipbench": "0.0.9"}
    message = f"blipbench was '0.0.9', is '{__version__}'). The two cannot be mixed; resume it with blipbench 0.0.9"
    with pytest.raises(UsageError, match=re.escape(message)):
        refuse_other(Path("runs/x"), recorded, with_version({"seed": 0}))


def test_a_setting_that_only_one_of_them_has_is_a_difference() -> None:
    with pytest.raises(UsageError, match="limit was 3, is None"):
        refuse_other(Path("runs/x"), with_version({"limit": 3}), with_version({}))
    refuse_other(Path("runs/x"), with_version({"limit": 3}), with_version({"limit": 3}))


def test_a_run_of_another_version_is_not_resumed(tmp_path: Path) -> None:
    arguments = golden_arguments(tmp_path, limit=3)
    says(blipbench(*arguments), 0)
    file = tmp_path / "retrieval_golden" / "tiny_retrieval" / "run.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "blipbench": "0.0.9"}))
    says(blipbench(*arguments, "--resume"), 2, "blipbench was '0.0.9'", "--fresh to start over")


@pytest.mark.parametrize("file, name", [("last", "mine"), ("best", "mine_best")])
def test_a_trained_model_is_named_after_its_training(tmp_path: Path, file: str, name: str) -> None:
    (folder := tmp_path / "mine").mkdir()
    shutil.copy(GOLDEN / "tiny_retrieval.pth", folder / f"{file}.pth")
    shutil.copy(GOLDEN / "vocab.txt", folder)
    (folder / "train.json").write_text("{}")
    says(blipbench(*golden_arguments(tmp_path / "runs", ckpt=folder / f"{file}.pth", limit=3)), 0)
    result = json.loads((tmp_path / "runs" / "retrieval_golden" / name / "result.json").read_text())
    assert result["model"]["name"] == name
