"""What the parts of the GPU measurements share: their sizes, and the records that they yield."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
HELPERS = ROOT / "tests" / "helpers"


@dataclasses.dataclass(frozen=True)
class Sizes:
    """The amount of work. Float32 has fewer images than the others: 1,000 would take a quarter of all the time."""

    model: str = "base"
    precisions: tuple[str, ...] = ("fp32", "tf32", "bf16", "fp16")  # that `doctor --verify` checks
    retrieval: tuple[tuple[str, int], ...] = (("bf16", 5000), ("tf32", 1000), ("fp32", 300))  # and images
    k_test: int = 256
    reference_pairs: int = 2048  # that transformers matches
    files: int = 5000  # images of the run from files
    generation: tuple[tuple[str, int], ...] = (("bf16", 64), ("bf16", 512), ("fp32", 64))  # and images
    answers: int = 3000
    candidates: int = 128
    shapes: int = 200  # test images
    pairs: int = 32  # of a training step
    rounds: int = 3  # of a training step
    profile_seconds: int = 15


SMALL = Sizes(
    model="tiny",
    retrieval=(("bf16", 12), ("tf32", 12), ("fp32", 12)),
    k_test=8,
    reference_pairs=16,
    files=8,
    generation=(("bf16", 2), ("fp32", 2)),
    answers=50,
    candidates=16,
    shapes=8,
    pairs=2,
    rounds=1,
    profile_seconds=1,
)


def sizes_for(device: str, small: bool) -> Sizes:
    sizes = SMALL if small else Sizes()
    if device != "cpu":
        return sizes
    on_cpu = ("fp32", "bf16")
    return dataclasses.replace(
        sizes, precisions=on_cpu, retrieval=tuple(pair for pair in sizes.retrieval if pair[0] in on_cpu)
    )


@dataclasses.dataclass(frozen=True)
class Setup:
    """`folder` is for files; it is deleted when the part is done."""

    device: str
    sizes: Sizes
    folder: Path


@dataclasses.dataclass(frozen=True)
class Record:
    """One measurement: lines for the terminal, and its figures for the JSON file. `ok`: the results are right."""

    name: str
    lines: tuple[str, ...]
    figures: dict[str, Any]
    ok: bool = True


def child_environment() -> dict[str, str]:
    """A process that is started in it finds blipbench and the tests' helpers."""
    paths = [str(ROOT), str(HELPERS), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


def start_blipbench(arguments: list[str], output: Path, **environment: str) -> subprocess.Popen[bytes]:
    """blipbench's command line, with stdout and stderr in the file `output`."""
    with output.open("wb") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "blipbench", *arguments],
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**child_environment(), **environment},
        )


def last_lines(output: Path, count: int) -> list[str]:
    return output.read_text(encoding="utf-8", errors="replace").rstrip().splitlines()[-count:]
