"""Texts laid end to end in chunks of a token budget."""

import numpy as np
import pytest
import torch

from blipbench.inference.packing import TextBank

TEXTS = [[1, 2, 3], [4], [5, 6], [7, 8, 9], [10, 11]]


def test_a_chunk_lays_texts_of_equal_length_side_by_side() -> None:
    bank = TextBank(TEXTS)
    (chunk,) = bank.chunks([0, 1, 2, 3, 4], token_budget=100)
    assert chunk.groups == [(1, 1), (2, 2), (2, 3)]
    tokens, texts = chunk.num_tokens, len(chunk.texts)
    assert bank.input_ids[chunk.tokens][:tokens].tolist() == [4, 5, 6, 10, 11, 1, 2, 3, 7, 8, 9]
    assert chunk.positions[:tokens].tolist() == [0, 0, 1, 0, 1, 0, 1, 2, 0, 1, 2]
    assert bank.input_ids[chunk.tokens][chunk.first][:texts].tolist() == [4, 5, 10, 1, 7]


def test_chunks_of_any_number_of_tokens_have_few_sizes() -> None:
    bank = TextBank([[1, 2, 3]] * 500)
    chunks = [next(bank.chunks(np.arange(texts), token_budget=2000)) for texts in range(1, 500)]
    assert all(len(chunk.tokens) >= chunk.num_tokens for chunk in chunks)
    assert len({len(chunk.tokens) for chunk in chunks}) < 60


@pytest.mark.parametrize("budget", [1, 3, 4, 7, 100])
def test_chunks_cover_what_was_asked_once_and_keep_to_the_budget(budget: int) -> None:
    bank = TextBank(TEXTS)
    asked = np.array([3, 0, 4, 1])
    chunks = list(bank.chunks(asked, budget))
    assert sorted(np.concatenate([chunk.order for chunk in chunks]).tolist()) == [0, 1, 2, 3]
    for chunk in chunks:
        assert np.array_equal(asked[chunk.order], chunk.texts)
        assert chunk.num_tokens <= budget or len(chunk.texts) == 1


def test_no_texts_make_no_chunks() -> None:
    assert list(TextBank(TEXTS).chunks([], 8)) == []
    assert len(TextBank([])) == 0 and torch.equal(TextBank([]).input_ids, torch.empty(0, dtype=torch.int64))
