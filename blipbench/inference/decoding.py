"""The fast decoder: generates texts for a batch of contexts with MED and its language model head.

    decoder = FastDecoder(text_decoder, sep_id, runtime)                        once
    generate(decoder, context, context_mask, prompt_ids, settings)              -> token ids for each context
    search(decoder, context, context_mask, prompt_ids, settings, seeds)         -> the same with log-probabilities

The context is what the cross-attention reads: image tokens, or the states of a question. Its keys and values are
projected once per layer and shared by all beams at all steps. The prompt is read once per context. The keys and values
of the text are kept in a cache that is allocated once; only the rows of beams that moved are copied.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from blipbench.device import Runtime, upload
from blipbench.errors import UsageError
from blipbench.inference.beams import beam_search
from blipbench.inference.kernels import add_norm
from blipbench.inference.linear import FastLinear, fuse
from blipbench.inference.search import Decoding, Hypothesis, SearchSettings, token_search
from blipbench.inference.text import PackedTextEncoder
from blipbench.models.med import TextDecoder

# Limit for the contexts' keys and values on a CPU. It is large because each step reads all weights, even for few texts.
_CPU_CONTEXT_BYTES = 512 * 2**20


class FastDecoder:
    """`decoder` in the run's precision, on its device."""

    def __init__(self, decoder: TextDecoder, sep_id: int, runtime: Runtime) -> None:
        self.config = decoder.config
        self.sep_id = sep_id
        self.runtime = runtime
        self.text = PackedTextEncoder(decoder.bert)
        head = decoder.cls.predictions
        self.transform = FastLinear(head.transform.dense.weight, head.transform.dense.bias, gelu=True)
        self.transform_norm = head.transform.LayerNorm
        self.vocabulary = fuse(head.decoder)
        self.bias: Tensor = head.decoder.bias.detach()  # [vocabulary]
        self.dtype = head.decoder.weight.dtype

    def batch(self, context_tokens: int, settings: SearchSettings) -> int:
        """The number of contexts of `context_tokens` tokens to decode at once."""
        room = self.runtime.cache_bytes if self.runtime.device.type == "cuda" else _CPU_CONTEXT_BYTES
        bytes_each = 2 * self.config.depth * context_tokens * self.config.width * self.dtype.itemsize
        return max(1, min(self.runtime.batch_tokens // (settings.beams * settings.max_length), room // bytes_each))

    def begin(self, context: Tensor, context_mask: Tensor | None, settings: SearchSettings) -> "FastDecoding":
        return FastDecoding(self, context, context_mask, settings.beams, settings.max_length)

    def head(self, hidden: Tensor) -> Tensor:
        """Final states [rows, width] -> logits [rows, vocabulary]."""
        return self.vocabulary(self.transformed(hidden))

    def transformed(self, hidden: Tensor) -> Tensor:
        """Final states [rows, width] -> the input of the vocabulary projection, [rows, width]."""
        return self.transform_norm(self.transform(hidden))


def generate(
    decoder: FastDecoder,
    context: Tensor,
    context_mask: Tensor | None,
    prompt_ids: Sequence[int],
    settings: SearchSettings,
) -> list[list[int]]:
    """The token ids of the text for each context. They start with the prompt and end with [SEP] unless truncated."""
    return [found.ids for found in search(decoder, context, context_mask, prompt_ids, settings)]


@torch.inference_mode()
def search(
    decoder: FastDecoder,
    context: Tensor,
    context_mask: Tensor | None,
    prompt_ids: Sequence[int],
    settings: SearchSettings,
    seeds: Sequence[int] | None = None,
) -> list[Hypothesis]:
    """Generate a text for each context, in batches that suit the device.

    context: [n, T, context_width]. context_mask: [n, T], 1 where the context may be read (None: everywhere).
    `prompt_ids` are the first tokens of every text, including [DEC]. `seeds`, one per context, are for nucleus sampling
    (default: 0, 1, 2, ...). Raises UsageError if the prompt leaves no room or the model has too few positions.
    """
    check_lengths(decoder.config.max_positions, prompt_ids, settings)
    seeds = range(len(context)) if seeds is None else seeds
    size = decoder.batch(context.shape[1], settings)
    found: list[Hypothesis] = []
    for start in range(0, len(context), size):
        part = slice(start, start + size)
        mask = None if context_mask is None else context_mask[part]
        decoding = decoder.begin(context[part], mask, settings)
        found += run_search(decoding, prompt_ids, settings, decoder.sep_id, seeds[part])
    return found


def run_search(
    decoding: Decoding, prompt_ids: Sequence[int], settings: SearchSettings, sep_id: int, seeds: Sequence[int]
) -> list[Hypothesis]:
    """Run the search that the settings select. Beam search with one beam is greedy search."""
    if settings.beams > 1:
        return beam_search(decoding, prompt_ids, settings, sep_id)
    return token_search(decoding, prompt_ids, settings, sep_id, seeds)


def check_lengths(max_positions: int, prompt_ids: Sequence[int], settings: SearchSettings) -> None:
    if len(prompt_ids) >= settings.max_length:
        raise UsageError(
            f"max_length: {settings.max_length} tokens leave no room after the prompt of {len(prompt_ids)} tokens; "
            "use a larger max_length or a shorter prompt"
        )
    if settings.min_length > settings.max_length:
        raise UsageError(
            f"min_length: {settings.min_length} tokens are more than max_length, which is {settings.max_length}"
        )
    if settings.max_length > max_positions:
        raise UsageError(
            f"max_length: {settings.max_length} exceeds the model's {max_positions} positions; "
            f"use at most {max_positions}"
        )


class FastDecoding:
    """The state of decoding a batch of contexts (see `search.Decoding`)."""

    def __init__(
        self, decoder: FastDecoder, context: Tensor, context_mask: Tensor | None, beams: int, max_length: int
    ) -> None:
        self.decoder = decoder
        self.device = context.device
        config = decoder.config
        self.head_dim = config.width // config.num_heads
        self.shared = SharedContexts(decoder, context, context_mask)
        shape = (config.depth, len(context) * beams, config.num_heads, max_length, self.head_dim)
        self.keys = torch.empty(shape, dtype=decoder.dtype, device=self.device)
        self.values = torch.empty_like(self.keys)
        self.length = 0  # tokens so far, equal for all live texts

    def start(self, prompt_ids: Sequence[int]) -> Tensor:
        return self._forward(upload(np.array(prompt_ids, np.int64), self.device).expand(self.shared.count, -1))

    def step(self, tokens: Tensor, parents: Tensor, contexts: Sequence[int]) -> Tensor:
        to = torch.arange(len(parents), device=self.device)
        if self.device.type == "cpu":  # where a copy costs more than to see which rows need none
            to = (parents != to).nonzero()[:, 0]
            parents = parents[to]
        for cache in (self.keys, self.values):
            cache[:, to, :, : self.length] = cache[:, parents, :, : self.length]
        self.shared.keep(contexts)
        return self._forward(tokens[:, None])

    def _forward(self, input_ids: Tensor) -> Tensor:
        """The next t tokens of every text, [rows, t] -> logits after the last token, [rows, vocabulary]."""
        rows, count = input_ids.shape
        end = self.length + count
        hidden = self._embed(input_ids)  # [rows * t, width]
        for i, layer in enumerate(self.decoder.text.layers):
            keys, values = self.keys[i, :rows], self.values[i, :rows]
            qkv = layer.qkv(hidden).view(rows, count, 3, -1, self.head_dim).transpose(1, 3)  # [rows, heads, 3, t, dim]
            query, keys[:, :, self.length : end], values[:, :, self.length : end] = qkv.unbind(2)
            attended = F.scaled_dot_product_attention(query, keys[:, :, :end], values[:, :, :end], is_causal=count > 1)
            hidden = layer.after_self(attended.transpose(1, 2).reshape(rows * count, -1), hidden)
            hidden = layer.mlp(layer.cross_attend(hidden, self.shared.layer(i)))
        self.length = end
        return self.decoder.head(hidden[count - 1 :: count])

    def _embed(self, input_ids: Tensor) -> Tensor:
        table = self.decoder.text.embeddings
        positions = torch.arange(self.length, self.length + input_ids.shape[1], device=self.device)
        words = table.word_embeddings(input_ids)  # [rows, t, width]
        return add_norm(words, table.position_embeddings(positions), table.LayerNorm).flatten(0, 1)


class SharedContexts:
    """Keys and values of a batch of contexts in every layer. Several texts read each context.

    keys, values: [layers, contexts, heads, T, head_dim]. mask: [contexts, 1, 1, T], true where a key may be read.
    """

    def __init__(self, decoder: FastDecoder, context: Tensor, context_mask: Tensor | None) -> None:
        """Projects a few contexts at a time to save memory."""
        config, length = decoder.config, context.shape[1]
        heads, head_dim = config.num_heads, config.width // config.num_heads
        shape = (config.depth, len(context), heads, length, head_dim)
        self.keys = torch.empty(shape, dtype=decoder.dtype, device=context.device)
        self.values = torch.empty_like(self.keys)
        self.mask = None if context_mask is None else context_mask[:, None, None] != 0
        self.count = len(context)
        size = max(1, decoder.runtime.batch_tokens // length)
        for start in range(0, self.count, size):
            part = slice(start, start + size)
            for layer, projected in enumerate(decoder.text.keys_values(context[part].flatten(0, 1))):
                for held, new in zip((self.keys, self.values), projected, strict=True):
                    held[layer, part] = new.view(-1, length, heads, head_dim).transpose(1, 2)

    def layer(self, index: int) -> "LayerContexts":
        live = slice(self.count)
        return LayerContexts(
            self.keys[index, live], self.values[index, live], None if self.mask is None else self.mask[live]
        )

    def keep(self, contexts: Sequence[int]) -> None:
        """Keep the contexts at these places. Some are copied to the places of those that are dropped."""
        self.count = len(contexts)
        moved = [(place, source) for place, source in enumerate(contexts) if place != source]
        if not moved:
            return
        to, source = upload(np.array(moved, np.int64).T.copy(), self.keys.device)
        self.keys[:, to] = self.keys[:, source]
        self.values[:, to] = self.values[:, source]
        if self.mask is not None:
            self.mask[to] = self.mask[source]


@dataclasses.dataclass(frozen=True)
class LayerContexts:
    """One layer's cross-attention input (see `attention.Context`). key, value: [contexts, heads, T, head_dim]."""

    key: Tensor
    value: Tensor
    mask: Tensor | None

    def __call__(self, query: Tensor) -> Tensor:
        """[contexts * n, width] -> [contexts * n, width]. The first n queries read the first context, and so on."""
        contexts, heads, _, head_dim = self.key.shape
        q = query.view(contexts, -1, heads, head_dim).transpose(1, 2)  # [contexts, heads, n, head_dim]
        attended = F.scaled_dot_product_attention(q, self.key, self.value, attn_mask=self.mask)
        return attended.transpose(1, 2).reshape(query.shape)


class PlainDecoding:
    """Decodes as the reference does, for the self-check.

    Each step reads the whole texts again, and the context is repeated for every beam.
    """

    def __init__(self, decoder: TextDecoder, context: Tensor) -> None:
        """context [n, T, context_width]."""
        self.decoder = decoder
        self.context = context
        self.ids = torch.empty(0, 0, dtype=torch.int64)

    def start(self, prompt_ids: Sequence[int]) -> Tensor:
        self.ids = torch.tensor(prompt_ids, device=self.context.device).expand(len(self.context), -1)
        return self._logits()

    def step(self, tokens: Tensor, parents: Tensor, contexts: Sequence[int]) -> Tensor:
        self.ids = torch.cat([self.ids[parents], tokens[:, None]], dim=1)
        self.context = self.context[list(contexts)]
        return self._logits()

    def _logits(self) -> Tensor:
        context = self.context.repeat_interleave(len(self.ids) // len(self.context), dim=0)
        return self.decoder(self.ids, torch.ones_like(self.ids), context)[:, -1]
