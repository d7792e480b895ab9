"""Answers questions by generating text (mode `generate`): beam search from [DEC] over a question's states.

When it generates (but not when it ranks), the reference uses an attention mask of all ones. So its decoder also reads
the states of padding, and an answer depends on the other questions of its batch. `padded_lengths` reproduces this for
comparison: each question is padded to the length that its batch had.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from blipbench.device import full_float32
from blipbench.inference import flops
from blipbench.inference.answering import Answer, BlipVqaRunner
from blipbench.inference.attention import Indices
from blipbench.inference.decoding import PlainDecoding, check_lengths, run_search, search
from blipbench.inference.search import Hypothesis, SearchSettings

TOKENS_PER_ANSWER = 2  # after [DEC], for every beam; used to estimate the cost


class GeneratedAnswers:
    """`question_ids` of all questions, starting with [ENC]; `padded_lengths` [questions], or None for no padding."""

    def __init__(
        self,
        runner: BlipVqaRunner,
        question_ids: list[list[int]],
        settings: SearchSettings,
        padded_lengths: Indices | None = None,
    ) -> None:
        self.prompt = [runner.tokenizer.dec_id]
        check_lengths(runner.config.text.max_positions, self.prompt, settings)
        self.runner = runner
        self.question_ids = question_ids
        self.bank = runner.bank(question_ids)
        self.settings = settings
        self.padded_lengths = padded_lengths

    @torch.inference_mode()
    def answer(self, image_tokens: Tensor, questions: Indices, image_of: Indices) -> list[Answer]:
        if self.padded_lengths is None:
            states = self.runner.encode_questions(image_tokens, self.bank, questions, image_of)
        else:
            states = [
                self._padded(image_tokens[image, None], question)
                for question, image in zip(questions.tolist(), image_of.tolist(), strict=True)
            ]
        context = pad_sequence(states, batch_first=True).to(self.runner.runtime.dtype)
        lengths = torch.tensor([len(state) for state in states], device=context.device)
        mask = (torch.arange(context.shape[1], device=context.device) < lengths[:, None]).long()
        found = search(self.runner.decoder, context, mask, self.prompt, self.settings)
        return [self._answer(hypothesis) for hypothesis in found]

    @full_float32()
    @torch.inference_mode()
    def plain_answers(self, pixels: Tensor, questions: Sequence[int]) -> list[Answer]:
        image = self.runner.plain_image_tokens(pixels)
        answers = []
        for question in questions:
            decoding = PlainDecoding(self.runner.plain.text_decoder, self._padded(image, question)[None])
            (found,) = run_search(decoding, self.prompt, self.settings, self.runner.tokenizer.sep_id, [0])
            answers.append(self._answer(found))
        return answers

    def flops(self, frames: int) -> npt.NDArray[np.float64]:
        lengths = self.bank.lengths
        nodes = float(TOKENS_PER_ANSWER * self.settings.beams)
        return self.runner.question_flops(lengths, frames) + flops.answer_flops(self.runner.config, lengths, nodes)

    def _padded(self, image_tokens: Tensor, question: int) -> Tensor:
        """States [length, width] from the plain encoder; image_tokens: [1, T, image_width]."""
        ids = self.question_ids[question]
        length = len(ids) if self.padded_lengths is None else int(self.padded_lengths[question])
        return self.runner.encode_padded_questions(image_tokens, [ids], length)[0]

    def _answer(self, found: Hypothesis) -> Answer:
        tokenizer = self.runner.tokenizer
        tokens = [token for token in found.ids[1:] if token != tokenizer.sep_id]
        text = tokenizer.decode(tokens)
        return Answer(text, tokens, [text], [found.log_prob])
