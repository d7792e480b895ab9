"""AdamW as the reference sets it up: one group, weight decay on every parameter, norms and biases included."""

from collections.abc import Iterable

import torch
from torch import nn

from blipbench.training.spec import TrainSpec


def make_optimizer(spec: TrainSpec, parameters: Iterable[nn.Parameter]) -> torch.optim.AdamW:
    """Over the parameters that are trained; momentum copies are not. One fused kernel updates them all."""
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    return torch.optim.AdamW(trained, lr=spec.lr, weight_decay=spec.weight_decay, fused=True)


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = lr
