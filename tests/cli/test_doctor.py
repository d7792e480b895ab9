"""`blipbench doctor --verify`: its lines, its exit code, its JSON and what it refuses."""

import json
import shutil
from pathlib import Path

import pytest
from command_line import blipbench, says

from blipbench.verification import goldens


def test_without_verify_nothing_is_computed() -> None:
    done = blipbench("doctor")
    assert "ITC" not in done.stdout and "Python" in done.stdout


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_verify_adds_a_line_with_deviation_and_bound_for_each_output(precision: str) -> None:
    done = blipbench("doctor", "--verify", "--device", "cpu", "--precision", precision)
    says(done, 0, "ITC similarities largest relative deviation ", "ok NLVR logits", "tokens differ", "Python")


def test_a_corrupted_weight_is_named_by_its_line_and_exits_with_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(goldens.FOLDER, tmp_path / "goldens"))
    with (folder / "tiny_nlvr.safetensors").open("r+b") as file:
        file.seek(-4000, 2)
        file.write(bytes(4000))
    monkeypatch.setattr(goldens, "FOLDER", folder)
    says(blipbench("doctor", "--verify", "--device", "cpu"), 1, "fail NLVR logits", "ok ITM scores")


def test_json_has_the_numbers() -> None:
    done = blipbench("doctor", "--verify", "--device", "cpu", "--json")
    by_name = {check["name"]: check for check in json.loads(done.stdout)}
    assert by_name["ITM scores"]["deviation"] < by_name["ITM scores"]["bound"] == 1e-5
    assert by_name["LayerNorm kernel"]["deviation"] is None
    assert "deviation" not in by_name["Python"]


@pytest.mark.parametrize("flag, value", [("--device", "cpu"), ("--precision", "fp32")])
def test_a_device_or_precision_without_verify_is_wrong_usage(flag: str, value: str) -> None:
    says(blipbench("doctor", flag, value), 2, f"{flag} says how to verify; add --verify, or leave {flag} out")


def test_a_precision_that_the_device_lacks_is_wrong_usage() -> None:
    says(blipbench("doctor", "--verify", "--device", "cpu", "--precision", "fp16"), 2, "fp16 requires a GPU")
