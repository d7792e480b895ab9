"""Runs blipbench as a user does: in this process where speed matters, as real processes where processes matter."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result
from goldens import GOLDEN

from blipbench.cli.main import main

GOLDEN_TASKS = Path(__file__).parents[1] / "golden_tasks"


def blipbench(*arguments: object) -> Result:
    """In this process; `output` holds stdout and stderr."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def says(done: Result, exit_code: int, *parts: str) -> None:
    """It ended with this code and, wherever its lines break, said these things; never is there a traceback."""
    assert done.exit_code == exit_code, done.output
    flowed = " ".join(done.output.split())
    for part in parts:
        assert part in flowed, f"{part!r} not in {done.output!r}"
    assert "Traceback" not in done.output


def edit(annotation: Path, change: Callable[[list[Any]], object]) -> None:
    """Change the records of a JSON annotation where they lie."""
    records = json.loads(annotation.read_text())
    change(records)
    annotation.write_text(json.dumps(records))


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
