"""Completes tests/golden with what blipbench itself ships in blipbench/goldens, so that git has no file twice.

These are the pictures, the vocabulary and four checkpoints, which become official files again: {'model': state_dict}.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import torch

from blipbench.models.checkpoint_files import read_tensors
from blipbench.verification.goldens import FOLDER as SHIPPED

GOLDEN = Path(__file__).parents[1] / "golden"
CHECKPOINTS = ("tiny_caption", "tiny_nlvr", "tiny_retrieval", "tiny_vqa")


def complete_goldens() -> None:
    """Write what is missing or older than what it is made from. Several processes may do so at once."""
    for source in (SHIPPED / "images").iterdir():
        make(GOLDEN / "data" / "images" / source.name, [source])
    make(GOLDEN / "vocab.txt", [SHIPPED / "vocab.txt"])
    for name in CHECKPOINTS:
        training = GOLDEN / f"{name}_training.safetensors"  # momentum copies and queues, which do not ship
        make(GOLDEN / f"{name}.pth", [SHIPPED / f"{name}.safetensors", *([training] if training.exists() else [])])


def make(out: Path, sources: Sequence[Path]) -> None:
    """A .pth joins the tensors of its sources; any other file is a copy."""
    if out.exists() and out.stat().st_mtime >= max(source.stat().st_mtime for source in sources):
        return
    out.parent.mkdir(exist_ok=True)
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    if out.suffix == ".pth":
        tensors = {name: tensor for source in sources for name, tensor in read_tensors(source).tensors.items()}
        torch.save({"model": tensors}, temporary)
    else:
        temporary.write_bytes(sources[0].read_bytes())
    os.replace(temporary, out)
