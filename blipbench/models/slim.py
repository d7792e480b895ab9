"""Makes a small file of a trained checkpoint: without the tensors that only training needs, and in float16.

Momentum copies, queues and position ids go; tensors that two names share stay one. Float16 keeps 11 bits of each
weight, so a score moves by about 1e-3 of its size. Evaluation computes in float32 all the same (`load_checkpoint`).
"""

from collections.abc import Sequence
from pathlib import Path

import torch

from blipbench.errors import CheckpointError
from blipbench.models.checkpoint import identity, load_checkpoint
from blipbench.models.config import ModelConfig
from blipbench.models.conversion import bring_vocabulary, save_checkpoint

LARGEST = torch.finfo(torch.float16).max


def slim_checkpoint(source: str, out: Path, configs: Sequence[ModelConfig] = ()) -> list[str]:
    """Write `source` to `out` in float16, with its vocabulary. Returns lines of text that say what was done.

    Raises CheckpointError as `load_checkpoint` does, and for a weight that float16 cannot hold.
    """
    checkpoint = load_checkpoint(source, configs=configs)
    halves = {identity(weight): weight.half() for weight in checkpoint.state_dict.values()}
    for name, weight in checkpoint.state_dict.items():
        if weight.abs().max() > LARGEST:
            raise CheckpointError(f"{checkpoint.path}: {name} has weights beyond float16's {LARGEST:,.0f}")
    save_checkpoint(
        {name: halves[identity(weight)] for name, weight in checkpoint.state_dict.items()}, checkpoint.config, out
    )
    bring_vocabulary(checkpoint.path.parent, out.parent)
    return [
        f"{out}: {checkpoint.num_parameters:,} parameters in float16, {out.stat().st_size / 1e6:.2f} MB",
        f"  left out: {checkpoint.num_ignored} tensors that only training needs",
    ]
