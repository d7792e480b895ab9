"""The text transformer over packed texts: MED's numbers (models/med.py) with only the work that the score reads.

No padding and no mask; query, key and value of self-attention in one product; an image's cross-attention keys and
values for all layers in one product; the first layer's self-attention apart, since it does not see the image; in the
last layer only the first token of each text.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from blipbench.inference.attention import SharedContext, grouped_self_attention
from blipbench.inference.linear import FastLinear, fuse
from blipbench.inference.packing import Chunk
from blipbench.models.med import Layer, TextEncoder


class _PackedLayer:
    """One MED layer over [tokens, width]."""

    def __init__(self, layer: Layer, num_heads: int) -> None:
        attention, cross = layer.attention, layer.crossattention
        self.num_heads = num_heads
        self.qkv = fuse(attention.self.query, attention.self.key, attention.self.value)
        self.query = fuse(attention.self.query)
        self.key_value = fuse(attention.self.key, attention.self.value)
        self.self_out, self.self_norm = fuse(attention.output.dense), attention.output.LayerNorm
        self.cross_query = fuse(cross.self.query)
        self.cross_out, self.cross_norm = fuse(cross.output.dense), cross.output.LayerNorm
        self.up = FastLinear(layer.intermediate.dense.weight, layer.intermediate.dense.bias, gelu=True)
        self.down, self.norm = fuse(layer.output.dense), layer.output.LayerNorm

    def self_attend(self, hidden: Tensor, chunk: Chunk, first_only: bool) -> Tensor:
        """[S, width] -> [S, width], or [n, width] when only each text's first token is wanted."""
        if first_only:
            first = hidden[chunk.first]
            key, value = self.key_value(hidden).chunk(2, dim=-1)
            attended = grouped_self_attention(self.query(first), key, value, chunk.groups, self.num_heads)
            return _add_norm(self.self_out(attended), first, self.self_norm)
        query, key, value = self.qkv(hidden).chunk(3, dim=-1)
        attended = grouped_self_attention(query, key, value, chunk.groups, self.num_heads)
        return _add_norm(self.self_out(attended), hidden, self.self_norm)

    def cross_attend(self, hidden: Tensor, image: SharedContext) -> Tensor:
        attended = image.attend(self.cross_query(hidden))
        return _add_norm(self.cross_out(attended), hidden, self.cross_norm)

    def mlp(self, hidden: Tensor) -> Tensor:
        return _add_norm(self.down(self.up(hidden)), hidden, self.norm)


def _add_norm(x: Tensor, residual: Tensor, norm: torch.nn.LayerNorm) -> Tensor:
    return F.layer_norm(x.add_(residual), norm.normalized_shape, norm.weight, norm.bias, norm.eps)


class PackedTextEncoder:
    """Built once from a TextEncoder, in its dtype and on its device."""

    def __init__(self, encoder: TextEncoder) -> None:
        self.num_heads = encoder.config.num_heads
        self.embeddings = encoder.embeddings
        modules: Sequence[Layer] = list(encoder.encoder.layer)  # type: ignore[arg-type]
        self.layers = [_PackedLayer(layer, self.num_heads) for layer in modules]
        cross = [layer.crossattention.self for layer in modules]
        self.image_keys_values = fuse(*(linear for layer in cross for linear in (layer.key, layer.value)))

    def image_context(self, image_embeds: Tensor) -> list[SharedContext]:
        """An image's tokens [T, image_width] projected once for every layer."""
        projected = self.image_keys_values(image_embeds).chunk(2 * len(self.layers), dim=-1)  # each [T, width]
        return [SharedContext(projected[i], projected[i + 1], self.num_heads) for i in range(0, len(projected), 2)]

    def first_layer(self, input_ids: Tensor, chunk: Chunk) -> Tensor:
        """The part that no image enters: embeddings and the first self-attention. input_ids [S] -> [S, width]."""
        words, positions = self.embeddings.word_embeddings, self.embeddings.position_embeddings
        norm = self.embeddings.LayerNorm
        hidden = _add_norm(words(input_ids), positions(chunk.positions), norm)
        return self.layers[0].self_attend(hidden, chunk, first_only=False)

    def rest(self, hidden: Tensor, chunk: Chunk, context: list[SharedContext] | None) -> Tensor:
        """From the first layer's self-attention [S, width] to the first tokens' final states [n, width]."""
        last = len(self.layers) - 1
        for i, layer in enumerate(self.layers):
            if i > 0:
                hidden = layer.self_attend(hidden, chunk, first_only=i == last)
            elif last == 0:
                hidden = hidden[chunk.first]
            if context is not None:
                hidden = layer.cross_attend(hidden, context[i])
            hidden = layer.mlp(hidden)
        return hidden
