"""Random questions and answers, with lengths about as in VQAv2 and its official list of answers."""

import numpy as np

ENC, SEP = 30523, 102
WORDS = 2500
QUESTION_LENGTHS = (7, 8, 9, 11)  # tokens with [ENC] and [SEP] of an image's questions; VQAv2's mean is about 9
ANSWER_LENGTHS = (0.65, 0.25, 0.07, 0.03)  # shares of answers with 1, 2, 3, 4 tokens


def random_answers(count: int) -> list[list[int]]:
    """Distinct answers from a vocabulary of 2,500 words, without [DEC] and [SEP]."""
    rng = np.random.default_rng(0)
    found: set[tuple[int, ...]] = set()
    while len(found) < count:
        found.add(tuple((1000 + rng.integers(0, WORDS, rng.choice(4, p=ANSWER_LENGTHS) + 1)).tolist()))
    return [list(ids) for ids in sorted(found)]


def random_questions(images: int) -> list[list[int]]:
    """Four questions about each image."""
    rng = np.random.default_rng(1)
    return [[ENC, *rng.integers(1000, 30000, length - 2).tolist(), SEP] for length in images * QUESTION_LENGTHS]
