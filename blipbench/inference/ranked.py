"""Answers questions with the best answer of a fixed list (mode `rank`, as for the published VQA figures).

A candidate's score is the negative of its summed smoothed loss (`ranking.py`). The reference calls it log-probability.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from blipbench.device import full_float32
from blipbench.inference import flops
from blipbench.inference.answering import Answer, BlipVqaRunner
from blipbench.inference.attention import Indices
from blipbench.inference.packing import pad
from blipbench.inference.ranking import AnswerRanker, Ranking
from blipbench.models.med import IGNORED, language_model_loss

KEPT = 10  # candidates kept in an Answer
PLAIN_BATCH = 32  # answers per batch in `plain_ranking`, to limit the memory for logits


class RankedAnswers:
    """`question_ids` of all questions, starting with [ENC]. `k_test` is capped at the length of the answer list."""

    def __init__(
        self, runner: BlipVqaRunner, question_ids: list[list[int]], answer_list: Sequence[str], k_test: int
    ) -> None:
        self.runner = runner
        self.bank = runner.bank(question_ids)
        self.question_ids = question_ids
        self.answer_list = answer_list
        self.k_test = k_test
        self.answer_ids = runner.tokenize_answers(answer_list)
        self.ranker = AnswerRanker(runner.decoder, self.answer_ids, runner.tokenizer.dec_id)

    def answer(self, image_tokens: Tensor, questions: Indices, image_of: Indices) -> list[Answer]:
        states = self.runner.encode_questions(image_tokens, self.bank, questions, image_of)
        return [self._answer(ranking, KEPT) for ranking in self.ranker.rank(states, self.k_test)]

    def plain_answers(self, pixels: Tensor, questions: Sequence[int]) -> list[Answer]:
        image = self.runner.plain_image_tokens(pixels)
        asked = [self.question_ids[question] for question in questions]
        states = [self.runner.encode_padded_questions(image, [ids], len(ids)) for ids in asked]
        return [self._answer(self.plain_ranking(one), self.k_test) for one in states]

    def flops(self, frames: int) -> npt.NDArray[np.float64]:
        lengths = self.bank.lengths
        nodes = self.ranker.nodes_per_question(self.k_test)
        encoding = self.runner.question_flops(lengths, frames)
        return encoding + flops.answer_flops(self.runner.config, lengths, nodes)

    @full_float32()
    @torch.inference_mode()
    def plain_ranking(self, states: Tensor) -> Ranking:
        """Rank the answers to one question (states [1, tokens, width]) as the reference does.

        The states are repeated for every candidate, and the answers are padded and masked. The loss is
        `language_model_loss`.
        """
        runner, tokenizer = self.runner, self.runner.tokenizer
        decoder = runner.plain.text_decoder
        padded = pad([[tokenizer.dec_id, *answer, tokenizer.sep_id] for answer in self.answer_ids], tokenizer.pad_id)
        ids, answer_mask = (x.to(runner.runtime.device) for x in padded)
        first = F.softmax(decoder(ids[:1, :1], answer_mask[:1, :1], states)[0, 0], dim=-1)[ids[:, 1]]
        chosen = first.sort(descending=True, stable=True).indices[: self.k_test].sort().values
        losses = []
        for some in chosen.split(PLAIN_BATCH):
            logits = decoder(ids[some], answer_mask[some], states.expand(len(some), -1, -1))
            losses.append(language_model_loss(logits, ids[some].masked_fill(answer_mask[some] == 0, IGNORED)))
        loss = torch.cat(losses).cpu().numpy()
        best = loss.argsort(kind="stable")
        return Ranking(chosen.cpu().numpy()[best], loss[best])

    def _answer(self, ranking: Ranking, kept: int) -> Answer:
        best = ranking.candidates[:kept].tolist()
        return Answer(
            text=self.answer_list[best[0]],
            tokens=self.answer_ids[best[0]],
            candidates=[self.answer_list[candidate] for candidate in best],
            scores=[-loss for loss in ranking.losses[:kept].tolist()],
        )
