"""Writing answers gives the reference's, token for token, with or without the padding that it attends to."""

import numpy as np
import pytest
import torch
from goldens import Golden, relative_error
from vqa_goldens import VqaCase, golden_vqa

from blipbench.errors import UsageError
from blipbench.inference.generated import GeneratedAnswers
from blipbench.inference.search import SearchSettings

TOLERANCE = 1e-5
REFERENCE = SearchSettings(num_beams=3, max_length=10, min_length=1)


@pytest.fixture(scope="module")
def case(golden: Golden) -> VqaCase:
    return golden_vqa(golden)


def longest(case: VqaCase) -> np.ndarray:
    return np.full(len(case.question_ids), max(len(ids) for ids in case.question_ids))


def first_logits(case: VqaCase, states: torch.Tensor) -> torch.Tensor:
    decoding = case.runner.decoder.begin(states, None, REFERENCE)
    return decoding.start([case.runner.tokenizer.dec_id])


def test_answers_are_the_references_one_by_one(case: VqaCase) -> None:
    answerer = GeneratedAnswers(case.runner, case.question_ids, REFERENCE)
    got = answerer.answer(case.runner.encode_images(case.pixels), case.each, case.each)
    assert [answer.text for answer in got] == case.told["generate_one_by_one"]


def test_answers_are_the_references_in_one_batch_where_padding_is_attended(case: VqaCase) -> None:
    answerer = GeneratedAnswers(case.runner, case.question_ids, REFERENCE, longest(case))
    got = answerer.answer(case.runner.encode_images(case.pixels), case.each, case.each)
    assert [answer.text for answer in got] == case.told["generate_batch"]


def test_the_first_steps_logits_are_the_references_one_by_one(case: VqaCase) -> None:
    got = torch.cat([first_logits(case, states[None]) for states in case.states()])
    assert relative_error(got, case.tensors["generate_first_logits_one_by_one"]) < TOLERANCE


def test_the_first_steps_logits_are_the_references_where_padding_is_attended(case: VqaCase) -> None:
    tokens = case.runner.encode_images(case.pixels)
    states = case.runner.encode_padded_questions(tokens, case.question_ids, int(longest(case)[0]))
    assert relative_error(first_logits(case, states), case.tensors["generate_first_logits_batch"]) < TOLERANCE


def test_attending_to_padding_makes_a_difference(case: VqaCase) -> None:
    one, other = (case.tensors[f"generate_first_logits_{how}"] for how in ("batch", "one_by_one"))
    assert relative_error(one, other) > 100 * TOLERANCE


@pytest.mark.parametrize("padded", [False, True])
def test_the_plain_way_gives_the_same(case: VqaCase, padded: bool) -> None:
    answerer = GeneratedAnswers(case.runner, case.question_ids, REFERENCE, longest(case) if padded else None)
    fast = answerer.answer(case.runner.encode_images(case.pixels), case.each, case.each)
    for question, answer in enumerate(fast):
        (plain,) = answerer.plain_answers(case.pixels[question : question + 1], [question])
        assert plain.tokens == answer.tokens
        assert plain.scores == pytest.approx(answer.scores, rel=TOLERANCE)


def test_the_batch_does_not_matter(case: VqaCase) -> None:
    answerer = GeneratedAnswers(case.runner, case.question_ids, REFERENCE)
    tokens = case.runner.encode_images(case.pixels)
    together = answerer.answer(tokens, case.each, case.each)
    for question, answer in enumerate(together):
        (alone,) = answerer.answer(tokens[[question]], np.array([question]), np.array([0]))
        assert alone.tokens == answer.tokens
        assert alone.scores == pytest.approx(answer.scores, rel=TOLERANCE)


def test_more_tokens_than_the_model_has_positions_are_refused(case: VqaCase) -> None:
    with pytest.raises(UsageError, match=r"max_length: 99 .* 64 positions"):
        GeneratedAnswers(case.runner, case.question_ids, SearchSettings(max_length=99))
