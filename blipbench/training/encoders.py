"""Encoders and decoder for training: with BERT's initial weights, and the buffer of official checkpoints.

In: the sizes of a model. Out: modules of `models/` whose state dicts have exactly the official names.
"""

from typing import TypeVar

import torch
from torch import Tensor, nn

from blipbench.models.config import ModelConfig
from blipbench.models.med import Embeddings, TextDecoder, TextEncoder
from blipbench.models.nlvr import TwinTextEncoder
from blipbench.models.vit import ImageEncoder

Module = TypeVar("Module", bound=nn.Module)

_STD = 0.02  # of BERT's matrices and embeddings (Devlin et al. 2019, and `initializer_range` in the reference's files)
_STD_WIDTH = 768  # of the models that it was chosen for; narrower ones start wider, so that signals keep their size
_EVENNESS = 0.1  # what is left of a patch filter's mean: an even patch tells colour, which is learnt soon anyway
_EDGE_GAIN = 4.0  # of patch filters, whose answers to edges are small beside the embeddings of positions
_POSITION_SIZE = 0.5  # of the sines and cosines in the position embeddings


def image_encoder(config: ModelConfig, gradient_checkpointing: bool = False) -> ImageEncoder:
    """Initial weights of a run without --init: edge filters for patches, and similar positions for near patches.

    A small ViT that starts as timm's or the reference's does learns colours at once but shapes hardly at all: its
    patch filters answer to brightness above all, and it has to find out which patches touch.
    """
    encoder = ImageEncoder(config.vision, gradient_checkpointing)
    assert encoder.cls_token is not None and encoder.pos_embed is not None
    nn.init.trunc_normal_(encoder.cls_token, std=_STD)  # timm starts it at zero, the reference does not
    with torch.no_grad():
        for part in encoder.blocks.modules():
            if isinstance(part, nn.Linear):
                part.weight *= _widening(config.vision.width)
        filters = encoder.patch_embed.proj.weight  # [width, 3, patch, patch]
        filters -= (1 - _EVENNESS) * filters.mean(dim=(2, 3), keepdim=True)
        filters *= _EDGE_GAIN
        grid, width = config.vision.image_size // config.vision.patch_size, config.vision.width
        encoder.pos_embed[0, 1:, : width // 4 * 4] += _POSITION_SIZE * _grid_positions(grid, width)
    return encoder


def _grid_positions(grid: int, width: int) -> Tensor:
    """Sines and cosines of column and row, [grid * grid, width], a quarter of the width each (as in MoCo v3)."""
    frequencies = 10_000 ** (-torch.arange(width // 4) / (width // 4))
    angles = torch.arange(grid)[:, None] * frequencies  # [grid, width / 4]
    waves = torch.cat([angles.sin(), angles.cos()], dim=1)  # [grid, width / 2]
    return torch.cat([waves.repeat(grid, 1), waves.repeat_interleave(grid, dim=0)], dim=1)


def image_tokens(encoder: ImageEncoder, images: Tensor) -> Tensor:
    """Images [n, 3, S, S], or [n, T, width] from the frozen blocks -> image_embeds [n, T, width]."""
    return encoder.last_blocks(images) if images.ndim == 3 else encoder(images)


def text_encoder(config: ModelConfig, gradient_checkpointing: bool = False) -> TextEncoder:
    """It attends to image tokens."""
    encoder = TextEncoder(config.text, config.vision.width, gradient_checkpointing=gradient_checkpointing)
    return _prepared(encoder, config)


def text_decoder(config: ModelConfig, context_width: int, gradient_checkpointing: bool = False) -> TextDecoder:
    return _prepared(TextDecoder(config.text, context_width, gradient_checkpointing), config)


def twin_text_encoder(config: ModelConfig, gradient_checkpointing: bool = False) -> TwinTextEncoder:
    return _prepared(TwinTextEncoder(config.text, config.vision.width, gradient_checkpointing), config)


def tie_all_but_self_attention(encoder: TextEncoder, decoder: TextDecoder) -> None:
    """Make the decoder's embeddings, cross-attention and MLPs the encoder's own (BLIP, section 3.1)."""
    decoder.bert.embeddings = encoder.embeddings
    decoder.cls.predictions.decoder.weight = encoder.embeddings.word_embeddings.weight
    for shared, layer in zip(encoder.encoder.layer, decoder.bert.encoder.layer, strict=True):
        layer.crossattention = shared.crossattention
        layer.intermediate = shared.intermediate
        layer.output = shared.output


def with_first(input_ids: Tensor, token: int) -> Tensor:
    """The texts [n, L] with [ENC] or [DEC] in the place of [CLS]."""
    return torch.cat([input_ids.new_full((len(input_ids), 1), token), input_ids[:, 1:]], dim=1)


def full_precision(tensor: Tensor) -> Tensor:
    """16-bit values under autocast as float32, for a loss. float64 is not changed."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def _widening(width: int) -> float:
    return float((_STD_WIDTH / width) ** 0.5)


def _prepared(module: Module, config: ModelConfig) -> Module:
    std = _STD * _widening(config.text.width)
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Embedding):
            nn.init.normal_(part.weight, std=std)
        if isinstance(part, nn.Linear):
            nn.init.zeros_(part.bias)
        if isinstance(part, Embeddings):
            positions = torch.arange(part.position_embeddings.num_embeddings)
            part.register_buffer("position_ids", positions[None])  # [1, max_positions], as official files have it
    return module
