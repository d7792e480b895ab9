"""The tensors that the trainer gives to an objective, on its device. Images are float32, normalised; texts are padded.

Instead of images [m, 3, S, S], a batch may hold the output of a frozen image encoder, [m, T, width].

n counts the rank's examples, L the longest text's tokens. A mask is 1 at a token, 0 at padding. Every text starts with
[CLS]: the objective puts [ENC] or [DEC] in its place where it needs one.
"""

from typing import NamedTuple

from torch import Tensor


class PairBatch(NamedTuple):
    """Retrieval, pre-training, captioning."""

    images: Tensor  # [n, 3, S, S]
    input_ids: Tensor  # [n, L]
    attention_mask: Tensor  # [n, L]
    image_ids: Tensor  # [n] int64, not negative; equal ids are the same picture (retrieval's positives)


class VqaBatch(NamedTuple):
    """Question i is about image `image_of[i]` and has the next `answers_per_question[i]` of the answers."""

    images: Tensor  # [m, 3, S, S], m at most n
    image_of: Tensor  # [n] int64
    question_ids: Tensor  # [n, L]
    question_mask: Tensor  # [n, L]
    answer_ids: Tensor  # [a, L'], all questions' answers one after another
    answer_mask: Tensor  # [a, L']
    answers_per_question: Tensor  # [n] int64, sums to a
    weights: Tensor  # [a] float32


class NlvrBatch(NamedTuple):
    """Sentence i is about the images `image_of[i]`, left and right."""

    images: Tensor  # [m, 3, S, S], m at most 2 n
    image_of: Tensor  # [n, 2] int64
    input_ids: Tensor  # [n, L]
    attention_mask: Tensor  # [n, L]
    labels: Tensor  # [n] int64, 1 = true
