"""Dropout and drop path act in training mode alone; gradient checkpointing keeps less and computes the same."""

import pytest
import torch
from torch import Tensor, nn

from blipbench.models.config import ModelConfig, TextConfig, VisionConfig
from blipbench.models.med import Embeddings, Projections, Residual, TextDecoder, TextEncoder
from blipbench.models.nlvr import TwinOutput, TwinTextEncoder
from blipbench.models.vit import ImageEncoder

TEXT = TextConfig(width=32, depth=3, num_heads=4, intermediate_size=64, vocab_size=50, max_positions=16)
VISION = VisionConfig(width=24, depth=3, num_heads=3, image_size=48)
WITH_DROPOUT = TEXT.model_copy(update={"dropout": 0.3})


class Attend(nn.Module):
    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.projections = Projections(config.width, config.width, config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.projections.attend(x, x, 4, None)


class Dense(nn.Module):
    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.residual = Residual(config.width, config)

    def forward(self, x: Tensor) -> Tensor:
        return self.residual(x, x)


class Twin(nn.Module):
    def __init__(self, config: TextConfig, merges: bool) -> None:
        super().__init__()
        self.output = TwinOutput(config, merges)

    def forward(self, x: Tensor) -> Tensor:
        return self.output(x, x, x)


class Embed(nn.Module):
    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.embeddings = Embeddings(config)

    def forward(self, x: Tensor) -> Tensor:
        return self.embeddings((x[:, :, 0].abs() * 10).long())


PLACES = {
    "attention": Attend,
    "dense": Dense,
    "embeddings": Embed,
    "averaging": lambda config: Twin(config, merges=False),
    "merging": lambda config: Twin(config, merges=True),
}


@pytest.mark.parametrize("place", PLACES)
def test_dropout_acts_in_training_and_never_in_evaluation(place: str) -> None:
    torch.manual_seed(0)
    plain, dropping = PLACES[place](TEXT), PLACES[place](WITH_DROPOUT)
    dropping.load_state_dict(plain.state_dict())
    x = torch.randn(2, 6, 32)
    assert torch.equal(dropping.eval()(x), plain.train()(x))
    dropping.train()
    assert not torch.equal(dropping(x), dropping(x))


def test_drop_path_grows_with_depth() -> None:
    encoder = ImageEncoder(VISION.model_copy(update={"drop_path": 0.1}))
    rates = [getattr(block.drop_path1, "drop_prob", 0.0) for block in encoder.blocks]
    assert rates == pytest.approx([0.0, 0.05, 0.1])
    pixels = torch.randn(64, 3, 48, 48)
    assert torch.equal(encoder.eval()(pixels), encoder(pixels))
    encoder.train()
    assert not torch.equal(encoder(pixels), encoder(pixels))


def test_rates_are_not_written_with_the_sizes() -> None:
    config = ModelConfig(name="x", vision=VISION.model_copy(update={"drop_path": 0.1}), text=WITH_DROPOUT)
    assert "drop" not in config.model_dump_json()


@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_a_rate_that_is_no_share_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="dropout"):
        TextConfig(dropout=rate)


def kept_bytes(module: nn.Module, *inputs: Tensor) -> int:
    """What autograd keeps for the backward pass, parameters and inputs aside."""
    known = {tensor.untyped_storage().data_ptr() for tensor in (*module.parameters(), *inputs)}
    sizes: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        module(*inputs)
    return sum(size for address, size in sizes.items() if address not in known)


IDS, MASK, STATES = torch.randint(1, 50, (4, 12)), torch.ones(4, 12), torch.randn(4, 10, 24)
ENCODERS = {
    "vit": (lambda on: ImageEncoder(VISION, gradient_checkpointing=on), (torch.randn(4, 3, 48, 48),)),
    "text": (lambda on: TextEncoder(TEXT, 24, gradient_checkpointing=on), (IDS, MASK, STATES)),
    "decoder": (lambda on: TextDecoder(TEXT, 24, gradient_checkpointing=on).bert, (IDS, MASK, STATES)),
    "twin": (lambda on: TwinTextEncoder(TEXT, 24, gradient_checkpointing=on), (IDS, MASK, STATES, STATES)),
}


@pytest.mark.parametrize("encoder", ENCODERS)
def test_gradient_checkpointing_keeps_less_than_half(encoder: str) -> None:
    make, inputs = ENCODERS[encoder]
    assert kept_bytes(make(True), *inputs) < 0.5 * kept_bytes(make(False), *inputs)


def test_checkpointed_layers_drop_the_same_again_in_the_backward_pass() -> None:
    """Else the gradients would be of another function than the loss."""
    gradients = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        encoder = TextEncoder(WITH_DROPOUT, 24, gradient_checkpointing=checkpointing)
        encoder(IDS, MASK, STATES)[:, 0].square().sum().backward()
        gradients.append(encoder.embeddings.word_embeddings.weight.grad)
    assert torch.allclose(gradients[0], gradients[1], rtol=1e-5, atol=1e-7)
