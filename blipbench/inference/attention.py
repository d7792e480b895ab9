"""One rule for attention: each query reads the keys start .. end of one flat array.

    spans = Spans(queries, start, end, device)     which keys each query reads; made once for all layers
    spans.attend(query, key, value, num_heads)     [queries, width] and [keys, width] -> [queries, width]

The rule covers packed texts that attend to themselves, texts of which only the first token asks, and cross-attention to
images or questions. Keys are never padded, masked or repeated. On a GPU in half precision or tf32 it is one kernel
(kernels.py). Otherwise torch's attention is called for each run of neighbouring contexts of equal length.

On a CPU, `OneContext` is faster if many queries read the same keys.
"""

import dataclasses
import functools
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from blipbench.device import upload
from blipbench.inference import kernels
from blipbench.inference.linear import FastLinear, onednn_works

Indices = npt.NDArray[np.int64]
Context = Callable[[Tensor], Tensor]  # attention to certain keys and values: [queries, width] -> [queries, width]


@dataclasses.dataclass(frozen=True)
class _Run:
    """`count` neighbouring contexts of equal length, and the queries that read them.

    `rows` are the queries. If every context has equally many, in the order of the contexts, `slots` is None. Otherwise
    they are put into `slots` of [count * queries] padded queries.
    """

    count: int
    queries: int
    keys: slice
    rows: slice | Tensor
    slots: Tensor | None


@dataclasses.dataclass(eq=False)
class Spans:
    """The next `queries[i]` queries read keys start[i] .. end[i]: arrays [segments].

    Two spans are equal or have no key in common.
    """

    queries: Indices
    start: Indices
    end: Indices
    device: torch.device

    @classmethod
    def of_owner(cls, owner: Indices, queries: Indices, lengths: npt.ArrayLike, device: torch.device) -> "Spans":
        """Segment i reads all of context `owner[i]`. `lengths` are the contexts', which lie one after another."""
        length: Indices = np.asarray(lengths, dtype=np.int64)
        end = np.cumsum(length)
        start = end - length
        return cls(queries, start[owner], end[owner], device)

    @functools.cached_property
    def total(self) -> int:
        """The number of queries."""
        return int(self.queries.sum())

    def attend(self, query: Tensor, key: Tensor, value: Tensor, num_heads: int) -> Tensor:
        """`query` may have filler rows after the last span; their output is zero."""
        usable = kernels.attention_usable(query)
        if usable and self.total == len(query) and self._kernel_spans[0] is None:
            return kernels.attend(query, key, value, *self._kernel_spans[1:], num_heads)
        out = torch.empty(query.shape, dtype=query.dtype, device=query.device)
        out[self.total :] = 0
        if usable:
            order, spans, tiles = self._kernel_spans
            rows = slice(self.total) if order is None else order
            out[rows] = kernels.attend(query[rows], key, value, spans, tiles, num_heads)
            return out
        for run in self._runs:
            self._attend_run(run, query, key, value, num_heads, out)
        return out

    def context(self, key: Tensor, value: Tensor, num_heads: int) -> Context:
        return lambda query: self.attend(query, key, value, num_heads)

    def _attend_run(self, run: _Run, query: Tensor, key: Tensor, value: Tensor, num_heads: int, out: Tensor) -> None:
        asked = query[run.rows]
        if run.slots is not None:
            asked = query.new_zeros(run.count * run.queries, query.shape[1])
            asked[run.slots] = query[run.rows]
        q, k, v = (
            x.unflatten(0, (run.count, -1)).unflatten(-1, (num_heads, -1)).transpose(1, 2)
            for x in (asked, key[run.keys], value[run.keys])
        )  # [count, heads, tokens, head_dim]
        found = F.scaled_dot_product_attention(q, k, v).transpose(1, 2)  # [count, queries, heads, head_dim]
        if run.slots is None:
            out[run.rows].view(found.shape).copy_(found)
        else:
            out[run.rows] = found.reshape(asked.shape)[run.slots]

    @functools.cached_property
    def _runs(self) -> list[_Run]:
        contexts, context_of_segment = np.unique(self.start, return_inverse=True)
        start = contexts
        end = np.empty_like(start)
        end[context_of_segment] = self.end
        queries = np.zeros_like(start)
        np.add.at(queries, context_of_segment, self.queries)
        in_order = bool((np.diff(context_of_segment) >= 0).all())
        owner = np.repeat(context_of_segment, self.queries)
        order = np.arange(self.total) if in_order else np.argsort(owner, kind="stable")
        first = np.cumsum(queries) - queries
        place = np.arange(self.total) - np.repeat(first, queries)  # of each ordered query among its context's
        changes = (np.diff(end - start) != 0) | (start[1:] != end[:-1])
        runs = []
        for run in np.split(np.arange(len(start)), np.flatnonzero(changes) + 1):
            if len(run) == 0:
                continue
            most, part = int(queries[run].max()), slice(int(first[run[0]]), int(first[run[-1]] + queries[run[-1]]))
            keys = slice(int(start[run[0]]), int(end[run[-1]]))
            if in_order and (queries[run] == most).all():
                runs.append(_Run(len(run), most, keys, part, None))
                continue
            slots = (owner[order[part]] - run[0]) * most + place[part]
            runs.append(_Run(len(run), most, keys, upload(order[part], self.device), upload(slots, self.device)))
        return runs

    @functools.cached_property
    def _kernel_spans(self) -> tuple[Tensor | None, tuple[Tensor, Tensor], kernels.Tiles]:
        """The queries by ascending start, the start and end of each, and the tiles. None: they are so already."""
        by_start = np.argsort(self.start, kind="stable")
        counts = upload(self.queries[by_start], self.device)
        ends = (upload(x[by_start].astype(np.int32), self.device) for x in (self.start, self.end))
        start, end = (x.repeat_interleave(counts, output_size=self.total) for x in ends)
        order = None
        if (np.diff(by_start) != 1).any():
            first = np.cumsum(self.queries) - self.queries
            offset = upload(first[by_start], self.device).repeat_interleave(counts, output_size=self.total)
            before = (counts.cumsum(0) - counts).repeat_interleave(counts, output_size=self.total)
            order = offset + torch.arange(self.total, device=self.device) - before
        return order, (start, end), kernels.Tiles.of(start, end, len(np.unique(self.start)))


class OneContext:
    """One context's keys and values [T, width] in one layer, prepared for many queries on a CPU.

    Torch's CPU flash kernel has a third of oneDNN's rate, so two products and a softmax per head are faster.
    """

    def __init__(self, key: Tensor, value: Tensor, num_heads: int) -> None:
        head_dim = key.shape[1] // num_heads
        scaled = (key * head_dim**-0.5).unflatten(1, (num_heads, head_dim)).transpose(0, 1)  # [heads, T, head_dim]
        turned = value.unflatten(1, (num_heads, head_dim)).permute(1, 2, 0)  # [heads, head_dim, T]
        self.score = [FastLinear(k.contiguous(), None) for k in scaled]
        self.mix = [FastLinear(v.contiguous(), None) for v in turned]

    def __call__(self, query: Tensor) -> Tensor:
        """query [tokens, width] -> [tokens, width]."""
        heads = zip(query.chunk(len(self.score), dim=1), self.score, self.mix, strict=True)
        return torch.cat([mix(score(q).softmax(-1)) for q, score, mix in heads], dim=1)


def one_context_is_faster(device: torch.device) -> bool:
    return device.type == "cpu" and onednn_works()
