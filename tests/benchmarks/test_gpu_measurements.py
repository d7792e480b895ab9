"""The command of the GPU measurements, on a CPU with small sizes."""

import json
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
from gpu import PARTS, run_part
from gpu_setup import ROOT

(TRAINING,) = (part for part in PARTS if part.name == "training")


def measured(out: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    """The exit status, and the JSON file."""
    command = [sys.executable, "tests/benchmarks/gpu.py", "--device", "cpu", "--small", "--out", str(out), *arguments]
    status = subprocess.run(command, cwd=ROOT, timeout=1200).returncode
    return status, json.loads(out.read_text())


def test_parts_that_are_named_are_measured(tmp_path: Path) -> None:
    names = ["retrieval", "generation", "training"]
    status, report = measured(tmp_path / "gpu.json", *(f"--part={name}" for name in names))
    assert status == 0
    assert [(part["part"], part["status"]) for part in report["parts"]] == [(name, "done") for name in names]
    retrieval, generation, training = (part["records"] for part in report["parts"])
    assert [record["name"] for record in retrieval] == 2 * ["retrieval", "transformers"]
    assert all(record["pairs_per_second"] > 0 for record in retrieval[::2])
    assert [record["name"] for record in generation] == ["captions", "captions", "answers", "answers"]
    assert {record["name"] for record in training} == {"retrieval", "pretrain"}
    assert report["torch"] and report["device"] and report["versions"]["transformers"]


@pytest.mark.benchmark_suite
def test_all_parts_are_measured(tmp_path: Path) -> None:
    status, report = measured(tmp_path / "gpu.json", "--seconds", "1000")
    assert {part["part"]: part["status"] for part in report["parts"]} == {
        part.name: "done" for part in PARTS if part.by_default
    }
    assert status == 0


def test_parts_are_left_out_if_the_time_is_over(tmp_path: Path) -> None:
    status, report = measured(tmp_path / "gpu.json", "--seconds", "1")
    assert {part["status"] for part in report["parts"]} == {"no time left"}
    assert status == 1


def test_a_part_that_takes_too_long_is_stopped() -> None:
    result = run_part(TRAINING, Namespace(device="cpu", small=True), limit=1.0)
    assert result["status"] == "timed out"
    assert result["seconds"] < 10


def test_a_part_that_fails_says_why() -> None:
    result = run_part(TRAINING, Namespace(device="abacus", small=True), limit=60.0)
    assert result["status"] == "failed with 1"
    assert "--device abacus: not a device" in result["error"][-1]
