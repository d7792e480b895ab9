"""A checkpoint tried on single pictures: what `blipbench caption`, `ask` and `match` call.

Takes a picture, a question or texts about it, and a checkpoint. Returns plain values. The runners of the evaluation
compute them, at the image size that the checkpoint was trained for. Pictures are turned upright by their EXIF.
"""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from blipbench.data.images import decode_image
from blipbench.data.text import normalise_caption, normalise_question
from blipbench.device import Runtime
from blipbench.errors import DataError
from blipbench.inference.answering import BlipVqaRunner
from blipbench.inference.blip import BlipRunner
from blipbench.inference.captioner import BlipCaptionRunner
from blipbench.inference.generated import GeneratedAnswers
from blipbench.inference.matching import MATCH
from blipbench.inference.search import SearchSettings
from blipbench.models.blip import BlipCaptioner, BlipRetrieval, BlipVqa
from blipbench.models.checkpoint import Checkpoint, load_weights
from blipbench.models.tokenizer import load_tokenizer

# As in the reference's evaluations of COCO captions, of VQA in its 'generate' mode, and of retrieval.
CAPTION = SearchSettings(num_beams=3, max_length=20, min_length=5)
ANSWER = SearchSettings(num_beams=3, max_length=10, min_length=1)
QUESTION_WORDS, TEXT_WORDS, MAX_TOKENS = 50, 30, 35


@dataclasses.dataclass(frozen=True)
class Captioned:
    """A picture with its caption, or with the reason why it could not be read."""

    picture: Path
    caption: str | None = None
    error: str | None = None

    def as_json(self) -> dict[str, str]:
        outcome = {"error": self.error} if self.error is not None else {"caption": self.caption or ""}
        return {"image": str(self.picture), **outcome}


@dataclasses.dataclass(frozen=True)
class Match:
    """How well a text matches a picture.

    `probability` of a match according to the ITM head, in [0, 1]. `itm` is the logit of a match, by which retrieval
    ranks. `itc` is the cosine of the embeddings of picture and text.
    """

    text: str
    probability: float
    itm: float
    itc: float


def caption_pictures(
    pictures: Sequence[Path],
    checkpoint: Checkpoint,
    runtime: Runtime,
    prompt: str,
    advance: Callable[[int], None],
) -> list[Captioned]:
    """A caption of each picture by beam search, without the prompt. `advance(n)` is called after each n pictures.

    Raises UsageError if the checkpoint is not a captioner or the prompt is too long.
    """
    model = BlipCaptioner(checkpoint.config)
    load_weights(model, checkpoint, "caption")
    runner = BlipCaptionRunner(model, load_tokenizer(checkpoint.vocab), runtime)
    runner.check(prompt, CAPTION)
    found: list[Captioned] = []
    for start in range(0, len(pictures), runner.vision.batch):
        batch = pictures[start : start + runner.vision.batch]
        decoded = [_decode(picture, runner.vision.image_size) for picture in batch]
        readable = [pixels for pixels in decoded if isinstance(pixels, torch.Tensor)]
        tokens = runner.encode_images(torch.stack(readable)) if readable else None  # [n, T, width]
        captions = iter(runner.caption(tokens, prompt, CAPTION) if tokens is not None else [])
        for picture, pixels in zip(batch, decoded, strict=True):
            read = isinstance(pixels, torch.Tensor)
            found.append(Captioned(picture, next(captions).text) if read else Captioned(picture, error=str(pixels)))
        advance(len(batch))
    return found


def _decode(picture: Path, image_size: int) -> torch.Tensor | DataError:
    try:
        return decode_image(picture, image_size, upright=True)
    except DataError as error:
        return error


def ask_picture(picture: Path, question: str, checkpoint: Checkpoint, runtime: Runtime) -> str:
    """An answer that the model generates by beam search.

    Raises DataError if the picture cannot be read, UsageError if the checkpoint does not answer questions.
    """
    pixels = decode_image(picture, checkpoint.config.vision.image_size, upright=True)
    model = BlipVqa(checkpoint.config)
    load_weights(model, checkpoint, "ask")
    runner = BlipVqaRunner(model, load_tokenizer(checkpoint.vocab), runtime)
    input_ids = runner.tokenize_questions([normalise_question(question, QUESTION_WORDS)], MAX_TOKENS)
    only = np.zeros(1, np.int64)
    (answer,) = GeneratedAnswers(runner, input_ids, ANSWER).answer(runner.encode_images(pixels[None]), only, only)
    return answer.text


def match_texts(picture: Path, texts: Sequence[str], checkpoint: Checkpoint, runtime: Runtime) -> list[Match]:
    """How well each text matches the picture, in the given order.

    Raises DataError if the picture cannot be read, UsageError if the checkpoint does not have ITC and ITM heads.
    """
    pixels = decode_image(picture, checkpoint.config.vision.image_size, upright=True)
    model = BlipRetrieval(checkpoint.config)
    load_weights(model, checkpoint, "match")
    runner = BlipRunner(model, load_tokenizer(checkpoint.vocab), runtime)
    input_ids = runner.tokenize([normalise_caption(text, TEXT_WORDS) for text in texts], MAX_TOKENS)
    every = np.arange(len(texts))
    image_embedding, tokens = runner.embed_images(pixels[None])  # [1, embed_dim], [1, T, width]
    itc = runner.embed_texts(runner.bank(input_ids), every) @ image_embedding[0]
    logits = runner.matcher(input_ids).submit(tokens, every, np.zeros_like(every)).logits()  # [n, 2]
    probability, itm = logits.softmax(-1)[:, MATCH], logits[:, MATCH]
    scores = zip(texts, probability.tolist(), itm.tolist(), itc.tolist(), strict=True)
    return [Match(*score) for score in scores]
