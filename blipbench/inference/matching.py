"""ITM scoring: one image with many texts (the expensive part of retrieval), or many images with few texts each.

    matcher = Matcher(encoder, itm_head, bank, batch_tokens, cache_bytes)
    logits = matcher.score(image_embeds, texts)             # [T, width], indices into the bank -> logits of 'match' [n]
    pending = matcher.submit(image_embeds, texts, owner)    # [m, T, width], indices, the image of each text

The image's keys and values are projected once per layer and shared by the texts. The states before the first
cross-attention are computed once per text and kept if they fit into `cache_bytes`.
"""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from blipbench.device import Fetch
from blipbench.inference.attention import Context, Indices, one_context_is_faster
from blipbench.inference.kernels import attention_usable
from blipbench.inference.linear import fuse
from blipbench.inference.packing import Chunk, TextBank
from blipbench.inference.text import PackedTextEncoder

MATCH = 1  # index of 'match' in the ITM head's two logits

Item = TypeVar("Item")


@dataclasses.dataclass(frozen=True)
class Pending:
    """Scores that a GPU may still be computing; `result` and `logits` wait for them."""

    texts: int
    scored: list[tuple[Indices, Fetch]]  # the places of some texts, and their logits

    def result(self) -> Tensor:
        """Logits of 'match' [n] float32, on the CPU."""
        return self.logits()[:, MATCH]

    def logits(self) -> Tensor:
        """Both logits [n, 2] float32, on the CPU: 'no match' and 'match'."""
        logits = torch.empty(self.texts, 2)
        for places, values in self.scored:
            logits[torch.from_numpy(places)] = values.wait()
        return logits


class Matcher:
    """`bank` holds the texts as the ITM encoder reads them, starting with [ENC]."""

    def __init__(
        self, encoder: PackedTextEncoder, itm_head: nn.Linear, bank: TextBank, batch_tokens: int, cache_bytes: int
    ) -> None:
        self.encoder = encoder
        self.head = fuse(itm_head)
        self.bank = bank
        self.batch_tokens = batch_tokens
        self.by_image = attention_usable(encoder.embeddings.word_embeddings.weight)
        self.states = self._all_first_layers(cache_bytes)

    def score(self, image_embeds: Tensor, texts: Indices) -> Tensor:
        """Logits of 'match' [n] float32, on the CPU, for one image's tokens [T, width] and n texts."""
        return self.submit(image_embeds[None], texts, np.zeros_like(texts)).result()

    def batches(self, lists: Iterable[tuple[Item, Indices]], image_tokens: int) -> Iterator[list[Item]]:
        """The items that should be submitted together, in order. The second of a pair are the texts of the item.

        Where the kernel runs, that is as many as the token budget holds, of texts and of images with `image_tokens`
        tokens each. Elsewhere one image at a time is faster.
        """
        most = max(1, self.batch_tokens // image_tokens) if self.by_image else 1
        batch: list[Item] = []
        tokens = 0
        for item, texts in lists:
            more = int(self.bank.lengths[texts].sum())
            if batch and (len(batch) == most or tokens + more > self.batch_tokens):
                yield batch
                batch, tokens = [], 0
            batch.append(item)
            tokens += more
        if batch:
            yield batch

    @torch.inference_mode()
    def submit(self, image_embeds: Tensor, texts: Indices, owner: Indices) -> Pending:
        """Score texts (indices into the bank) with images [m, T, width]: `texts[i]` with image `owner[i]`.

        Does not wait for a GPU: submit the next images before you read this result.
        """
        count, length = image_embeds.shape[:2]
        context: list[Context] | None = None
        if count == 1 and one_context_is_faster(image_embeds.device):
            context = self.encoder.image_context(image_embeds[0])
        else:
            keys_values = self.encoder.keys_values(image_embeds.flatten(0, 1))
        scored = []
        for chunk in self.bank.chunks(texts, self.batch_tokens, owner if self.by_image else None):
            if context is None:
                reading = (chunk.reading(owner[chunk.order], [length] * count, first) for first in (False, True))
                contexts = self.encoder.contexts(keys_values, *reading)
            hidden = self._first_layer(chunk) if self.states is None else self.states[chunk.tokens]
            logits = self.head(self.encoder.rest(hidden, chunk, context or contexts))
            scored.append((chunk.order, Fetch(logits.float())))
        return Pending(len(texts), scored)

    def _first_layer(self, chunk: Chunk) -> Tensor:
        return self.encoder.first_layer(self.bank.input_ids[chunk.tokens], chunk)

    def _all_first_layers(self, cache_bytes: int) -> Tensor | None:
        """All texts' states before the first cross-attention, [tokens of the bank, width], if they fit."""
        table = self.encoder.embeddings.word_embeddings.weight
        tokens = len(self.bank.input_ids)
        if tokens * table.shape[1] * table.element_size() > cache_bytes:
            return None
        states = torch.empty(tokens, table.shape[1], dtype=table.dtype, device=table.device)
        for chunk in self.bank.chunks(range(len(self.bank)), self.batch_tokens):
            states[chunk.tokens[: chunk.num_tokens]] = self._first_layer(chunk)[: chunk.num_tokens]
        return states
