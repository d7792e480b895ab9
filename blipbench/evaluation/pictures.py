"""A checkpoint tried on a picture: what `blipbench caption`, `ask` and `match` call.

In go a picture, what is asked of it and a checkpoint; out come plain values. The computation is the evaluation's own,
at the image size that the checkpoint was trained for.
"""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from blipbench.data.images import decode_image
from blipbench.data.text import normalise_caption, normalise_question
from blipbench.device import Runtime
from blipbench.inference.answering import BlipVqaRunner
from blipbench.inference.blip import BlipRunner
from blipbench.inference.decoding import FastDecoder, generate
from blipbench.inference.generated import GeneratedAnswers
from blipbench.inference.matching import MATCH
from blipbench.inference.search import SearchSettings
from blipbench.inference.vision import FastImageEncoder
from blipbench.models.blip import BlipCaptioner, BlipRetrieval, BlipVqa
from blipbench.models.checkpoint import Checkpoint, load_weights
from blipbench.models.tokenizer import load_tokenizer

# As in the reference's evaluations of COCO captions, of VQA in its 'generate' mode, and of retrieval.
CAPTION = SearchSettings(num_beams=3, max_length=20, min_length=5)
ANSWER = SearchSettings(num_beams=3, max_length=10, min_length=1)
QUESTION_WORDS, TEXT_WORDS, MAX_TOKENS = 50, 30, 35


@dataclasses.dataclass(frozen=True)
class Match:
    """How well a text fits a picture.

    `probability` of a match by the ITM head, in [0, 1]; `itm` its logit, which ranks in retrieval; `itc` the cosine of
    the picture's and the text's embeddings.
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
) -> list[str]:
    """A caption of each picture, without the prompt, by beam search; `advance(n)` is called when n more have one.

    Raises DataError where a picture cannot be read, UsageError where the checkpoint is no captioner.
    """
    config, tokenizer = checkpoint.config, load_tokenizer(checkpoint.vocab)
    pixels = [decode_image(picture, config.vision.image_size) for picture in pictures]
    model = BlipCaptioner(config)
    load_weights(model, checkpoint, "caption")
    model.eval().requires_grad_(False).to(runtime.device, runtime.dtype)
    vision = FastImageEncoder(model.visual_encoder, config.vision, runtime)
    decoder = FastDecoder(model.text_decoder, tokenizer.sep_id, runtime)
    (words,) = tokenizer.encode([prompt], config.text.max_positions)
    prompt_ids = [tokenizer.dec_id, *words[1:-1]]
    captions: list[str] = []
    for start in range(0, len(pixels), vision.batch):
        tokens = vision.encode(torch.stack(pixels[start : start + vision.batch]))  # [n, T, width]
        written = generate(decoder, tokens, None, prompt_ids, CAPTION)
        captions += [tokenizer.decode(ids)[len(prompt) :] for ids in written]
        advance(len(written))
    return captions


def ask_picture(picture: Path, question: str, checkpoint: Checkpoint, runtime: Runtime) -> str:
    """An answer in the model's own words, by beam search.

    Raises DataError where the picture cannot be read, UsageError where the checkpoint answers no questions.
    """
    pixels = decode_image(picture, checkpoint.config.vision.image_size)
    model = BlipVqa(checkpoint.config)
    load_weights(model, checkpoint, "ask")
    runner = BlipVqaRunner(model, load_tokenizer(checkpoint.vocab), runtime)
    input_ids = runner.tokenize_questions([normalise_question(question, QUESTION_WORDS)], MAX_TOKENS)
    only = np.zeros(1, np.int64)
    (answer,) = GeneratedAnswers(runner, input_ids, ANSWER).answer(runner.encode_images(pixels[None]), only, only)
    return answer.text


def match_texts(picture: Path, texts: Sequence[str], checkpoint: Checkpoint, runtime: Runtime) -> list[Match]:
    """Each text against the picture, in the order given.

    Raises DataError where the picture cannot be read, UsageError where the checkpoint has no ITC and ITM heads.
    """
    pixels = decode_image(picture, checkpoint.config.vision.image_size)
    model = BlipRetrieval(checkpoint.config)
    load_weights(model, checkpoint, "match")
    runner = BlipRunner(model, load_tokenizer(checkpoint.vocab), runtime)
    input_ids = runner.tokenize([normalise_caption(text, TEXT_WORDS) for text in texts], MAX_TOKENS)
    every = np.arange(len(texts))
    image_embedding, tokens = runner.embed_images(pixels[None])  # [1, embed_dim], [1, T, width]
    itc = runner.embed_texts(runner.bank(input_ids), every) @ image_embedding[0]
    logits = runner.matcher(input_ids).submit(tokens[0], every).logits()  # [n, 2]
    probability, itm = logits.softmax(-1)[:, MATCH], logits[:, MATCH]
    scores = zip(texts, probability.tolist(), itm.tolist(), itc.tolist(), strict=True)
    return [Match(*score) for score in scores]
