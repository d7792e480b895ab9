"""Cross-attention of a batch whose queries read different contexts: questions their images, answers their questions.

    routing = Routing(groups, owner, device)     which context each query reads; made once for all layers
    context = routing.bind(key, value, heads)    one layer's keys and values
    context.attend(query)                        [queries, width] -> [queries, width]

Contexts of equal length share one call, so no key is padded and no mask is needed; only queries are laid out in a
rectangle of as many as the busiest context of the group has.
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
    """`count` contexts of `length` tokens, from token `start` on; each is read by at most `busiest` queries."""

    start: int
    count: int
    length: int
    busiest: int
    queries: Tensor  # [asked] which queries read a context of the group
    seats: Tensor  # [asked] their places in the rectangle [count * busiest]


class Routing:
    def __init__(self, groups: Sequence[tuple[int, int]], owner: Indices, device: torch.device) -> None:
        """`groups` [(contexts, length)] in the order in which the contexts lie; `owner` [queries] numbers contexts."""
        self.groups: list[_Group] = []
        order = np.argsort(owner, kind="stable")
        asked = np.bincount(owner, minlength=sum(count for count, _ in groups))
        place = np.arange(len(owner)) - np.repeat(np.cumsum(asked) - asked, asked)  # among its context's queries
        context = start = done = 0
        for count, length in groups:
            mine = asked[context : context + count]
            busiest, total = int(mine.max()), int(mine.sum())
            part = slice(done, done + total)
            seats = (owner[order[part]] - context) * busiest + place[part]
            queries = torch.from_numpy(order[part]).to(device, non_blocking=True)
            if total:
                on_device = torch.from_numpy(seats).to(device, non_blocking=True)
                self.groups.append(_Group(start, count, length, busiest, queries, on_device))
            context, start, done = context + count, start + count * length, done + total

    def bind(self, key: Tensor, value: Tensor, num_heads: int) -> "RoutedContext":
        """key, value [tokens of all contexts, width]."""
        return RoutedContext(self.groups, key, value, num_heads)


class RoutedContext:
    """One layer's keys and values of all contexts of a batch."""

    def __init__(self, groups: list[_Group], key: Tensor, value: Tensor, num_heads: int) -> None:
        self.groups = groups
        self.key, self.value = key, value
        self.num_heads = num_heads

    def attend(self, query: Tensor) -> Tensor:
        """[queries, width] -> [queries, width], each over its own context; rows after the owners' are filler."""
        out = torch.zeros_like(query)  # a filler row has no owner and finds nothing
        for group in self.groups:
            tokens = slice(group.start, group.start + group.count * group.length)
            seated = query.new_zeros(group.count * group.busiest, query.shape[1])
            seated[group.seats] = query[group.queries]
            attended = F.scaled_dot_product_attention(
                self._heads(seated, group.count),
                self._heads(self.key[tokens], group.count),
                self._heads(self.value[tokens], group.count),
            )  # [count, heads, busiest, head_dim]
            out[group.queries] = attended.transpose(1, 2).reshape(seated.shape)[group.seats]
        return out

    def _heads(self, x: Tensor, count: int) -> Tensor:
        """[count * tokens, width] -> [count, heads, tokens, head_dim]."""
        return x.unflatten(0, (count, -1)).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
