"""Queries find what they would find alone with their own context."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from blipbench.inference.routing import Routing

HEADS, WIDTH = 2, 8


@pytest.mark.parametrize("owner", [[0, 1, 2, 3], [3, 0, 3, 3, 1], [2], []])
def test_each_query_reads_its_own_context(owner: list[int]) -> None:
    torch.manual_seed(0)
    groups = [(2, 3), (2, 5)]  # four contexts: two of three tokens, two of five
    lengths = [3, 3, 5, 5]
    key, value = torch.randn(2, 16, WIDTH)
    query = torch.randn(len(owner), WIDTH)
    routing = Routing(groups, np.array(owner, dtype=np.int64), torch.device("cpu"))
    found = routing.bind(key, value, HEADS).attend(query)
    keys, values = key.split(lengths), value.split(lengths)
    for row, context in enumerate(owner):
        q, k, v = (
            x.view(-1, HEADS, WIDTH // HEADS).transpose(0, 1) for x in (query[row], keys[context], values[context])
        )
        alone = F.scaled_dot_product_attention(q[None], k[None], v[None])[0].transpose(0, 1).flatten()
        torch.testing.assert_close(found[row], alone)
