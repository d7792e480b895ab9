"""Self-attention and cross-attention for ITM scoring, without padding, masks or expanded copies.

Self-attention runs once per group of texts of equal length. In cross-attention the tokens of *all* texts are one set of
queries over one image's keys and values.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from blipbench.inference.linear import FastLinear, onednn_works


def grouped_self_attention(
    query: Tensor, key: Tensor, value: Tensor, groups: list[tuple[int, int]], num_heads: int, first_only: bool
) -> Tensor:
    """Each text attends to itself. key, value: [tokens, width]. groups: [(texts, length)] in the order of the tokens.

    `query` is [tokens, width], or [texts, width] with `first_only`: one query per text, its first token. The output is
    zero for filler rows after the last group.
    """
    head_dim = query.shape[-1] // num_heads
    out = torch.empty_like(query)
    q0 = k0 = 0
    for count, length in groups:
        asked = 1 if first_only else length
        q = query[q0 : q0 + count * asked].view(count, asked, num_heads, head_dim).transpose(1, 2)
        k = key[k0 : k0 + count * length].view(count, length, num_heads, head_dim).transpose(1, 2)
        v = value[k0 : k0 + count * length].view(count, length, num_heads, head_dim).transpose(1, 2)
        attended = F.scaled_dot_product_attention(q, k, v)  # [count, heads, asked, head_dim]
        out[q0 : q0 + count * asked].view(count, asked, num_heads, head_dim).copy_(attended.transpose(1, 2))
        q0 += count * asked
        k0 += count * length
    out[q0:] = 0
    return out


class SharedContext:
    """One image's keys and values [T, width] in one layer, shared by any number of queries."""

    def __init__(self, key: Tensor, value: Tensor, num_heads: int) -> None:
        self.num_heads = num_heads
        self.head_dim = key.shape[1] // num_heads
        self.per_head = key.device.type == "cpu" and onednn_works()
        self.key = key.view(-1, num_heads, self.head_dim).transpose(0, 1)  # [heads, T, head_dim]
        self.value = value.view(-1, num_heads, self.head_dim).transpose(0, 1)
        if self.per_head:
            # Torch's CPU flash kernel has a third of oneDNN's rate, so two products and a softmax per head are faster.
            scaled = (self.key * self.head_dim**-0.5).contiguous()
            turned = self.value.transpose(1, 2).contiguous()  # [heads, head_dim, T]
            self.score = [FastLinear(k, None) for k in scaled]
            self.mix = [FastLinear(v, None) for v in turned]

    def attend(self, query: Tensor) -> Tensor:
        """query [tokens, width] -> [tokens, width]."""
        tokens = query.shape[0]
        if not self.per_head:
            q = query.view(tokens, self.num_heads, self.head_dim).transpose(0, 1)
            attended = F.scaled_dot_product_attention(q[None], self.key[None], self.value[None])[0]
            return attended.transpose(0, 1).reshape(tokens, -1)
        out = torch.empty_like(query)
        for head in range(self.num_heads):
            span = slice(head * self.head_dim, (head + 1) * self.head_dim)
            probabilities = self.score[head](query[:, span]).softmax(-1)  # [tokens, T]
            out[:, span] = self.mix[head](probabilities)
        return out
