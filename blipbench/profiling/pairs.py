"""The parts that join images and texts: matching, captions, answers, statements, and everything from a JPEG on."""

import tempfile
import time
import weakref
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from blipbench.data.images import decode_image
from blipbench.device import Runtime
from blipbench.inference import flops
from blipbench.inference.attention import Indices
from blipbench.inference.ranked import RankedAnswers
from blipbench.inference.search import SearchSettings
from blipbench.models.config import ModelConfig
from blipbench.models.tokenizer import Tokenizer
from blipbench.profiling.models import Models
from blipbench.profiling.shapes import Shapes, lengths_of, padded_texts, random_texts, random_tokens
from blipbench.profiling.work import Work

CAPTION = SearchSettings(num_beams=3, max_length=20, min_length=20)  # the reference's, at the greatest length
PROMPT = "a picture of "
STEP_AT = 10  # the length of the texts that a decoding step continues
ANSWERS, CANDIDATES = 3000, 128  # as for VQAv2: 128 of about 3,000 answers are ranked
QUESTIONS_PER_IMAGE = 4
PHOTO = 640, 480  # pixels of a COCO photograph


def itm(models: Models, runtime: Runtime, shapes: Shapes) -> Work:
    """Pairs of each image with its texts, whose first layer is kept, as in a run."""
    match = _matching(models, runtime, shapes)
    tokens = _image_tokens(models, runtime, shapes.batch)
    return _pairs(lambda: match(tokens), models, runtime, shapes)


def _matching(models: Models, runtime: Runtime, shapes: Shapes) -> Callable[[Tensor], Tensor]:
    """Scores the texts of every image: tokens [batch, T, width] -> logits of 'match' [texts] on the CPU."""
    texts = random_texts(shapes, models.tokenizer.cls_id, models.tokenizer)
    matcher = models.retrieval(runtime).matcher(texts)
    lists = ((image, _texts_of(shapes, image)) for image in range(shapes.batch))
    batches = list(matcher.batches(lists, models.config.vision.num_tokens))

    def match(tokens: Tensor) -> Tensor:
        pending = []
        for images in batches:
            which = np.concatenate([_texts_of(shapes, image) for image in images])
            owner = np.repeat(np.arange(len(images)), shapes.texts_per_image)
            pending.append(matcher.submit(tokens[images], which, owner))
        return torch.cat([one.result() for one in pending])

    return match


def itm_plain(models: Models, runtime: Runtime, shapes: Shapes) -> Work:
    """The plain model on padded texts, the image repeated for every pair."""
    model, (ids, mask) = (
        models.plain(runtime),
        padded_texts(shapes, models.tokenizer.enc_id, models.tokenizer, runtime.device),
    )
    tokens = _image_tokens(models, runtime, shapes.batch)
    owner = torch.from_numpy(shapes.owner)

    def call() -> Tensor:
        return torch.cat(
            [
                model.match_logits(ids[some], mask[some], tokens[owner[some]])[:, 1].float().cpu()
                for some in torch.arange(shapes.texts).split(32)
            ]
        )

    return _pairs(call, models, runtime, shapes)


def itm_transformers(models: Models, runtime: Runtime, shapes: Shapes) -> Work:
    """transformers' modules run the reference's way: padded texts, the image repeated for every pair."""
    model, (ids, mask) = (
        models.transformers(runtime),
        padded_texts(shapes, models.tokenizer.enc_id, models.tokenizer, runtime.device),
    )
    tokens = _image_tokens(models, runtime, shapes.batch)
    owner = torch.from_numpy(shapes.owner)

    def logits(some: Tensor) -> Tensor:
        image = tokens[owner[some]]
        states = model.text_encoder(
            input_ids=ids[some],
            attention_mask=mask[some],
            encoder_hidden_states=image,
            encoder_attention_mask=torch.ones(image.shape[:2], dtype=torch.long, device=image.device),
        ).last_hidden_state
        return model.itm_head(states[:, 0])[:, 1].float().cpu()

    return _pairs(
        lambda: torch.cat([logits(some) for some in torch.arange(shapes.texts).split(32)]), models, runtime, shapes
    )


def _pairs(call: Callable[[], Tensor], models: Models, runtime: Runtime, shapes: Shapes) -> Work:
    config, tokens = models.config, models.config.vision.num_tokens
    lengths = lengths_of(shapes)
    needed = float(flops.match_flops(config, lengths, tokens).sum()) + shapes.batch * flops.context_flops(
        config, tokens
    )
    needed += shapes.texts * 4 * config.text.width
    weights = _text_parameters(config)
    moved = shapes.batch * tokens * config.vision.width + int(lengths.sum()) * config.text.width
    return Work(call, shapes.texts, needed, float(weights + moved) * runtime.dtype.itemsize, weights)


def decode_step(models: Models, runtime: Runtime, shapes: Shapes) -> Work:
    """One more token of each beam, when the texts have 10."""
    runner, config = models.captioner(runtime), models.config
    tokens, beams = config.vision.num_tokens, CAPTION.beams
    prompt = runner.prompt_ids(PROMPT)
    decoding = runner.decoder.begin(_image_tokens(models, runtime, shapes.batch), None, CAPTION)
    decoding.start(prompt)
    rows = shapes.batch * beams
    ids, places = torch.full((rows,), prompt[-1], device=runtime.device), list(range(shapes.batch))
    parents = torch.arange(shapes.batch, device=runtime.device).repeat_interleave(beams)
    decoding.step(ids, parents, places)
    parents = torch.arange(rows, device=runtime.device)
    while decoding.length < STEP_AT:
        decoding.step(ids, parents, places)

    def call() -> Tensor:
        decoding.length = STEP_AT
        return decoding.step(ids, parents, places)

    text = config.text
    per_token = flops.decoding_flops(config, tokens, 1, 1, 1)
    context = 2 * shapes.batch * tokens * text.width * text.depth
    weights = _text_parameters(config) + text.vocab_size * text.width
    moved = context + rows * (text.vocab_size + 2 * STEP_AT * text.width * text.depth)
    return Work(call, rows, rows * per_token, float(weights + moved) * runtime.dtype.itemsize, weights)


def caption(models: Models, runtime: Runtime, shapes: Shapes) -> Work:
    """Captions of 20 tokens by beam search, without the image encoder."""
    runner, config = models.captioner(runtime), models.config
    tokens = _image_tokens(models, runtime, shapes.batch)
    steps = CAPTION.max_length - len(runner.prompt_ids(PROMPT))

    def call() -> Tensor:
        return torch.tensor([found.log_prob for found in runner.caption(tokens, PROMPT, CAPTION)])

    each = flops.decoding_flops(config, config.vision.num_tokens, CAPTION.max_length - steps, CAPTION.beams, steps)
    each += flops.context_flops(config, config.vision.num_tokens)
    weights = _text_parameters(config) + config.text.vocab_size * config.text.width
    moved = tokens.numel() + steps * weights
    return Work(call, shapes.batch, shapes.batch * each, float(moved) * runtime.dtype.itemsize, weights)


def vqa_rank(models: Models, runtime: Runtime, shapes: Shapes) -> Work:
    """Four questions an image; 128 of 3,000 answers are ranked. Without the image encoder."""
    runner, config = models.vqa(runtime), models.config
    asked = Shapes(shapes.image_size, shapes.batch, shapes.tokens, QUESTIONS_PER_IMAGE)
    questions = random_texts(asked, models.tokenizer.enc_id, models.tokenizer)
    answers = RankedAnswers(runner, questions, _answer_list(models.tokenizer), CANDIDATES)
    tokens = _image_tokens(models, runtime, shapes.batch)
    every = np.arange(len(questions))

    def call() -> Tensor:
        return torch.tensor([answer.scores[0] for answer in answers.answer(tokens, every, asked.owner)])

    needed = float(answers.flops(1).sum()) + shapes.batch * flops.context_flops(config, config.vision.num_tokens)
    weights = 2 * _text_parameters(config) + config.text.vocab_size * config.text.width
    return Work(call, len(questions), needed, float(weights + tokens.numel()) * runtime.dtype.itemsize, weights)


def nlvr(models: Models, runtime: Runtime, shapes: Shapes) -> Work:
    """One statement about each pair of images. Without the image encoder."""
    runner, config = models.nlvr(runtime), models.config
    ids = random_texts(
        Shapes(shapes.image_size, shapes.batch, shapes.tokens, 1), models.tokenizer.enc_id, models.tokenizer
    )
    left = _image_tokens(models, runtime, shapes.batch)
    right = left.flip(0)
    pair_of = np.arange(shapes.batch)
    head = 2 * (config.text.width**2 + 2 * config.text.width)
    needed = sum(runner.pair_flops([len(one)]) + head for one in ids)
    weights = _text_parameters(config)
    moved = weights + 2 * left.numel()
    return Work(
        lambda: runner.reason(left, right, ids, pair_of),
        shapes.batch,
        needed,
        float(moved) * runtime.dtype.itemsize,
        weights,
    )


def decode(models: Models, runtime: Runtime, shapes: Shapes) -> Work:
    """JPEGs of 640 x 480 pixels to the model's squares, in this process."""
    folder, files = _photos(shapes)

    def call() -> Tensor:
        return torch.stack([decode_image(file, shapes.image_size) for file in files])

    moved = sum(file.stat().st_size for file in files) + 3 * shapes.batch * shapes.image_size**2
    weakref.finalize(call, folder.cleanup)
    return Work(call, shapes.batch, 0.0, float(moved), 0)


def end_to_end(models: Models, runtime: Runtime, shapes: Shapes) -> Work:
    """From JPEGs to the scores of each image with its texts, one stage after another."""
    first, matching = decode(models, runtime, shapes), itm(models, runtime, shapes)
    runner, match = models.retrieval(runtime), _matching(models, runtime, shapes)
    stages: dict[str, list[float]] = {"decode": [], "encode images": [], "match": []}

    def call() -> Tensor:
        begin = time.perf_counter()
        pixels = first.call()
        decoded = time.perf_counter()
        _, tokens = runner.embed_images(pixels)
        runtime.synchronize()
        encoded = time.perf_counter()
        scores = match(tokens)
        for name, seconds in zip(stages, np.diff([begin, decoded, encoded, time.perf_counter()]), strict=True):
            stages[name].append(float(seconds))
        return scores

    projection = 2 * models.config.vision.width * models.config.embed_dim  # to the ITC embedding
    needed = matching.flops + shapes.batch * (runner.image_flops(1) + projection)
    weights = matching.parameters + sum(x.numel() for x in runner.plain.visual_encoder.parameters())
    moved = matching.moved + first.moved + (weights - matching.parameters) * runtime.dtype.itemsize
    return Work(call, shapes.texts, needed, moved, weights, stages)


def _photos(shapes: Shapes) -> tuple[tempfile.TemporaryDirectory[str], list[Path]]:
    """Generated JPEGs with the detail of photographs, in a temporary folder."""
    folder = tempfile.TemporaryDirectory()
    rng, files = np.random.default_rng(0), []
    for number in range(shapes.batch):
        coarse = Image.fromarray(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)).resize(
            PHOTO, Image.Resampling.BICUBIC
        )
        files.append(Path(folder.name) / f"{number}.jpg")
        coarse.save(files[-1], quality=90)
    return folder, files


def _answer_list(tokenizer: Tokenizer) -> list[str]:
    """Different answers of one or two words. As in VQAv2's list, there are 1.3 tokens for each."""
    words = [tokenizer.decode([token]) for token in range(tokenizer.vocab_size // 2, tokenizer.vocab_size - 2)]
    words = [word for word in words if word.isalpha()]
    rng, found = np.random.default_rng(0), dict.fromkeys(words[: ANSWERS * 7 // 10])
    for _ in range(20 * ANSWERS):
        if len(found) >= ANSWERS:
            break
        found[" ".join(rng.choice(words, 2).tolist())] = None
    return list(found)


def _texts_of(shapes: Shapes, image: int) -> Indices:
    return np.arange(image * shapes.texts_per_image, (image + 1) * shapes.texts_per_image)


def _image_tokens(models: Models, runtime: Runtime, count: int) -> Tensor:
    vision = models.config.vision
    return random_tokens(count, vision.num_tokens, vision.width, runtime.dtype, runtime.device)


def _text_parameters(config: ModelConfig) -> int:
    """Of all layers, cross-attention included."""
    text = config.text
    layer = 6 * text.width**2 + 2 * text.width * config.vision.width + 2 * text.width * text.intermediate_size
    return text.depth * layer
