"""Texts without padding: one flat array of token ids, split into chunks by a token budget.

On a CPU, a chunk ends with a few filler rows that belong to no text, so that product sizes recur (see linear.py).
"""

import dataclasses
import functools
import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from blipbench.device import upload
from blipbench.inference.attention import Indices, Spans
from blipbench.inference.linear import recurring_rows


@dataclasses.dataclass(frozen=True)
class Chunk:
    """n texts laid end to end, S tokens in total. With filler rows, n becomes n' and S becomes S'."""

    texts: Indices  # [n] indices of the texts in the bank
    order: Indices  # [n] their places in the requested indices
    lengths: Indices  # [n]
    tokens: Tensor  # [S'] index of each token in the bank
    positions: Tensor  # [S'] each token's position in its text
    first: Tensor  # [n'] start of each text in the chunk

    @property
    def num_tokens(self) -> int:
        """S, without filler."""
        return int(self.lengths.sum())

    @property
    def groups(self) -> list[tuple[int, int]]:
        """(texts, length) of neighbouring texts of equal length, in order."""
        bounds = [0, *(np.flatnonzero(np.diff(self.lengths)) + 1).tolist(), len(self.lengths)]
        return [(end - start, int(self.lengths[start])) for start, end in itertools.pairwise(bounds)]

    @functools.cached_property
    def every_token(self) -> Spans:
        """Every token reads its text."""
        return self.reading(np.arange(len(self.texts)), self.lengths, first_only=False)

    @functools.cached_property
    def first_tokens(self) -> Spans:
        """The first token of each text reads its text."""
        return self.reading(np.arange(len(self.texts)), self.lengths, first_only=True)

    def reading(self, owner: Indices, lengths: npt.ArrayLike, first_only: bool) -> Spans:
        """The tokens of each text, or its first one, read context `owner[text]`. `lengths` are the contexts'."""
        queries = np.ones_like(self.lengths) if first_only else self.lengths
        return Spans.of_owner(owner, queries, lengths, self.tokens.device)


class TextBank:
    """All texts of a data set as token ids, including the special tokens."""

    def __init__(self, input_ids: Sequence[Sequence[int]], device: torch.device | str = "cpu") -> None:
        self.lengths: Indices = np.array([len(ids) for ids in input_ids], dtype=np.int64)
        self.starts: Indices = np.concatenate([[0], np.cumsum(self.lengths)])
        flat = np.concatenate([np.asarray(ids, dtype=np.int64) for ids in input_ids] or [np.empty(0, np.int64)])
        self.device = torch.device(device)
        self.input_ids = torch.from_numpy(flat).to(self.device)

    def __len__(self) -> int:
        return len(self.lengths)

    def chunks(self, indices: npt.ArrayLike, token_budget: int, owner: Indices | None = None) -> Iterator[Chunk]:
        """Split `indices` into chunks of about equal size. Only a chunk of one text may exceed the budget.

        Texts are sorted by length, or by their `owner` first, so that texts of one owner are neighbours.
        """
        asked = np.asarray(indices, dtype=np.int64)
        if len(asked) == 0:
            return
        lengths = self.lengths[asked]
        order = np.lexsort((lengths,) if owner is None else (lengths, owner))
        ends = np.cumsum(lengths[order])
        room = max(1, token_budget - int(lengths.max()) + 1)  # a text may begin before the token range of its chunk
        share = -(-int(ends[-1]) // -(-int(ends[-1]) // room))
        for part in np.split(order, np.flatnonzero(np.diff((ends - 1) // share)) + 1):
            yield self._chunk(asked[part], part)

    def whole(self) -> Chunk:
        """All texts in one chunk."""
        order = np.argsort(self.lengths, kind="stable")
        return self._chunk(order, order)

    def _chunk(self, texts: Indices, order: Indices) -> Chunk:
        lengths = self.lengths[texts]
        total = int(lengths.sum())
        length, start = upload(lengths, self.device), upload(self.starts[texts], self.device)
        first = length.cumsum(0) - length  # [n]
        text_of = torch.arange(len(texts), device=self.device).repeat_interleave(length, output_size=total)
        positions = torch.arange(total, device=self.device) - first[text_of]
        tokens, positions, first = (self._filled(x) for x in (start[text_of] + positions, positions, first))
        return Chunk(texts, order, lengths, tokens, positions, first)

    def _filled(self, x: Tensor) -> Tensor:
        """With the rows that a product on this device should have; the first ones again."""
        rows = recurring_rows(len(x), self.device)
        return x if rows == len(x) else x.repeat(-(-rows // len(x)))[:rows]


def pad(input_ids: Sequence[Sequence[int]], pad_id: int, length: int | None = None) -> tuple[Tensor, Tensor]:
    """Returns ids [n, longest], or [n, length], padded with `pad_id`, and the mask: 1 for tokens, 0 for padding."""
    longest = length or max(len(ids) for ids in input_ids)
    ids = torch.full((len(input_ids), longest), pad_id)
    for row, text in zip(ids, input_ids, strict=True):
        row[: len(text)] = torch.tensor(text)
    lengths = torch.tensor([len(text) for text in input_ids])
    return ids, (torch.arange(longest) < lengths[:, None]).long()
