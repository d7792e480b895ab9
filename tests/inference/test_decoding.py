"""Decoding gives the reference's texts, token for token, and the model's own log-probabilities."""

import dataclasses

import pytest
import torch
from caption_goldens import CASES, CaptionCase, golden_captioner, settings_of
from goldens import Golden, relative_error

from blipbench.device import Runtime
from blipbench.errors import UsageError
from blipbench.inference.decoding import FastDecoder, PlainDecoding, generate, run_search, search
from blipbench.inference.packing import pad
from blipbench.inference.search import SearchSettings, adjust, nucleus
from blipbench.models.med import IGNORED, language_model_loss

TOLERANCE = 1e-5
NUCLEUS = SearchSettings(method="nucleus", repetition_penalty=1.1)


@pytest.fixture(scope="module")
def case(golden: Golden) -> CaptionCase:
    return golden_captioner(golden)


@pytest.mark.parametrize("number", range(CASES))
def test_texts_are_the_references(case: CaptionCase, number: int) -> None:
    told = case.told["cases"][number]
    found = generate(case.runner.decoder, case.context, None, case.prompt_ids, settings_of(told))
    assert found == told["token_ids"]


@pytest.mark.parametrize("number", range(CASES))
def test_the_plain_way_gives_the_same(case: CaptionCase, number: int) -> None:
    told = case.told["cases"][number]
    decoding = PlainDecoding(case.runner.plain.text_decoder, case.context)
    sep_id = case.runner.tokenizer.sep_id
    found = run_search(decoding, case.prompt_ids, settings_of(told), sep_id, range(len(case.context)))
    assert [hypothesis.ids for hypothesis in found] == told["token_ids"]


def test_a_text_does_not_hang_on_its_batch(case: CaptionCase) -> None:
    told = case.told["cases"][0]
    alone = [
        generate(case.runner.decoder, image[None], None, case.prompt_ids, settings_of(told))[0]
        for image in case.context
    ]
    assert alone == told["token_ids"]


def test_a_small_token_budget_decodes_a_few_at_a_time(case: CaptionCase) -> None:
    told = case.told["cases"][0]
    runtime: Runtime = dataclasses.replace(case.runner.runtime, batch_tokens=3 * 20 * 3)
    decoder = FastDecoder(case.runner.plain.text_decoder, case.runner.tokenizer.sep_id, runtime)
    assert decoder.batch(case.context.shape[1], settings_of(told)) == 3
    assert generate(decoder, case.context, None, case.prompt_ids, settings_of(told)) == told["token_ids"]


@pytest.mark.parametrize("method", ["beam", "greedy", "nucleus"])
def test_log_probabilities_are_the_models(case: CaptionCase, method: str) -> None:
    settings = SearchSettings(method=method, repetition_penalty=1.3)  # type: ignore[arg-type]
    found = search(case.runner.decoder, case.context, None, case.prompt_ids, settings)
    plain = [
        case.runner.plain_log_prob(image[None], hypothesis.ids, case.prompt)
        for image, hypothesis in zip(case.context, found, strict=True)
    ]
    assert relative_error(torch.tensor([h.log_prob for h in found]), torch.tensor(plain)) < TOLERANCE


def test_masked_context_is_not_read(case: CaptionCase) -> None:
    """Contexts of 10, 9, ... tokens, padded with noise, give what they give alone."""
    settings = SearchSettings(max_length=12)
    padded, mask = case.context.clone(), torch.ones(case.context.shape[:2], dtype=torch.int64)
    alone = []
    for i, context in enumerate(case.context):
        length = context.shape[0] - i
        padded[i, length:], mask[i, length:] = 100.0, 0
        alone += generate(case.runner.decoder, context[None, :length], None, case.prompt_ids, settings)
    assert generate(case.runner.decoder, padded, mask, case.prompt_ids, settings) == alone
    assert generate(case.runner.decoder, padded, None, case.prompt_ids, settings) != alone
    assert mask.sum() == sum(range(3, 11)), "the caller's mask is left alone"


def test_beam_search_with_one_beam_is_greedy(case: CaptionCase) -> None:
    one_beam, greedy = SearchSettings(num_beams=1), SearchSettings(method="greedy")
    decoder, context, prompt = case.runner.decoder, case.context, case.prompt_ids
    assert generate(decoder, context, None, prompt, one_beam) == generate(decoder, context, None, prompt, greedy)


@pytest.mark.parametrize("top_p", [0.9, 0.9999])
def test_what_nucleus_sampling_draws_from_is_the_references(case: CaptionCase, top_p: float) -> None:
    expected = case.tensors[f"nucleus_probs_first_step_top_p_{top_p}"]  # [4, vocabulary]
    decoding = case.runner.decoder.begin(case.context[: len(expected)], None, NUCLEUS)
    with torch.inference_mode():
        logits = adjust(decoding.start(case.prompt_ids), torch.tensor([case.prompt_ids] * len(expected)), NUCLEUS, 9)
    probabilities, tokens = nucleus(logits, top_k=50, top_p=top_p)
    assert relative_error(torch.zeros_like(expected).scatter_(1, tokens, probabilities), expected) < TOLERANCE
    kept = next(told["kept_tokens_first_step"] for told in case.told["nucleus"] if told["top_p"] == top_p)
    assert (probabilities > 0).sum(1).tolist() == kept


def test_nucleus_sampling_of_the_likeliest_alone_is_the_references(case: CaptionCase) -> None:
    """The reference's draw was replaced by the likeliest token, which top_k 1 leaves no choice but to take."""
    settings = dataclasses.replace(NUCLEUS, top_k=1)
    found = generate(case.runner.decoder, case.context[:4], None, case.prompt_ids, settings)
    assert found == case.told["nucleus"][0]["token_ids"]


def test_what_is_sampled_hangs_on_the_images_seed_alone(case: CaptionCase) -> None:
    decoder, seeds = case.runner.decoder, list(range(40, 48))
    together = search(decoder, case.context, None, case.prompt_ids, NUCLEUS, seeds)
    alone = [
        search(decoder, case.context[i : i + 1], None, case.prompt_ids, NUCLEUS, [seed])[0]
        for i, seed in enumerate(seeds)
    ]
    assert [h.ids for h in together] == [h.ids for h in alone]
    others = search(decoder, case.context, None, case.prompt_ids, NUCLEUS, [seed + 100 for seed in seeds])
    assert [h.ids for h in together] != [h.ids for h in others]


def test_a_prompt_that_leaves_no_room_is_refused(case: CaptionCase) -> None:
    with pytest.raises(UsageError, match="max_length: 4 tokens leave no room after the prompt of 4 tokens"):
        generate(case.runner.decoder, case.context, None, case.prompt_ids, SearchSettings(max_length=4))


def test_more_tokens_than_positions_are_refused(case: CaptionCase) -> None:
    with pytest.raises(UsageError, match="max_length: 65 exceeds the model's 64 positions"):
        generate(case.runner.decoder, case.context, None, case.prompt_ids, SearchSettings(max_length=65))


def test_the_language_model_loss_is_the_references(case: CaptionCase) -> None:
    tokenizer = case.runner.tokenizer
    encoded = tokenizer.encode(case.told["loss_captions"], 40)
    ids, mask = pad([[tokenizer.dec_id, *text[1:]] for text in encoded], tokenizer.pad_id)
    labels = ids.masked_fill(mask == 0, IGNORED)
    labels[:, : len(case.prompt_ids)] = IGNORED
    with torch.inference_mode():
        losses = language_model_loss(case.runner.plain.text_decoder(ids, mask, case.context), labels)
    targets = (labels[:, 1:] != IGNORED).sum(1)
    assert relative_error(losses / targets, case.tensors["lm_loss_each"]) < TOLERANCE
    assert relative_error(losses.sum() / targets.sum(), case.tensors["lm_loss_batch"]) < TOLERANCE
