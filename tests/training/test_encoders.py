"""The image encoder's first weights: its filters see edges, and its positions say which patches touch."""

import torch
from torch.nn.functional import cosine_similarity

from blipbench.config.models import load_model_config
from blipbench.models.config import VisionConfig
from blipbench.models.vit import ImageEncoder
from blipbench.training.encoders import image_encoder


def encoder(width: int = 96, num_heads: int = 4) -> ImageEncoder:
    torch.manual_seed(0)
    config = load_model_config("shapes")
    vision = VisionConfig(width=width, depth=1, num_heads=num_heads, image_size=64, patch_size=8)
    return image_encoder(config.model_copy(update={"vision": vision}))


def test_patch_filters_answer_to_an_edge_rather_than_to_an_even_patch() -> None:
    even = torch.ones(1, 3, 8, 8)
    edge = even.clone()
    edge[..., :4] = -1
    filters = encoder().patch_embed.proj.weight
    answers = [torch.einsum("nchw,kchw->k", patch, filters).norm() for patch in (even, edge)]
    assert answers[1] > 4 * answers[0]


def test_near_patches_have_more_alike_positions_than_far_ones() -> None:
    positions = encoder().pos_embed[0, 1:].unflatten(0, (8, 8))  # [rows, columns, width]
    near, far = positions[3, 4], positions[7, 7]
    assert cosine_similarity(positions[3, 3], near, dim=0) > cosine_similarity(positions[3, 3], far, dim=0) + 0.1


def test_rows_and_columns_are_told_apart() -> None:
    positions = encoder().pos_embed[0, 1:].unflatten(0, (8, 8))
    assert cosine_similarity(positions[0, 5], positions[5, 0], dim=0) < 0.9


def test_any_width_will_do() -> None:
    assert torch.isfinite(encoder(width=42, num_heads=2)(torch.zeros(1, 3, 64, 64))).all()
