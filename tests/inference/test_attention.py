"""Queries find what they would find alone with their own keys: by torch's attention or, under TRITON_INTERPRET=1, by
the kernel in Triton's interpreter.
"""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings, strategies as st
from torch import Tensor

from blipbench.inference.attention import OneContext, Spans, one_context_is_faster

CPU = torch.device("cpu")
HEADS, WIDTH = 2, 8
TOLERANCES = {
    torch.float32: {"rtol": 1.3e-6, "atol": 1e-5},
    torch.float16: {"rtol": 1e-3, "atol": 2e-3},
    torch.bfloat16: {"rtol": 1e-2, "atol": 2e-2},
}


def alone(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """[queries, width] over [keys, width] -> [queries, width], in float32."""
    q, k, v = (x.float().unflatten(-1, (HEADS, -1)).transpose(0, 1) for x in (query, key, value))
    return F.scaled_dot_product_attention(q[None], k[None], v[None])[0].transpose(0, 1).flatten(1)


def check(
    owner: list[int], queries: list[int], lengths: list[int], filler: int = 0, dtype: torch.dtype = torch.float32
) -> None:
    torch.manual_seed(0)
    query = torch.randn(sum(queries) + filler, WIDTH).to(dtype)
    key, value = torch.randn(sum(lengths), 2 * WIDTH).to(dtype).chunk(2, dim=1)  # strided, as parts of a product are
    spans = Spans.of_owner(np.array(owner, np.int64), np.array(queries, np.int64), lengths, CPU)
    found = spans.attend(query, key, value, HEADS)
    keys, values = key.split(lengths), value.split(lengths)
    parts = [*queries, filler]
    for some, out, context in zip(query.split(parts), found.split(parts), owner, strict=False):
        expected = alone(some, keys[context], values[context])
        torch.testing.assert_close(out, expected.to(dtype), **TOLERANCES[dtype])
    assert (found[sum(queries) :] == 0).all()


@pytest.mark.parametrize("owner", [[0, 1, 2, 3], [3, 0, 3, 3, 1], [2], []])
def test_each_query_reads_its_own_context(owner: list[int]) -> None:
    check(owner, [1] * len(owner), [3, 3, 5, 5])


def test_texts_read_themselves_and_filler_reads_nothing() -> None:
    check([0, 1, 2, 3], [1, 2, 2, 5], [1, 2, 2, 5], filler=3)


def test_the_first_token_of_each_text_reads_its_text() -> None:
    check([0, 1, 2], [1, 1, 1], [4, 4, 7])


def test_a_context_longer_than_a_tile_of_the_kernel() -> None:
    check([1, 0, 1], [70, 3, 1], [65, 130])


def test_many_queries_of_each_context() -> None:
    check([0, 1], [200, 130], [300, 70])


@pytest.mark.parametrize("dtype", list(TOLERANCES))
@settings(deadline=None, max_examples=30)
@given(data=st.data())
def test_any_queries_and_contexts(dtype: torch.dtype, data: st.DataObject) -> None:
    lengths = data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=6))
    owner = data.draw(st.lists(st.integers(0, len(lengths) - 1), max_size=8))
    queries = data.draw(st.lists(st.integers(1, 6), min_size=len(owner), max_size=len(owner)))
    check(owner, queries, lengths, data.draw(st.integers(0, 3)), dtype)


@pytest.mark.skipif(not one_context_is_faster(CPU), reason="requires oneDNN")
def test_a_prepared_context_gives_the_same() -> None:
    torch.manual_seed(0)
    query, key, value = torch.randn(7, WIDTH), torch.randn(5, WIDTH), torch.randn(5, WIDTH)
    torch.testing.assert_close(OneContext(key, value, HEADS)(query), alone(query, key, value))
