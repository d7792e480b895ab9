"""Candidates and ranks by ITC similarity, streamed in blocks."""

import numpy as np
import pytest
import torch

from blipbench.inference import similarity
from blipbench.inference.similarity import best_rank, rank_of, top_candidates


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(similarity, "BLOCK_BYTES", 4 * 50 * 3)  # three queries of fifty keys at a time


def unit_vectors(count: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(count, 8, generator=generator), dim=-1)


@pytest.mark.usefixtures("small_blocks")
def test_candidates_are_the_k_most_similar_whatever_the_blocks() -> None:
    queries, keys = unit_vectors(10, 0), unit_vectors(50, 1)
    order = (queries @ keys.T).argsort(dim=1, descending=True)[:, :7]
    assert np.array_equal(top_candidates(queries, keys, 7), order.sort(dim=1).values.numpy())


def test_k_larger_than_the_collection_means_all_of_it() -> None:
    assert top_candidates(unit_vectors(2, 0), unit_vectors(3, 1), 256).tolist() == [[0, 1, 2], [0, 1, 2]]


def test_equal_similarities_go_to_the_lower_index() -> None:
    keys = torch.tensor([[0.0, 1.0], [1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    assert top_candidates(torch.tensor([[1.0, 0.0]]), keys, 2).tolist() == [[1, 2]]


def test_rank_counts_what_is_more_similar_and_at_a_tie_what_comes_first() -> None:
    keys = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.6, 0.8], [0.0, 1.0]])
    queries = torch.tensor([[1.0, 0.0]] * 4)
    assert rank_of(queries, keys, np.arange(4)).tolist() == [0, 1, 2, 3]


@pytest.mark.usefixtures("small_blocks")
def test_ranks_do_not_depend_on_the_blocks() -> None:
    queries, keys = unit_vectors(10, 0), unit_vectors(50, 1)
    targets = np.arange(10) * 3
    similarities = queries @ keys.T
    own = similarities.gather(1, torch.from_numpy(targets)[:, None])
    assert np.array_equal(rank_of(queries, keys, targets), (similarities > own).sum(1).numpy())


@pytest.mark.usefixtures("small_blocks")
def test_the_best_rank_is_the_smallest_rank_of_the_keys_that_a_query_owns() -> None:
    queries, keys = unit_vectors(10, 0), unit_vectors(50, 1)
    keys[20:30] = keys[:10]  # ties
    owner = np.random.default_rng(0).integers(0, 9, 50)
    owner[:9] = np.arange(9)
    each = rank_of(queries[torch.from_numpy(owner)], keys, np.arange(50))
    expected = [each[owner == query].min() for query in range(9)]
    assert best_rank(queries, keys, owner).tolist() == [*expected, np.iinfo(np.int64).max]
