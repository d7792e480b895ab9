"""Cross-attention for a batch whose queries read different contexts, e.g. questions about several images.

    routing = Routing(groups, owner, device)     which context each query reads; made once for all layers
    context = routing.bind(key, value, heads)    one layer's keys and values
    context.attend(query)                        [queries, width] -> [queries, width]

Contexts of equal length share one call, so keys need no padding and no mask. Only the queries are padded: every context
of a group gets as many query slots as the context with the most queries needs.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from blipbench.inference.packing import Indices


@dataclasses.dataclass(frozen=True)
class _Group:
    """`count` contexts of `length` tokens, starting at token `start`, with at most `max_queries` queries each."""

    start: int
    count: int
    length: int
    max_queries: int
    queries: Tensor  # [n] the queries that read a context of the group
    slots: Tensor  # [n] their places among the padded queries [count * max_queries]


class Routing:
    def __init__(self, groups: Sequence[tuple[int, int]], owner: Indices, device: torch.device) -> None:
        """groups: [(contexts, length)] in the order of the contexts. owner: [queries], the context of each query."""
        self.groups: list[_Group] = []
        order = np.argsort(owner, kind="stable")
        counts = np.bincount(owner, minlength=sum(count for count, _ in groups))  # queries per context
        place = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)  # among its context's queries
        context = start = done = 0
        for count, length in groups:
            in_group = counts[context : context + count]
            max_queries, total = int(in_group.max()), int(in_group.sum())
            part = slice(done, done + total)
            slots = (owner[order[part]] - context) * max_queries + place[part]
            queries = torch.from_numpy(order[part]).to(device, non_blocking=True)
            if total:
                on_device = torch.from_numpy(slots).to(device, non_blocking=True)
                self.groups.append(_Group(start, count, length, max_queries, queries, on_device))
            context, start, done = context + count, start + count * length, done + total

    def bind(self, key: Tensor, value: Tensor, num_heads: int) -> "RoutedContext":
        """key, value: [tokens of all contexts, width]."""
        return RoutedContext(self.groups, key, value, num_heads)


class RoutedContext:
    """One layer's keys and values of all contexts of a batch."""

    def __init__(self, groups: list[_Group], key: Tensor, value: Tensor, num_heads: int) -> None:
        self.groups = groups
        self.key, self.value = key, value
        self.num_heads = num_heads

    def attend(self, query: Tensor) -> Tensor:
        """[queries, width] -> [queries, width]. Each query reads its context; rows after `owner`'s are filler."""
        out = torch.zeros_like(query)  # filler rows read no context and stay zero
        for group in self.groups:
            tokens = slice(group.start, group.start + group.count * group.length)
            padded = query.new_zeros(group.count * group.max_queries, query.shape[1])
            padded[group.slots] = query[group.queries]
            attended = F.scaled_dot_product_attention(
                self._heads(padded, group.count),
                self._heads(self.key[tokens], group.count),
                self._heads(self.value[tokens], group.count),
            )  # [count, heads, max_queries, head_dim]
            out[group.queries] = attended.transpose(1, 2).reshape(padded.shape)[group.slots]
        return out

    def _heads(self, x: Tensor, count: int) -> Tensor:
        """[count * tokens, width] -> [count, heads, tokens, head_dim]."""
        return x.unflatten(0, (count, -1)).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
