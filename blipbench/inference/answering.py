"""Fast BLIP question answering on one device, for the VQA protocol.

    tokens = runner.encode_images(pixels)                            once for all questions of an image
    states = runner.encode_questions(tokens, bank, which, image_of)  what the answer decoder reads

`runner.plain` is the same model in float32, for the self-check. An `Answerer` (`ranked.py`, `generated.py`) turns the
states into answers.
"""

import copy
import dataclasses
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from blipbench.data.images import normalise
from blipbench.device import Runtime, full_float32
from blipbench.inference import flops
from blipbench.inference.attention import Indices
from blipbench.inference.decoding import FastDecoder
from blipbench.inference.packing import TextBank, pad
from blipbench.inference.text import PackedTextEncoder
from blipbench.inference.vision import FastImageEncoder
from blipbench.models.blip import BlipVqa
from blipbench.models.tokenizer import Tokenizer


@dataclasses.dataclass(frozen=True)
class Answer:
    """The answer to one question, and its best candidates with their scores, best first.

    Scores are log-probabilities as the answerer defines them.
    """

    text: str
    tokens: list[int]  # without [DEC] and [SEP]
    candidates: list[str]
    scores: list[float]


class Answerer(Protocol):
    """Answers the questions of one data set. Questions are given by their indices."""

    def answer(self, image_tokens: Tensor, questions: Indices, image_of: Indices) -> list[Answer]:
        """image_tokens: [images, T, image_width]. Question i is about image `image_of[i]`."""
        ...

    def plain_answers(self, pixels: Tensor, questions: Sequence[int]) -> list[Answer]:
        """Answer questions about one image (uint8 [1, ...]) as the reference does: float32, all candidates."""
        ...

    def flops(self, frames: int) -> npt.NDArray[np.float64]:
        """FLOPs of each question without its image, [questions]."""
        ...


class BlipVqaRunner:
    capabilities = frozenset({"answer"})

    def __init__(self, model: BlipVqa, tokenizer: Tokenizer, runtime: Runtime) -> None:
        self.config = model.config
        self.tokenizer = tokenizer
        self.runtime = runtime
        self.plain = model.eval().requires_grad_(False).to(runtime.device)
        fast = copy.deepcopy(self.plain).to(runtime.dtype)
        self.question_encoder = PackedTextEncoder(fast.text_encoder)
        self.decoder = FastDecoder(fast.text_decoder, tokenizer.sep_id, runtime)
        self.vision = FastImageEncoder(fast.visual_encoder, self.config.vision, runtime)

    def tokenize_questions(self, questions: Sequence[str], max_tokens: int) -> list[list[int]]:
        """Token ids of each question, from [ENC] to [SEP], without padding."""
        return [[self.tokenizer.enc_id, *ids[1:]] for ids in self.tokenizer.encode(questions, max_tokens)]

    def tokenize_answers(self, answers: Sequence[str]) -> list[list[int]]:
        """Token ids of each answer, without special tokens."""
        return [ids[1:-1] for ids in self.tokenizer.encode(answers, self.config.text.max_positions)]

    def bank(self, input_ids: list[list[int]]) -> TextBank:
        return TextBank(input_ids, self.runtime.device)

    def encode_images(self, pixels: Tensor) -> Tensor:
        """uint8 [n, 3, S, S] or [n, frames, 3, S, S] -> tokens [n, frames * T, width]."""
        clips = pixels if pixels.ndim == 5 else pixels[:, None]
        return self.vision.encode(clips).flatten(1, 2)

    @torch.inference_mode()
    def encode_questions(
        self, image_tokens: Tensor, bank: TextBank, questions: Indices, image_of: Indices
    ) -> list[Tensor]:
        """The states [tokens, width] of each question. `questions` are indices into the bank.

        Question i is about image `image_of[i]` of image_tokens [images, T, image_width].
        """
        images, length = image_tokens.shape[:2]
        keys_values = self.question_encoder.keys_values(image_tokens.flatten(0, 1))
        states: dict[int, Tensor] = {}
        for chunk in bank.chunks(questions, self.runtime.batch_tokens):
            spans = chunk.reading(image_of[chunk.order], [length] * images, first_only=False)
            context = self.question_encoder.contexts(keys_values, spans, spans)
            hidden = self.question_encoder.first_layer(bank.input_ids[chunk.tokens], chunk)
            hidden = self.question_encoder.rest(hidden, chunk, context, first_only=False)  # [S, width]
            states |= zip(chunk.order.tolist(), hidden.split(chunk.lengths.tolist()), strict=True)
        return [states[place] for place in range(len(questions))]

    @full_float32()
    @torch.inference_mode()
    def encode_padded_questions(self, image_tokens: Tensor, input_ids: Sequence[Sequence[int]], length: int) -> Tensor:
        """Encode questions padded to `length` with the plain float32 encoder; the padding gets states too.

        image_tokens: [questions, T, image_width], one image per question. Returns [questions, length, width].
        """
        ids, mask = (x.to(self.runtime.device) for x in pad(input_ids, self.tokenizer.pad_id, length))
        return self.plain.text_encoder(ids, mask, image_tokens.float())

    def image_flops(self, frames: int) -> float:
        """FLOPs of the image encoder, and of the keys and values that all questions of the image share."""
        return frames * self.vision.flops + flops.context_flops(self.config, frames * self.vision.num_tokens)

    def question_flops(self, lengths: npt.ArrayLike, frames: int) -> npt.NDArray[np.float64]:
        return flops.question_flops(self.config, lengths, frames * self.vision.num_tokens)

    @full_float32()
    @torch.inference_mode()
    def plain_image_tokens(self, pixels: Tensor) -> Tensor:
        """The same as `encode_images`, in float32."""
        clips = pixels if pixels.ndim == 5 else pixels[:, None]
        frames = self.plain.visual_encoder(normalise(clips.flatten(0, 1).to(self.runtime.device)))
        return frames.unflatten(0, clips.shape[:2]).flatten(1, 2)
