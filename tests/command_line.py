"""Runs blipbench as a user does: in this process where speed matters, as real processes where processes matter."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result
from goldens import GOLDEN

from blipbench.cli import main

GOLDEN_TASKS = Path(__file__).parent / "golden_tasks"


def blipbench(*arguments: object) -> Result:
    """In this process; `output` holds stdout and stderr."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def golden_arguments(out: Path, task: str = "retrieval_golden", **changes: object) -> list[str]:
    """`run TASK` with the golden checkpoint, data and sizes; a change replaces or adds a flag."""
    flags = {
        "ckpt": GOLDEN / "tiny_retrieval.pth",
        "model": GOLDEN / "tiny.yaml",
        "data": GOLDEN / "data",
        "tasks-dir": GOLDEN_TASKS,
        "out": out,
        "workers": 0,
        **{name.replace("_", "-"): value for name, value in changes.items()},
    }
    return ["run", task, *(part for name, value in flags.items() for part in (f"--{name}", str(value)))]


def command(arguments: list[str], ranks: int = 1) -> list[str]:
    """The command line that starts real processes, under torchrun when there are several ranks."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)] if ranks > 1 else []
    return [sys.executable, *launcher, "-m", "blipbench", *arguments]


def run_processes(arguments: list[str], ranks: int = 1) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(arguments, ranks), capture_output=True, text=True, timeout=1800)


def result_of(out: Path, task: str = "retrieval_golden", model: str = "tiny_retrieval") -> dict[str, Any]:
    result: dict[str, Any] = json.loads((out / task / model / "result.json").read_text())
    return result
