"""Captions and ranked answers without the image encoder: random weights, random image tokens, many images at once."""

from collections.abc import Iterator

import numpy as np
import torch
from gpu_setup import Record, Setup
from gpu_timing import forget_peak, median_seconds, peak_bytes
from random_captioner import random_captioner
from random_weights import fill_randomly
from torch import Tensor
from vqa_workload import QUESTION_LENGTHS, random_answers, random_questions

from blipbench.config.models import load_model_config
from blipbench.device import Runtime, make_runtime
from blipbench.inference.answering import BlipVqaRunner
from blipbench.inference.captioner import BlipCaptionRunner
from blipbench.inference.ranking import AnswerRanker
from blipbench.inference.search import SearchSettings
from blipbench.models.blip import BlipCaptioner, BlipVqa
from blipbench.models.tokenizer import load_tokenizer

PROMPT = "a picture of "
SEARCH = SearchSettings(num_beams=3, max_length=20, min_length=20)
VQA_IMAGE_SIZE = 480
ROUNDS = 2


def measure(setup: Setup) -> Iterator[Record]:
    yield from captions(setup)
    yield from answers(setup)


def captions(setup: Setup) -> Iterator[Record]:
    model = random_captioner(load_model_config(setup.sizes.model), seed=0)
    for precision, images in setup.sizes.generation:
        yield caption(model, setup, precision, images)


def caption(model: BlipCaptioner, setup: Setup, precision: str, images: int) -> Record:
    runtime = make_runtime(setup.device, precision)
    runner = BlipCaptionRunner(model, load_tokenizer(), runtime)
    tokens = random_tokens(images, runner.vision.num_tokens, model.config.vision.width, runtime)
    forget_peak(runtime)
    seconds = median_seconds(lambda: runner.caption(tokens, PROMPT, SEARCH), runtime, ROUNDS)
    return of_rate("captions", precision, images, images / seconds, "images/s", runtime)


def answers(setup: Setup) -> Iterator[Record]:
    config = load_model_config(setup.sizes.model)
    vision = config.vision.model_copy(update={"image_size": VQA_IMAGE_SIZE})
    model = BlipVqa(config.model_copy(update={"vision": vision}))
    fill_randomly(model, seed=0)
    for precision, images in setup.sizes.generation:
        yield rank_answers(model, setup, precision, images)


def rank_answers(model: BlipVqa, setup: Setup, precision: str, images: int) -> Record:
    tokenizer, runtime = load_tokenizer(), make_runtime(setup.device, precision)
    runner = BlipVqaRunner(model, tokenizer, runtime)
    ranker = AnswerRanker(runner.decoder, random_answers(setup.sizes.answers), tokenizer.dec_id)
    tokens = random_tokens(images, runner.vision.num_tokens, model.config.vision.width, runtime)
    bank = runner.bank(random_questions(images))
    image_of = np.repeat(np.arange(images), len(QUESTION_LENGTHS))
    each = np.arange(len(image_of))
    forget_peak(runtime)
    seconds = median_seconds(
        lambda: ranker.rank(runner.encode_questions(tokens, bank, each, image_of), setup.sizes.candidates),
        runtime,
        ROUNDS,
    )
    return of_rate("answers", precision, images, len(each) / seconds, "questions/s", runtime)


def random_tokens(images: int, length: int, width: int, runtime: Runtime) -> Tensor:
    generator = torch.Generator(runtime.device).manual_seed(0)
    return torch.randn(images, length, width, generator=generator, device=runtime.device, dtype=runtime.dtype)


def of_rate(name: str, precision: str, images: int, rate: float, unit: str, runtime: Runtime) -> Record:
    peak = peak_bytes(runtime)
    return Record(
        name,
        (f"{name} in {precision}, {images} images: {rate:,.1f} {unit}, peak memory {peak / 2**30:.2f} GiB",),
        {"precision": precision, "images": images, unit.replace("/s", "_per_second"): rate, "peak_bytes": peak},
    )
