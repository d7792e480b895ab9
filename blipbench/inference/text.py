"""The text transformer over packed texts: MED's numbers (models/med.py) with only the work that the score reads.

No padding and no mask; query, key and value of self-attention in one product; an image's cross-attention keys and
values for all layers in one product; the first layer's self-attention apart, since it does not see the image; in the
last layer only the first token of each text, where that is all the score reads.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from blipbench.inference.attention import SharedContext, grouped_self_attention
from blipbench.inference.linear import FastLinear, fuse
from blipbench.inference.packing import Chunk
from blipbench.models.med import Attention, Embeddings, Intermediate, Layer, Residual, TextEncoder


class Context(Protocol):
    """What a layer's cross-attention reads: queries [tokens, width] in, what they find [tokens, width] out."""

    def attend(self, query: Tensor) -> Tensor: ...


class PackedBlock:
    """What every layer has, whatever its cross-attention: self-attention and MLP over [tokens, width]."""

    def __init__(self, attention: Attention, intermediate: Intermediate, output: Residual, num_heads: int) -> None:
        self.num_heads = num_heads
        self.qkv = fuse(attention.self.query, attention.self.key, attention.self.value)
        self.query = fuse(attention.self.query)
        self.key_value = fuse(attention.self.key, attention.self.value)
        self.self_out, self.self_norm = fuse(attention.output.dense), attention.output.LayerNorm
        self.up = FastLinear(intermediate.dense.weight, intermediate.dense.bias, gelu=True)
        self.down, self.norm = fuse(output.dense), output.LayerNorm

    def self_attend(self, hidden: Tensor, chunk: Chunk, first_only: bool) -> Tensor:
        """[S', width] -> [S', width], or [n', width] when only each text's first token is wanted."""
        if first_only:
            asking = hidden[chunk.first]
            query = self.query(asking)
            key, value = self.key_value(hidden).chunk(2, dim=-1)
        else:
            asking = hidden
            query, key, value = self.qkv(hidden).chunk(3, dim=-1)
        return self.after_self(
            grouped_self_attention(query, key, value, chunk.groups, self.num_heads, first_only), asking
        )

    def after_self(self, attended: Tensor, hidden: Tensor) -> Tensor:
        """What self-attention found, through its output projection, added to what asked."""
        return add_norm(self.self_out(attended), hidden, self.self_norm)

    def mlp(self, hidden: Tensor) -> Tensor:
        return add_norm(self.down(self.up(hidden)), hidden, self.norm)


class PackedLayer(PackedBlock):
    """One MED layer over [tokens, width]."""

    def __init__(self, layer: Layer, num_heads: int) -> None:
        super().__init__(layer.attention, layer.intermediate, layer.output, num_heads)
        cross = layer.crossattention
        self.cross_query = fuse(cross.self.query)
        self.cross_out, self.cross_norm = fuse(cross.output.dense), cross.output.LayerNorm

    def cross_attend(self, hidden: Tensor, context: Context) -> Tensor:
        attended = context.attend(self.cross_query(hidden))
        return add_norm(self.cross_out(attended), hidden, self.cross_norm)


def add_norm(x: Tensor, residual: Tensor, norm: torch.nn.LayerNorm) -> Tensor:
    """LayerNorm(x + residual); `x` is overwritten."""
    return F.layer_norm(x.add_(residual), norm.normalized_shape, norm.weight, norm.bias, norm.eps)


def embed(embeddings: Embeddings, input_ids: Tensor, chunk: Chunk) -> Tensor:
    """Word and position embeddings of a chunk's tokens: input_ids [S'] -> [S', width]."""
    words, positions = embeddings.word_embeddings(input_ids), embeddings.position_embeddings(chunk.positions)
    return add_norm(words, positions, embeddings.LayerNorm)


class PackedTextEncoder:
    """Built once from a TextEncoder, in its dtype and on its device."""

    def __init__(self, encoder: TextEncoder) -> None:
        self.num_heads = encoder.config.num_heads
        self.embeddings = encoder.embeddings
        modules: Sequence[Layer] = list(encoder.encoder.layer)  # type: ignore[arg-type]
        self.layers = [PackedLayer(layer, self.num_heads) for layer in modules]
        cross = [layer.crossattention.self for layer in modules]
        self.context_keys_values = fuse(*(linear for layer in cross for linear in (layer.key, layer.value)))

    def keys_values(self, context: Tensor) -> list[tuple[Tensor, Tensor]]:
        """What the cross-attentions read, [T, context_width], projected once for every layer: [T, width] each."""
        projected = self.context_keys_values(context).chunk(2 * len(self.layers), dim=-1)
        return list(zip(projected[::2], projected[1::2], strict=True))

    def image_context(self, image_embeds: Tensor) -> list[SharedContext]:
        """One image's tokens [T, image_width], for texts that all read this image."""
        return [SharedContext(key, value, self.num_heads) for key, value in self.keys_values(image_embeds)]

    def first_layer(self, input_ids: Tensor, chunk: Chunk) -> Tensor:
        """The part that no image enters: embeddings and the first self-attention. input_ids [S'] -> [S', width]."""
        hidden = embed(self.embeddings, input_ids, chunk)
        return self.layers[0].self_attend(hidden, chunk, first_only=False)

    def rest(self, hidden: Tensor, chunk: Chunk, context: Sequence[Context] | None, first_only: bool = True) -> Tensor:
        """From the first layer's self-attention [S', width] to the first tokens' final states [n, width], or with
        `first_only` False to all tokens' [S, width]."""
        last = len(self.layers) - 1
        for i, layer in enumerate(self.layers):
            if i > 0:
                hidden = layer.self_attend(hidden, chunk, first_only=first_only and i == last)
            elif last == 0 and first_only:
                hidden = hidden[chunk.first]
            if context is not None:
                hidden = layer.cross_attend(hidden, context[i])
            hidden = layer.mlp(hidden)
        return hidden[: len(chunk.texts) if first_only else chunk.num_tokens]
