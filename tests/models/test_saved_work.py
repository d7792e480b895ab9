"""What text encoders save in training: texts that read one image share its keys and values, and where only the first
token's state is wanted the last layer computes no other. Nothing else may change by it.
"""

import copy
from typing import TypeVar

import pytest
import torch
from torch import Tensor, nn

from blipbench.models.config import TextConfig
from blipbench.models.med import TextDecoder, TextEncoder
from blipbench.models.nlvr import TwinTextEncoder

CONFIG = TextConfig(vocab_size=50, width=32, depth=2, num_heads=4, intermediate_size=64, max_positions=16)
CONTEXT_OF = torch.tensor([1, 0, 1, 1, 2])
OTHER_OF = torch.tensor([0, 0, 2, 1, 1])


Module = TypeVar("Module", bound=nn.Module)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def with_copy(module: Module) -> tuple[Module, Module, Tensor, Tensor]:
    """The module that saves, one of the same weights that will not, and texts for both."""
    mask = (torch.arange(7) < torch.tensor([7, 4, 5, 7, 3])[:, None]).long()
    return module, copy.deepcopy(module), torch.randint(1, 50, mask.shape) * mask, mask


def assert_same(saving: nn.Module, plain: nn.Module, found: Tensor, wanted: Tensor, *contexts: Tensor) -> None:
    """Outputs, and the gradients of parameters and contexts; each context was given as (shared, copied)."""
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)
    weights = torch.randn_like(found)
    (found * weights).sum().backward()
    (wanted * weights).sum().backward()
    for one, other in zip(contexts[::2], contexts[1::2], strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-5)
    for one, other in zip(saving.parameters(), plain.parameters(), strict=True):
        if one.grad is None or other.grad is None:  # cross-attention, of texts alone
            assert one.grad is other.grad
        else:
            torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-5)


def leaf_twice(*shape: int) -> tuple[Tensor, Tensor]:
    context = torch.randn(*shape)
    return context.clone().requires_grad_(), context.clone().requires_grad_()


def test_an_encoder_with_shared_contexts_is_the_one_with_copies() -> None:
    encoder, plain, ids, mask = with_copy(TextEncoder(CONFIG, 24))
    context, copied = leaf_twice(3, 9, 24)
    found = encoder(ids, mask, context, context_of=CONTEXT_OF)
    assert_same(encoder, plain, found, plain(ids, mask, copied[CONTEXT_OF]), context, copied)


def test_a_mask_of_shared_contexts_is_one_of_the_contexts() -> None:
    decoder, plain, ids, mask = with_copy(TextDecoder(CONFIG, 32, gradient_checkpointing=True))
    context_mask = (torch.arange(9) < torch.tensor([9, 6, 2])[:, None]).long()
    context, copied = leaf_twice(3, 9, 32)
    found = decoder(ids, mask, context, context_mask, CONTEXT_OF)
    wanted = plain(ids, mask, copied[CONTEXT_OF], context_mask[CONTEXT_OF])
    assert_same(decoder, plain, found, wanted, context, copied)


def test_two_images_are_shared_each_for_itself() -> None:
    encoder, plain, ids, mask = with_copy(TwinTextEncoder(CONFIG, 24))
    left, left_copied = leaf_twice(3, 9, 24)
    right, right_copied = leaf_twice(3, 9, 24)
    found = encoder(ids, mask, left, right, CONTEXT_OF, OTHER_OF)
    wanted = plain(ids, mask, left_copied[CONTEXT_OF], right_copied[OTHER_OF])
    assert_same(encoder, plain, found, wanted, left, left_copied, right, right_copied)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("images", [False, True])
def test_the_first_state_alone_is_that_of_all_states(images: bool, checkpointing: bool) -> None:
    encoder, plain, ids, mask = with_copy(TextEncoder(CONFIG, 24, gradient_checkpointing=checkpointing))
    context = torch.randn(len(ids), 9, 24) if images else None
    assert_same(encoder, plain, encoder(ids, mask, context, first_only=True), plain(ids, mask, context)[:, :1])


def test_the_first_state_over_two_images_is_that_of_all_states() -> None:
    encoder, plain, ids, mask = with_copy(TwinTextEncoder(CONFIG, 24))
    left, right = torch.randn(len(ids), 9, 24), torch.randn(len(ids), 9, 24)
    assert_same(encoder, plain, encoder(ids, mask, left, right, first_only=True), plain(ids, mask, left, right)[:, :1])
