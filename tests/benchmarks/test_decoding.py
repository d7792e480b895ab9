"""Speed of captioning at base size, 384 px, 3 beams, 8 images at once, compared with two baselines in the same run.

The first baseline is the reference's way, built from transformers' modules. It repeats image states for every beam and
caches self-attention, but projects the keys and values of the cross-attention again at every step. A full run would
take minutes. So it is timed over the prompt and two steps, whose texts must equal ours, and all later steps are assumed
to take as long as these two (although their self-attention is a few tokens longer). The second baseline is the
`generate` of the installed transformers, which caches these keys and values once per beam.

Weights are random and no text may end early, so every caption has 20 tokens.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from random_captioner import random_captioner, transformers_captioner
from torch import Tensor
from transformers import BlipForConditionalGeneration, DynamicCache, EncoderDecoderCache

from blipbench.config.models import load_model_config
from blipbench.data.images import normalise
from blipbench.device import make_runtime
from blipbench.inference.beams import beam_search
from blipbench.inference.captioner import BlipCaptionRunner
from blipbench.inference.flops import context_flops, decoding_flops
from blipbench.inference.peak import measure_peak
from blipbench.inference.search import SearchSettings
from blipbench.models.tokenizer import load_tokenizer

pytestmark = pytest.mark.benchmark_suite

IMAGES, BEAMS, MAX_LENGTH = 8, 3, 20
PROMPT = "a picture of "
SETTINGS = SearchSettings(num_beams=BEAMS, max_length=MAX_LENGTH, min_length=MAX_LENGTH)


class ReferenceDecoding:
    """The state of the reference's beam search, with the seconds of each step."""

    def __init__(self, model: BlipForConditionalGeneration, states: Tensor) -> None:
        self.model = model.text_decoder
        self.states = states.repeat_interleave(BEAMS, dim=0)  # [images * beams, T, width]
        self.cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        self.seconds: list[float] = []

    def start(self, prompt_ids: Sequence[int]) -> Tensor:
        return self._logits(torch.tensor(prompt_ids).expand(len(self.states), -1))[::BEAMS]

    def step(self, tokens: Tensor, parents: Tensor, contexts: Sequence[int]) -> Tensor:
        # In the step after the prompt, which is the same for all beams, a row's parent is its image.
        rows = parents * (BEAMS if len(self.seconds) == 1 else 1)
        self.cache.self_attention_cache.reorder_cache(rows)
        self.cache = EncoderDecoderCache(self.cache.self_attention_cache, DynamicCache())
        return self._logits(tokens[:, None])

    def _logits(self, input_ids: Tensor) -> Tensor:
        start = time.perf_counter()
        out = self.model(
            input_ids=input_ids,
            encoder_hidden_states=self.states,
            encoder_attention_mask=torch.ones(self.states.shape[:2], dtype=torch.int64),
            past_key_values=self.cache,
            use_cache=True,
        )
        self.seconds.append(time.perf_counter() - start)
        logits: Tensor = out.logits[:, -1]
        return logits


@pytest.fixture(scope="module")
def models() -> tuple[BlipCaptionRunner, BlipForConditionalGeneration]:
    model = random_captioner(load_model_config("base"), seed=0)
    theirs = transformers_captioner(model)
    return BlipCaptionRunner(model, load_tokenizer(None), make_runtime("cpu", "fp32")), theirs


def seconds_of(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def reference_seconds(runner: BlipCaptionRunner, theirs: BlipForConditionalGeneration, tokens: Tensor) -> float:
    """The time to caption all images, without the image encoder."""
    prompt = runner.prompt_ids(PROMPT)
    few = SearchSettings(num_beams=BEAMS, max_length=len(prompt) + 3, min_length=len(prompt) + 3)
    decoding = ReferenceDecoding(theirs, tokens)
    found = beam_search(decoding, prompt, few, runner.tokenizer.sep_id)
    assert [hypothesis.ids for hypothesis in found] == [c.ids for c in runner.caption(tokens, PROMPT, few)]
    first, *later = decoding.seconds
    return first + (MAX_LENGTH - len(prompt) - 1) * sum(later) / len(later)


@torch.inference_mode()
def test_captioning(benchmark: Any, models: tuple[BlipCaptionRunner, BlipForConditionalGeneration]) -> None:
    runner, theirs = models
    pixels = torch.randint(0, 256, (IMAGES, 3, 384, 384), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    tokens = runner.encode_images(pixels)
    encoding = seconds_of(lambda: runner.encode_images(pixels)) / IMAGES
    prompt = runner.prompt_ids(PROMPT)

    captions = benchmark.pedantic(lambda: runner.caption(tokens, PROMPT, SETTINGS), rounds=3, warmup_rounds=1)
    assert all(len(caption.ids) == MAX_LENGTH for caption in captions)
    decoding = benchmark.stats.stats.median / IMAGES

    reference = reference_seconds(runner, theirs, tokens) / IMAGES
    reference_encoding = seconds_of(lambda: theirs.vision_model(normalise(pixels[:2]))) / 2
    today = (
        seconds_of(
            lambda: theirs.text_decoder.generate(
                input_ids=torch.tensor(IMAGES * [prompt]),
                encoder_hidden_states=tokens,
                encoder_attention_mask=torch.ones(tokens.shape[:2], dtype=torch.int64),
                eos_token_id=runner.tokenizer.sep_id,
                pad_token_id=runner.tokenizer.pad_id,
                num_beams=BEAMS,
                max_length=MAX_LENGTH,
                min_length=MAX_LENGTH,
                do_sample=False,
            )
        )
        / IMAGES
    )

    config, image_tokens = runner.config, runner.vision.num_tokens
    needed = context_flops(config, image_tokens) + decoding_flops(
        config, image_tokens, len(prompt), BEAMS, MAX_LENGTH - len(prompt)
    )
    share = needed / decoding / measure_peak(runner.runtime)
    ratio, whole = reference / decoding, (reference + reference_encoding) / (decoding + encoding)
    benchmark.extra_info |= {"ratio": ratio, "with_image_encoder": whole, "share_of_peak": share}
    print(
        f"\ncaptioning, base, 384 px, fp32, {BEAMS} beams, {IMAGES} images, {MAX_LENGTH} tokens, "
        f"{torch.get_num_threads()} threads: {decoding * 1e3:.0f} ms per image, {needed / decoding / 1e9:.0f} GFLOP/s, "
        f"{share:.2f} of peak; the reference's way {reference:.1f} s: {ratio:.1f} times; transformers' generate "
        f"{today * 1e3:.0f} ms: {today / decoding:.1f} times; with the image encoder ({encoding * 1e3:.0f} ms, the "
        f"reference's {reference_encoding * 1e3:.0f}) {whole:.1f} times the reference's way"
    )
    assert ratio >= 10
    assert whole >= 4
    assert today > decoding
