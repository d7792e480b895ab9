"""Padding as the reference's batches had it."""

from blipbench.protocols.vqa.recipe import batch_lengths


def test_questions_are_padded_to_the_longest_of_their_batch() -> None:
    questions = [[0] * length for length in (5, 9, 7, 4, 6)]
    assert batch_lengths(questions, 2).tolist() == [9, 9, 7, 7, 6]
    assert batch_lengths(questions, 32).tolist() == [9] * 5
    assert batch_lengths(questions, 1).tolist() == [5, 9, 7, 4, 6]
