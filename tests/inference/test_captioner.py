"""The captioner's texts are the reference's: prompt cut off, spaces cleaned up."""

import dataclasses

import pytest
import torch
from caption_goldens import CASES, CaptionCase, golden_captioner, settings_of
from goldens import Golden

from blipbench.data.images import decode_image
from blipbench.errors import UsageError
from blipbench.inference.search import SearchSettings


@pytest.fixture(scope="module")
def case(golden: Golden) -> CaptionCase:
    return golden_captioner(golden)


@pytest.fixture(scope="module")
def pixels(golden: Golden) -> torch.Tensor:
    pictures = golden.pictures()
    return torch.stack([decode_image(pictures[i], 48) for i in golden.json("caption")["images"]])


@pytest.mark.parametrize("number", range(CASES))
def test_captions_are_the_references(case: CaptionCase, pixels: torch.Tensor, number: int) -> None:
    told = case.told["cases"][number]
    found = case.runner.caption(case.runner.encode_images(pixels), case.prompt, settings_of(told))
    assert [caption.text for caption in found] == told["captions"]


def test_the_plain_way_gives_the_same(case: CaptionCase, pixels: torch.Tensor) -> None:
    told = case.told["cases"][0]
    tokens = case.runner.plain_tokens(pixels[4:5])
    caption = case.runner.plain_caption(tokens, case.prompt, settings_of(told), seed=0)
    assert caption.text == told["captions"][4]
    assert caption.log_prob == pytest.approx(case.runner.plain_log_prob(tokens, caption.ids, case.prompt), rel=1e-5)


def test_the_plain_way_draws_with_the_same_seed(case: CaptionCase) -> None:
    settings = SearchSettings(method="nucleus")
    (fast,) = case.runner.caption(case.context[:1], case.prompt, settings, [7])
    assert case.runner.plain_caption(case.context[:1], case.prompt, settings, 7).ids == fast.ids


def test_without_a_prompt_the_whole_text_is_the_caption(case: CaptionCase) -> None:
    (caption,) = case.runner.caption(case.context[:1], "", SearchSettings())
    assert caption.ids[0] == case.runner.tokenizer.dec_id
    assert caption.text == case.runner.tokenizer.decode(caption.ids)


def test_a_caption_begins_with_no_space(case: CaptionCase) -> None:
    (caption,) = case.runner.caption(case.context[:1], "a picture of", SearchSettings())
    assert caption.text == case.told["cases"][1]["captions"][0]


def test_a_longer_caption_costs_more(case: CaptionCase) -> None:
    shorter, longer = (SearchSettings(max_length=length) for length in (10, 30))
    cost = case.runner.caption_flops
    assert case.runner.vision.flops < cost(case.prompt, shorter) < cost(case.prompt, longer)
    assert cost(case.prompt, dataclasses.replace(longer, method="greedy")) < cost(case.prompt, longer)


def test_a_prompt_that_fills_the_caption_is_refused(case: CaptionCase) -> None:
    with pytest.raises(UsageError, match="leave no room after the prompt"):
        case.runner.check("a " * 30, SearchSettings())
