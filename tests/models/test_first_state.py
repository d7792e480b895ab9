"""Where only the first token's state is wanted, the last layer computes no other; nothing else may change by it."""

import copy

import pytest
import torch
from torch import Tensor, nn

from blipbench.models.config import TextConfig
from blipbench.models.med import TextEncoder
from blipbench.models.nlvr import TwinTextEncoder

CONFIG = TextConfig(vocab_size=50, width=32, depth=2, num_heads=4, intermediate_size=64, max_positions=16)


def texts() -> tuple[Tensor, Tensor]:
    mask = (torch.arange(7) < torch.tensor([7, 4, 5])[:, None]).long()
    return torch.randint(1, 50, mask.shape) * mask, mask


def assert_same(encoder: nn.Module, plain: nn.Module, found: Tensor, wanted: Tensor) -> None:
    """The state, and the gradients of all parameters."""
    assert found.shape == (3, 1, CONFIG.width)
    torch.testing.assert_close(found, wanted[:, :1], rtol=1e-5, atol=1e-6)
    weights = torch.randn_like(found)
    (found * weights).sum().backward()
    (wanted[:, :1] * weights).sum().backward()
    for (name, one), other in zip(encoder.named_parameters(), plain.parameters(), strict=True):
        if one.grad is None or other.grad is None:  # cross-attention, of a text alone
            assert one.grad is other.grad, name
        else:
            torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("images", [False, True])
def test_the_first_state_alone_is_that_of_all_states(images: bool, checkpointing: bool) -> None:
    torch.manual_seed(0)
    encoder = TextEncoder(CONFIG, 24, gradient_checkpointing=checkpointing)
    plain = copy.deepcopy(encoder)
    ids, mask = texts()
    context = torch.randn(3, 9, 24) if images else None
    assert_same(encoder, plain, encoder(ids, mask, context, first_only=True), plain(ids, mask, context))


def test_the_first_state_over_two_images_is_that_of_all_states() -> None:
    torch.manual_seed(1)
    encoder = TwinTextEncoder(CONFIG, 24)
    plain = copy.deepcopy(encoder)
    ids, mask = texts()
    left, right = torch.randn(3, 9, 24), torch.randn(3, 9, 24)
    assert_same(encoder, plain, encoder(ids, mask, left, right, first_only=True), plain(ids, mask, left, right))
