"""Texts without padding: one flat array of token ids, split into chunks by a token budget, grouped by exact length.

On a CPU, a chunk ends with a few filler rows that belong to no text, so that product sizes recur (see linear.py).
"""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from blipbench.inference.linear import recurring_rows

Indices = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class Chunk:
    """n texts sorted by length and concatenated, S tokens in total. With filler rows, n becomes n' and S becomes S'."""

    texts: Indices  # [n] indices of the texts in the bank
    order: Indices  # [n] their places in the requested indices
    tokens: Tensor  # [S'] index of each token in the bank
    positions: Tensor  # [S'] each token's position in its text
    first: Tensor  # [n'] start of each text in the chunk
    groups: list[tuple[int, int]]  # (texts, length), in order

    @property
    def num_tokens(self) -> int:
        """S, without filler."""
        return sum(count * length for count, length in self.groups)


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

    def chunks(self, indices: npt.ArrayLike, token_budget: int) -> Iterator[Chunk]:
        """Split `indices` into chunks of about equal size. Only a chunk of one text may exceed the budget."""
        asked = np.asarray(indices, dtype=np.int64)
        order = np.argsort(self.lengths[asked], kind="stable")
        ends = np.cumsum(self.lengths[asked[order]])
        if len(asked) == 0:
            return
        longest = int(self.lengths[asked].max())
        room = max(1, token_budget - longest + 1)  # a text may begin before the token range of its chunk
        share = -(-int(ends[-1]) // -(-int(ends[-1]) // room))
        for part in np.split(order, np.flatnonzero(np.diff((ends - 1) // share)) + 1):
            yield self._chunk(asked[part], part)

    def whole(self) -> Chunk:
        """All texts in one chunk."""
        order = np.argsort(self.lengths, kind="stable")
        return self._chunk(order, order)

    def _chunk(self, texts: Indices, order: Indices) -> Chunk:
        lengths = self.lengths[texts]
        first = np.cumsum(lengths) - lengths
        positions = np.arange(int(lengths.sum())) - np.repeat(first, lengths)
        tokens = np.repeat(self.starts[texts], lengths) + positions
        values, counts = np.unique(lengths, return_counts=True)

        def tensor(x: Indices) -> Tensor:
            filled = np.resize(x, recurring_rows(len(x), self.device))
            return torch.from_numpy(filled).to(self.device, non_blocking=True)

        groups = list(zip(counts.tolist(), values.tolist(), strict=True))
        return Chunk(texts, order, tensor(tokens), tensor(positions), tensor(first), groups)


def pad(input_ids: Sequence[Sequence[int]], pad_id: int, length: int | None = None) -> tuple[Tensor, Tensor]:
    """Returns ids [n, longest], or [n, length], padded with `pad_id`, and the mask: 1 for tokens, 0 for padding."""
    longest = length or max(len(ids) for ids in input_ids)
    ids = torch.full((len(input_ids), longest), pad_id)
    for row, text in zip(ids, input_ids, strict=True):
        row[: len(text)] = torch.tensor(text)
    lengths = torch.tensor([len(text) for text in input_ids])
    return ids, (torch.arange(longest) < lengths[:, None]).long()
