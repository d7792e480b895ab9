"""Ranking an answer list gives the reference's candidates, sums and answers, whatever the batch."""

import dataclasses
from typing import Any, TypeAlias

import numpy as np
import pytest
import torch
from goldens import Golden, relative_error
from vqa_goldens import VqaCase, golden_vqa

from blipbench.inference.ranked import RankedAnswers
from blipbench.inference.ranking import Ranking

TOLERANCE = 1e-5
Compared: TypeAlias = tuple[dict[str, Any], list[Ranking]]  # what the reference says of a k_test, and our rankings


@pytest.fixture(scope="module")
def case(golden: Golden) -> VqaCase:
    return golden_vqa(golden)


def ranked(case: VqaCase, k_test: int) -> RankedAnswers:
    return RankedAnswers(case.runner, case.question_ids, case.answer_list, k_test)


@pytest.fixture(scope="module", params=[0, 1, 2], ids=["k20", "k5", "k2"])
def told_and_ours(request: pytest.FixtureRequest, case: VqaCase) -> Compared:
    told = case.told["rank"][request.param]
    return told, ranked(case, told["k_test"]).ranker.rank(case.states(), told["k_test"])


def test_the_first_tokens_probabilities_are_the_references(case: VqaCase) -> None:
    ranker, states = ranked(case, 20).ranker, case.states()
    order = sorted(case.each, key=lambda question: len(states[question]))
    step = ranker.first_step(ranker.read([states[question] for question in order]))
    probabilities = step.logits.softmax(-1)[:, ranker.first_tokens]
    assert relative_error(probabilities, case.tensors["first_token_prob"][order]) < TOLERANCE


def test_candidates_are_the_references_where_no_tie_decides(
    told_and_ours: Compared,
) -> None:
    told, ours = told_and_ours
    tied = told["last_candidate_tied_with_first_left_out"]
    for ranking, candidates, is_tied in zip(ours, told["candidates"], tied, strict=True):
        assert is_tied or sorted(ranking.candidates.tolist()) == candidates


def test_sums_are_the_references(case: VqaCase, told_and_ours: Compared) -> None:
    told, ours = told_and_ours
    sums = case.tensors[f"k{told['k_test']}_log_prob_sums"]
    for ranking, row in zip(ours, sums, strict=True):
        expected = row[ranking.candidates]
        known = ~expected.isnan()  # at a tie the reference may have taken another candidate
        assert known.any()
        assert relative_error(-torch.from_numpy(ranking.losses)[known], expected[known]) < TOLERANCE


def test_answers_are_the_references_where_no_tie_decides(case: VqaCase, told_and_ours: Compared) -> None:
    told, ours = told_and_ours
    for ranking, answer, decided in zip(ours, told["answers"], told["answer_independent_of_ties"], strict=True):
        assert not decided or case.answer_list[ranking.candidates[0]] == answer


def test_at_a_tie_for_the_last_place_the_lower_index_is_taken(case: VqaCase) -> None:
    tied = case.told["rank"][1]["last_candidate_tied_with_first_left_out"].index(True)
    probabilities = case.tensors["first_token_prob"][tied].numpy()
    last = np.sort(probabilities)[-5]
    clear = np.flatnonzero(probabilities > last * (1 + 1e-4))
    at_the_bar = np.flatnonzero(np.isclose(probabilities, last, rtol=1e-4))
    (ranking,) = ranked(case, 5).ranker.rank([case.states()[tied]], 5)
    assert sorted(ranking.candidates.tolist()) == sorted([*clear, *at_the_bar[: 5 - len(clear)]])


@pytest.mark.parametrize("batch_tokens", [1, 7, 40, 10_000])
def test_the_batch_does_not_matter(golden: Golden, case: VqaCase, batch_tokens: int) -> None:
    expected = ranked(case, 5).answer(case.runner.encode_images(case.pixels), case.each, case.each)
    other = golden_vqa(golden, batch_tokens)
    got = ranked(other, 5).answer(other.runner.encode_images(other.pixels), other.each, other.each)
    assert [answer.text for answer in got] == [answer.text for answer in expected]
    for one, another in zip(got, expected, strict=True):
        assert relative_error(torch.tensor(one.scores), torch.tensor(another.scores)) < TOLERANCE


def test_questions_share_their_image(case: VqaCase) -> None:
    answers = ranked(case, 5)
    both = case.runner.encode_images(case.pixels[[0, 1, 0]])
    got = answers.answer(both[:2], np.array([0, 1, 0, 2]), np.array([0, 1, 1, 0]))
    alone = [
        answers.answer(both[[image]], np.array([q]), np.array([0]))[0] for q, image in [(0, 0), (1, 1), (0, 1), (2, 0)]
    ]
    for one, another in zip(got, alone, strict=True):
        assert one.text == another.text
        assert relative_error(torch.tensor(one.scores), torch.tensor(another.scores)) < TOLERANCE


def test_more_candidates_than_answers_means_all_of_them(case: VqaCase) -> None:
    (ranking,) = ranked(case, 20).ranker.rank(case.states()[:1], 1000)
    assert sorted(ranking.candidates.tolist()) == list(range(20))


def test_equal_answers_rank_by_index(case: VqaCase) -> None:
    twice = RankedAnswers(case.runner, case.question_ids, [*case.answer_list, *case.answer_list], 40)
    for ranking in twice.ranker.rank(case.states(), 40):
        assert (ranking.candidates[::2] + 20 == ranking.candidates[1::2]).all()


def test_the_plain_way_gives_the_same(case: VqaCase) -> None:
    answers = ranked(case, 5)
    fast = answers.answer(case.runner.encode_images(case.pixels), case.each, case.each)
    for question, given in enumerate(fast):
        (plain,) = answers.plain_answers(case.pixels[question : question + 1], [question])
        assert dataclasses.replace(plain, scores=given.scores) == given
        assert relative_error(torch.tensor(plain.scores), torch.tensor(given.scores)) < TOLERANCE


def test_one_answer_of_several_tokens_is_enough(case: VqaCase) -> None:
    (answer,) = RankedAnswers(case.runner, case.question_ids, ["on the right side"], 128).answer(
        case.runner.encode_images(case.pixels[:1]), np.array([0]), np.array([0])
    )
    assert (answer.text, answer.candidates) == ("on the right side", ["on the right side"])
