"""An image encoder whose first blocks are frozen: its two parts make the whole, and only the last one learns."""

import pytest
import torch

from blipbench.models.config import VisionConfig
from blipbench.models.vit import ImageEncoder

VISION = VisionConfig(width=24, depth=3, num_heads=2, image_size=48, patch_size=16)


def encoder(frozen: int, gradient_checkpointing: bool = False) -> ImageEncoder:
    torch.manual_seed(0)
    made = ImageEncoder(VISION, gradient_checkpointing)
    made.freeze(frozen)
    return made


@pytest.mark.parametrize("frozen", [0, 1, 3])
def test_first_and_last_blocks_make_the_whole(frozen: int) -> None:
    made, pixels = encoder(frozen), torch.randn(2, 3, 48, 48)
    torch.testing.assert_close(made.last_blocks(made.first_blocks(pixels)), made(pixels))


def test_first_blocks_and_embeddings_do_not_learn_but_the_rest_does() -> None:
    made = encoder(2)
    made(torch.randn(2, 3, 48, 48)).square().sum().backward()
    learnt = [name for name, parameter in made.named_parameters() if parameter.grad is not None]
    assert learnt and all(name.startswith(("blocks.2.", "norm.")) for name in learnt)


def test_with_all_blocks_the_final_norm_is_frozen_too() -> None:
    assert not any(parameter.requires_grad for parameter in encoder(VISION.depth).parameters())


def test_checkpointed_last_blocks_have_the_same_gradients_though_what_they_take_needs_none() -> None:
    gradients = []
    for checkpointed in (False, True):
        made = encoder(1, checkpointed)
        torch.manual_seed(1)
        tokens = made.first_blocks(torch.randn(2, 3, 48, 48)).detach()
        made.last_blocks(tokens).square().sum().backward()
        gradients.append({name: p.grad for name, p in made.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys() and any("blocks.1" in name for name in gradients[0])
    torch.testing.assert_close(gradients[1], gradients[0])
