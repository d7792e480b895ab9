"""transformers' BlipForQuestionAnswering as the judge: the same random weights give the same token ids and losses."""

from pathlib import Path

import numpy as np
import pytest
import torch
from goldens import relative_error
from random_vqa import SEP, random_vqa_checkpoint, transformers_vqa
from transformers import BlipForQuestionAnswering

from blipbench.data.images import normalise
from blipbench.device import make_runtime
from blipbench.inference.answering import BlipVqaRunner
from blipbench.inference.generated import GeneratedAnswers
from blipbench.inference.packing import pad
from blipbench.inference.ranking import AnswerRanker
from blipbench.inference.search import SearchSettings
from blipbench.models.blip import BlipVqa
from blipbench.models.checkpoint import load_weights
from blipbench.models.config import ModelConfig, TextConfig, VisionConfig
from blipbench.models.tokenizer import load_tokenizer

# transformers' decoder takes the ViT's width for the context of its cross-attention, so the widths must be equal.
SMALL = ModelConfig(
    name="small",
    vision=VisionConfig(width=64, depth=2, num_heads=4, image_size=64),
    text=TextConfig(width=64, depth=3, num_heads=4, intermediate_size=128),
)
LENGTHS = (6, 9, 6, 13, 4)
ENC, DEC, PAD = 30523, 30522, 0


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[BlipVqaRunner, BlipForQuestionAnswering]:
    folder: Path = tmp_path_factory.mktemp("vqa")
    checkpoint = random_vqa_checkpoint(SMALL, folder, seed=0, std=0.15, sep_logit=5.0)
    model = BlipVqa(checkpoint.config)
    load_weights(model, checkpoint, "vqa")
    runner = BlipVqaRunner(model, load_tokenizer(None), make_runtime("cpu", "fp32"))
    return runner, transformers_vqa(checkpoint, folder / "transformers")


@pytest.fixture(scope="module")
def questions() -> list[list[int]]:
    rng = np.random.default_rng(0)
    return [[ENC, *rng.integers(1000, 30000, length - 2).tolist(), SEP] for length in LENGTHS]


@pytest.fixture(scope="module")
def pixels() -> torch.Tensor:
    return torch.randint(0, 256, (len(LENGTHS), 3, 64, 64), generator=torch.Generator().manual_seed(0)).to(torch.uint8)


@pytest.mark.parametrize("num_beams", [1, 3, 5])
@pytest.mark.parametrize("min_length", [1, 4])
@pytest.mark.parametrize("length_penalty", [0.0, 1.0])
def test_generated_ids_are_transformers(
    models: tuple[BlipVqaRunner, BlipForQuestionAnswering],
    questions: list[list[int]],
    pixels: torch.Tensor,
    num_beams: int,
    min_length: int,
    length_penalty: float,
) -> None:
    runner, oracle = models
    settings = SearchSettings(
        num_beams=num_beams,
        max_length=10,
        min_length=min_length,
        length_penalty=length_penalty,
        length_rule="generated",
    )
    each = np.arange(len(questions))
    got = GeneratedAnswers(runner, questions, settings).answer(runner.encode_images(pixels), each, each)
    lengths = set()
    for question, image, answer in zip(questions, normalise(pixels), got, strict=True):
        (expected,) = oracle.generate(
            torch.tensor([question]),
            image[None],
            num_beams=num_beams,
            max_length=10,
            min_length=min_length,
            length_penalty=length_penalty,
            do_sample=False,
        ).tolist()
        assert answer.tokens == [token for token in expected[1:] if token not in (SEP, PAD)]
        lengths.add(len(answer.tokens))
    assert len(lengths) > 1, "all answers have one length, so nothing of the search's end is tested"


def test_ranked_losses_are_transformers(
    models: tuple[BlipVqaRunner, BlipForQuestionAnswering], questions: list[list[int]], pixels: torch.Tensor
) -> None:
    runner, oracle = models
    rng = np.random.default_rng(1)
    answers = [rng.integers(1000, 1020, rng.integers(1, 5)).tolist() for _ in range(40)]
    each = np.arange(len(questions))
    states = runner.encode_questions(runner.encode_images(pixels), runner.bank(questions), each, each)
    ids, mask = pad([[DEC, *answer, SEP] for answer in answers], PAD)
    for ranking, question, image in zip(
        AnswerRanker(runner.decoder, answers, DEC).rank(states, len(answers)), questions, normalise(pixels), strict=True
    ):
        with torch.inference_mode():
            image_states = oracle.vision_model(image[None])[0]
            context = oracle.text_encoder(torch.tensor([question]), encoder_hidden_states=image_states)[0]
            expected = oracle.text_decoder(
                ids,
                attention_mask=mask,
                encoder_hidden_states=context.repeat(len(answers), 1, 1),
                labels=ids.masked_fill(mask == 0, -100),
                reduction="none",
            ).loss
        assert relative_error(torch.from_numpy(ranking.losses), expected[ranking.candidates]) < 1e-5
