"""ITM scoring: one image with many texts (the expensive part of retrieval), or many images with few texts each.

    matcher = Matcher(encoder, itm_head, bank, batch_tokens, cache_bytes)
    logits = matcher.score(image_embeds, texts)      # [T, width], indices into the bank -> logits of 'match' [n]
    pending = matcher.submit_own(image_embeds, owner)    # [m, T, width], the image of each text -> both logits

The image's keys and values are projected once per layer and shared by the texts. The states before the first
cross-attention are computed once per text and kept if they fit into `cache_bytes`.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from blipbench.inference.linear import fuse
from blipbench.inference.packing import Chunk, Indices, TextBank
from blipbench.inference.routing import Routing
from blipbench.inference.text import Context, PackedTextEncoder

MATCH = 1  # index of 'match' in the ITM head's two logits


@dataclasses.dataclass(frozen=True)
class Pending:
    """Scores that a GPU may still be computing; `result` and `logits` wait for them."""

    texts: int
    scored: list[tuple[Chunk, Tensor]]

    def result(self) -> Tensor:
        """Logits of 'match' [n] float32, on the CPU."""
        return self.logits()[:, MATCH]

    def logits(self) -> Tensor:
        """Both logits [n, 2] float32, on the CPU: 'no match' and 'match'."""
        logits = torch.empty(self.texts, 2)
        for chunk, values in self.scored:
            logits[torch.from_numpy(chunk.order)] = values.float().cpu()
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
        self.states = self._all_first_layers(cache_bytes)

    def score(self, image_embeds: Tensor, texts: Indices) -> Tensor:
        """Logits of 'match' [n] float32, on the CPU, for one image's tokens [T, width] and n texts."""
        return self.submit(image_embeds, texts).result()

    @torch.inference_mode()
    def submit(self, image_embeds: Tensor, texts: Indices) -> Pending:
        """The same as `score`, without waiting for the GPU: submit the next image before you read this result."""
        context = self.encoder.image_context(image_embeds)
        chunks = self.bank.chunks(texts, self.batch_tokens)
        return Pending(len(texts), [(chunk, self._score_chunk(chunk, context)) for chunk in chunks])

    @torch.inference_mode()
    def submit_own(self, image_embeds: Tensor, owner: Indices) -> Pending:
        """Score each text of the bank with its own image only.

        image_embeds: [m, T, width]. Text i belongs to image `owner[i]`. For few texts per image this is faster than
        `submit`, whose preparation of each image would cost too much.
        """
        images = [(len(image_embeds), image_embeds.shape[1])]
        keys_values = self.encoder.keys_values(image_embeds.flatten(0, 1))  # per layer [m * T, width]
        scored = []
        for chunk in self.bank.chunks(range(len(self.bank)), self.batch_tokens):
            of_text = owner[chunk.texts]
            of_token = np.repeat(of_text, self.bank.lengths[chunk.texts])
            tokens, texts = (Routing(images, of, image_embeds.device) for of in (of_token, of_text))
            routings = [*[tokens] * (len(keys_values) - 1), texts]  # the last layer needs only first tokens
            bound = zip(routings, keys_values, strict=True)
            context = [routing.bind(key, value, self.encoder.num_heads) for routing, (key, value) in bound]
            scored.append((chunk, self._score_chunk(chunk, context)))
        return Pending(len(self.bank), scored)

    def _score_chunk(self, chunk: Chunk, context: Sequence[Context]) -> Tensor:
        hidden = self._first_layer(chunk) if self.states is None else self.states[chunk.tokens]
        return self.head(self.encoder.rest(hidden, chunk, context))

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
