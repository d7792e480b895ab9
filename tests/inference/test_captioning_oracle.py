"""transformers' BlipForConditionalGeneration as the judge: the same random weights give the same token ids.

It ranks hypotheses by their generated length: `length_rule` says so, except at length penalty 0, where the rules agree.
"""

import pytest
import torch
from random_captioner import SEP, random_captioner, transformers_captioner
from transformers import BlipForConditionalGeneration

from blipbench.config.models import load_model_config
from blipbench.data.images import normalise
from blipbench.device import make_runtime
from blipbench.inference.captioner import BlipCaptionRunner
from blipbench.inference.search import SearchSettings
from blipbench.models.config import ModelConfig, TextConfig, VisionConfig
from blipbench.models.tokenizer import load_tokenizer

SMALL = ModelConfig(
    name="small",
    vision=VisionConfig(width=64, depth=2, num_heads=4, image_size=64),
    text=TextConfig(width=64, depth=3, num_heads=4, intermediate_size=128),
)
PROMPT = "a picture of "
Pair = tuple[BlipCaptionRunner, BlipForConditionalGeneration]


def make_pair(config: ModelConfig, std: float, sep_logit: float) -> Pair:
    model = random_captioner(config, seed=0, std=std, sep_logit=sep_logit)
    runner = BlipCaptionRunner(model, load_tokenizer(None), make_runtime("cpu", "fp32"))
    return runner, transformers_captioner(model)


@pytest.fixture(scope="module")
def small() -> Pair:
    return make_pair(SMALL, std=0.08, sep_logit=2.0)


def random_pixels(count: int, size: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, size, size), generator=generator).to(torch.uint8)


def ours(runner: BlipCaptionRunner, pixels: torch.Tensor, prompt: str, settings: SearchSettings) -> list[list[int]]:
    return [caption.ids for caption in runner.caption(runner.encode_images(pixels), prompt, settings)]


def theirs(
    oracle: BlipForConditionalGeneration, pixels: torch.Tensor, prompt_ids: list[int], settings: SearchSettings
) -> list[list[int]]:
    """Image by image, without the padding that a batch would add; transformers cuts the prompt's last id off itself."""
    found = []
    for image in normalise(pixels):
        (ids,) = oracle.generate(
            image[None],
            torch.tensor([[*prompt_ids, SEP]]),
            num_beams=settings.num_beams,
            max_length=settings.max_length,
            min_length=settings.min_length,
            repetition_penalty=settings.repetition_penalty,
            length_penalty=settings.length_penalty,
            do_sample=False,
        ).tolist()
        found.append(ids)
    return found


@pytest.mark.parametrize("num_beams", [1, 3, 5])
@pytest.mark.parametrize("lengths", [(5, 20), (8, 12)])
@pytest.mark.parametrize("repetition_penalty", [1.0, 1.3])
@pytest.mark.parametrize(("length_rule", "length_penalty"), [("whole", 0.0), ("generated", 1.0), ("generated", 2.0)])
def test_token_ids_are_transformers(
    small: Pair,
    num_beams: int,
    lengths: tuple[int, int],
    repetition_penalty: float,
    length_rule: str,
    length_penalty: float,
) -> None:
    runner, oracle = small
    settings = SearchSettings(
        num_beams=num_beams,
        min_length=lengths[0],
        max_length=lengths[1],
        repetition_penalty=repetition_penalty,
        length_penalty=length_penalty,
        length_rule=length_rule,  # type: ignore[arg-type]
    )
    pixels = random_pixels(5, 64)
    expected = theirs(oracle, pixels, runner.prompt_ids(PROMPT), settings)
    assert ours(runner, pixels, PROMPT, settings) == expected


@pytest.mark.parametrize("prompt", ["", "a picture of ", "this is a long photograph of two"])
def test_prompts_of_any_length(small: Pair, prompt: str) -> None:
    runner, oracle = small
    settings = SearchSettings(max_length=16, length_penalty=0.0)
    pixels = random_pixels(4, 64)
    expected = theirs(oracle, pixels, runner.prompt_ids(prompt), settings)
    assert ours(runner, pixels, prompt, settings) == expected


def test_captions_end_at_different_steps(small: Pair) -> None:
    """Else nothing above would test how the batch shrinks."""
    runner, _ = small
    found = ours(runner, random_pixels(5, 64), PROMPT, SearchSettings(length_penalty=0.0))
    assert len({len(ids) for ids in found}) > 2


def test_base_size() -> None:
    runner, oracle = make_pair(load_model_config("base"), std=0.05, sep_logit=4.0)
    settings = SearchSettings(num_beams=3, max_length=12, length_rule="generated")
    pixels = random_pixels(1, 384)
    assert ours(runner, pixels, PROMPT, settings) == theirs(oracle, pixels, runner.prompt_ids(PROMPT), settings)
