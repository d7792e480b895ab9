"""Momentum encoders: slow copies of the trained ones, that give ITC its soft targets (MoCo, He 2020; ALBEF, Li 2021).

In: pairs of a module and its copy. Out: nothing; the copies follow. Gradients never reach them.
"""

from collections.abc import Sequence

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

Pairs = Sequence[tuple[nn.Module, nn.Module]]  # (trained, copy)


@torch.no_grad()
def start_copies(pairs: Pairs) -> None:
    """Make every copy equal to its module, and freeze it."""
    for module, copy in pairs:
        copy.requires_grad_(False)
        for parameter, slow in zip(module.parameters(), copy.parameters(), strict=True):
            slow.copy_(parameter)


def update_copies(pairs: Pairs, momentum: float) -> None:
    """copy = momentum * copy + (1 - momentum) * module."""
    copies = [slow for _, copy in pairs for slow in copy.parameters()]
    get_ema_multi_avg_fn(momentum)(copies, [parameter for module, _ in pairs for parameter in module.parameters()], 0)
