"""Fills any of the models with weights that speed and oracle tests can use."""

import torch
from torch import nn


def fill_randomly(model: nn.Module, seed: int, std: float = 0.02) -> None:
    """Matrices, embeddings and biases normal, LayerNorms near 1 and 0."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        is_scale = "norm" in name.lower() and name.endswith("weight")
        nn.init.normal_(parameter, 1.0 if is_scale else 0.0, std, generator)
