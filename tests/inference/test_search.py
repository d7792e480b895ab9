"""The rules of the searches, on a language model small enough to work out by hand."""

import dataclasses
import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from blipbench.inference import search
from blipbench.inference.beams import beam_search
from blipbench.inference.search import Hypothesis, Method, SearchSettings, adjust, compact, nucleus, token_search

DEC, SEP, A, B, C, D = range(6)


@dataclasses.dataclass
class Table:
    """A language model in which the last token alone decides the next, the same for each of `contexts`."""

    following: dict[int, dict[int, float]]  # token -> probability of each token after it
    contexts: int = 1
    asked: list[int] = dataclasses.field(default_factory=list)  # contexts at each step

    def start(self, prompt_ids: Sequence[int]) -> Tensor:
        self.asked.append(self.contexts)
        return self._logits([prompt_ids[-1]] * self.contexts)

    def step(self, tokens: Tensor, parents: Tensor, contexts: Sequence[int]) -> Tensor:
        self.asked.append(len(contexts))
        return self._logits(tokens.tolist())

    def _logits(self, tokens: Sequence[int]) -> Tensor:
        logits = torch.full((len(tokens), 6), -30.0)
        for row, token in zip(logits, tokens, strict=True):
            for after, probability in self.following[token].items():
                row[after] = math.log(probability)
        return logits


# Short: A [SEP], 0.7 * 0.5 = 0.35. Long: B C D [SEP], 0.3 * 1 * 1 * 0.9 = 0.27, or B C D C D ... on and on.
STORY = {
    DEC: {A: 0.7, B: 0.3},
    A: {SEP: 0.5, A: 0.5},
    B: {C: 1.0},
    C: {D: 1.0},
    D: {SEP: 0.9, C: 0.1},
}


def texts(settings: SearchSettings) -> list[int]:
    (found,) = beam_search(Table(STORY), [DEC], settings, SEP)
    return found.ids


def test_without_a_length_penalty_the_likeliest_text_wins() -> None:
    assert texts(SearchSettings(num_beams=2, max_length=6, min_length=1, length_penalty=0.0)) == [DEC, A, SEP]


def test_with_one_the_log_probability_per_token_decides() -> None:
    """log 0.35 / 2 = -0.52 against log 0.27 / 4 = -0.33, [DEC] counted and [SEP] not."""
    assert texts(SearchSettings(num_beams=2, max_length=6, min_length=1, length_penalty=1.0)) == [DEC, B, C, D, SEP]


def test_the_length_rules_differ_by_the_prompt() -> None:
    """By whole length log 0.35 / 21 = -0.050 wins over log 0.27 / 23 = -0.057, by the generated part, where [SEP]
    counts, log 0.27 / 4 = -0.33 over log 0.35 / 2 = -0.52."""
    long_prompt, settings = [DEC] * 20, SearchSettings(num_beams=2, max_length=25, min_length=1)
    (whole,) = beam_search(Table(STORY), long_prompt, settings, SEP)
    (generated,) = beam_search(Table(STORY), long_prompt, dataclasses.replace(settings, length_rule="generated"), SEP)
    assert (whole.ids[20:], generated.ids[20:]) == ([A, SEP], [B, C, D, SEP])


def test_the_score_is_the_sum_over_the_length_and_the_log_probability_the_sum() -> None:
    settings = SearchSettings(num_beams=2, max_length=6, min_length=1, length_penalty=1.0)
    (found,) = beam_search(Table(STORY), [DEC], settings, SEP)
    assert found.log_prob == pytest.approx(math.log(0.27), rel=1e-5)
    assert found.score == pytest.approx(math.log(0.27) / 4, rel=1e-5)


def test_a_text_is_cut_without_sep_at_the_longest_length() -> None:
    assert texts(SearchSettings(num_beams=2, max_length=3, min_length=3, length_penalty=1.0)) == [DEC, A, A]


def test_no_text_ends_before_the_shortest_length() -> None:
    """[DEC] counts, [SEP] does not: at least two words."""
    found = texts(SearchSettings(num_beams=2, max_length=6, min_length=3, length_penalty=0.0))
    assert found.index(SEP) >= 3


def test_greedy_search_takes_the_likeliest_token_at_each_step() -> None:
    settings = SearchSettings(method="greedy", max_length=6, min_length=3)
    (found,) = token_search(Table(STORY), [DEC], settings, SEP, [0])
    assert found.ids == [DEC, A, A, SEP]
    assert found.log_prob == pytest.approx(math.log(0.7 * 0.5 * 0.5), rel=1e-5)


def test_sampling_draws_by_the_probabilities() -> None:
    settings = SearchSettings(method="nucleus", max_length=2, min_length=1, top_p=1.0)
    found = token_search(Table(STORY, contexts=2000), [DEC], settings, SEP, range(2000))
    assert sum(hypothesis.ids[1] == A for hypothesis in found) / 2000 == pytest.approx(0.7, abs=0.04)


def test_contexts_that_are_finished_leave_the_batch() -> None:
    settings = SearchSettings(method="nucleus", max_length=20, min_length=1, top_p=1.0)
    table = Table(STORY, contexts=200)
    token_search(table, [DEC], settings, SEP, range(200))
    assert table.asked[:2] == [200, 200]
    assert all(later <= earlier for earlier, later in zip(table.asked, table.asked[1:], strict=False))
    assert table.asked[-1] < 50


@pytest.mark.parametrize("method", ["beam", "greedy", "nucleus"])
def test_texts_do_not_change_after_their_end_although_their_context_leaves_late(
    method: Method, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU, where the batch learns one step later which contexts are done."""
    settings = SearchSettings(method=method, num_beams=2, max_length=20, min_length=1, top_p=1.0)

    def found() -> list[Hypothesis]:
        table = Table(STORY, contexts=50)
        if method == "beam":
            return beam_search(table, [DEC], settings, SEP)
        return token_search(table, [DEC], settings, SEP, range(50))

    at_once = found()
    monkeypatch.setattr(search, "steps_late", lambda device: 1)
    assert found() == at_once


def test_repetitions_are_penalised_by_sign_and_before_the_shortest_length() -> None:
    scores = torch.tensor([[2.0, -1.0, -2.0, 3.0, 0.0, 1.0]])
    settings = SearchSettings(repetition_penalty=2.0, min_length=3)
    adjusted = adjust(scores, torch.tensor([[0, 2]]), settings, SEP)
    assert adjusted.tolist() == [[1.0, -math.inf, -4.0, 3.0, 0.0, 1.0]]
    assert scores[0, 0] == 2.0, "the model's own scores are left alone"


def test_a_token_that_is_there_twice_is_penalised_once() -> None:
    adjusted = adjust(torch.tensor([[4.0, 0.0]]), torch.tensor([[0] * 5]), SearchSettings(repetition_penalty=2.0), SEP)
    assert adjusted.tolist() == [[2.0, 0.0]]


def test_the_nucleus_keeps_the_token_that_crosses_the_bound() -> None:
    probabilities, tokens = nucleus(torch.tensor([[0.5, 0.1, 0.3, 0.1]]).log(), top_k=3, top_p=0.6)
    assert tokens[0, :2].tolist() == [0, 2]
    assert probabilities[0].tolist() == pytest.approx([0.625, 0.375, 0.0])


@pytest.mark.parametrize(
    ("alive", "places"),
    [
        ([True, True, True], [0, 1, 2]),
        ([False, True, True], [2, 1]),
        ([True, False, False, True, True], [0, 4, 3]),
        ([False, False], []),
    ],
)
def test_few_change_places_where_some_end(alive: list[bool], places: list[int]) -> None:
    assert compact(alive) == places
