"""The text transformer on packed texts: the results of MED (models/med.py) with only the work that the score needs.

There is no padding and no mask. Query, key and value of self-attention are one product. An image's cross-attention keys
and values for all layers are one product. The first layer's self-attention is separate, because it does not depend on
the image. The last layer computes only the first token of each text, if the score needs no other.
"""

from collections.abc import Sequence

from torch import Tensor

from blipbench.inference.attention import Context, OneContext, Spans
from blipbench.inference.kernels import add_norm
from blipbench.inference.linear import FastLinear, fuse
from blipbench.inference.packing import Chunk
from blipbench.models.med import Attention, Embeddings, Intermediate, Layer, Residual, TextEncoder

KeysValues = list[tuple[Tensor, Tensor]]  # of every layer, [tokens of all contexts, width] each


class PackedBlock:
    """The parts that all layers share, whatever their cross-attention: self-attention and MLP on [tokens, width]."""

    def __init__(self, attention: Attention, intermediate: Intermediate, output: Residual, num_heads: int) -> None:
        self.num_heads = num_heads
        self.qkv = fuse(attention.self.query, attention.self.key, attention.self.value)
        self.query = fuse(attention.self.query)
        self.key_value = fuse(attention.self.key, attention.self.value)
        self.self_out, self.self_norm = fuse(attention.output.dense), attention.output.LayerNorm
        self.up = FastLinear(intermediate.dense.weight, intermediate.dense.bias, gelu=True)
        self.down, self.norm = fuse(output.dense), output.LayerNorm

    def self_attend(self, hidden: Tensor, chunk: Chunk, first_only: bool) -> Tensor:
        """[S', width] -> [S', width], or with `first_only` [n', width]: the first token of each text."""
        if first_only:
            asking = hidden[chunk.first]
            query, spans = self.query(asking), chunk.first_tokens
            key, value = self.key_value(hidden).chunk(2, dim=-1)
        else:
            asking, spans = hidden, chunk.every_token
            query, key, value = self.qkv(hidden).chunk(3, dim=-1)
        return self.after_self(spans.attend(query, key, value, self.num_heads), asking)

    def after_self(self, attended: Tensor, hidden: Tensor) -> Tensor:
        """Output projection, residual and LayerNorm after self-attention."""
        return add_norm(self.self_out(attended), hidden, self.self_norm)

    def mlp(self, hidden: Tensor) -> Tensor:
        return add_norm(self.down(self.up(hidden)), hidden, self.norm)


class PackedLayer(PackedBlock):
    """One MED layer on [tokens, width]."""

    def __init__(self, layer: Layer, num_heads: int) -> None:
        super().__init__(layer.attention, layer.intermediate, layer.output, num_heads)
        cross = layer.crossattention
        self.cross_query = fuse(cross.self.query)
        self.cross_out, self.cross_norm = fuse(cross.output.dense), cross.output.LayerNorm

    def cross_attend(self, hidden: Tensor, context: Context) -> Tensor:
        attended = context(self.cross_query(hidden))
        return add_norm(self.cross_out(attended), hidden, self.cross_norm)


def embed(embeddings: Embeddings, input_ids: Tensor, chunk: Chunk) -> Tensor:
    """Word and position embeddings of a chunk's tokens: input_ids [S'] -> [S', width]."""
    words, positions = embeddings.word_embeddings(input_ids), embeddings.position_embeddings(chunk.positions)
    return add_norm(words, positions, embeddings.LayerNorm)


class PackedTextEncoder:
    """Built from a TextEncoder, with its dtype and device."""

    def __init__(self, encoder: TextEncoder) -> None:
        self.num_heads = encoder.config.num_heads
        self.embeddings = encoder.embeddings
        modules: Sequence[Layer] = list(encoder.encoder.layer)  # type: ignore[arg-type]
        self.layers = [PackedLayer(layer, self.num_heads) for layer in modules]
        cross = [layer.crossattention.self for layer in modules]
        self.context_keys_values = fuse(*(linear for layer in cross for linear in (layer.key, layer.value)))

    def keys_values(self, context: Tensor) -> KeysValues:
        """Keys and values of the context [T, context_width] for every layer, [T, width] each, in one product."""
        projected = self.context_keys_values(context).chunk(2 * len(self.layers), dim=-1)
        return list(zip(projected[::2], projected[1::2], strict=True))

    def image_context(self, image_embeds: Tensor) -> list[Context]:
        """One image's tokens [T, image_width], prepared on a CPU for many texts that all read them."""
        return [OneContext(key, value, self.num_heads) for key, value in self.keys_values(image_embeds)]

    def contexts(self, keys_values: KeysValues, tokens: Spans, firsts: Spans) -> list[Context]:
        """Cross-attention to several contexts, for `rest`: of all tokens, and in the last layer of the first ones."""
        spans = [*[tokens] * (len(keys_values) - 1), firsts]
        bound = zip(spans, keys_values, strict=True)
        return [spans.context(key, value, self.num_heads) for spans, (key, value) in bound]

    def first_layer(self, input_ids: Tensor, chunk: Chunk) -> Tensor:
        """The part without the image: embeddings and the first self-attention. input_ids [S'] -> [S', width]."""
        hidden = embed(self.embeddings, input_ids, chunk)
        return self.layers[0].self_attend(hidden, chunk, first_only=False)

    def rest(self, hidden: Tensor, chunk: Chunk, context: Sequence[Context] | None, first_only: bool = True) -> Tensor:
        """All that follows the first layer's self-attention, whose output [S', width] is `hidden`.

        Returns the final states of the first tokens [n, width], or of all tokens [S, width] if `first_only` is False.
        """
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
