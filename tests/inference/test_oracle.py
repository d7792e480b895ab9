"""transformers' own BLIP as the judge at base size, 384 px: random weights through `ckpt convert` into
BlipForImageTextRetrieval give the scores that ours give. Both get the same token ids, [CLS] first for ITC and [ENC] for
ITM.
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from goldens import relative_error
from make_checkpoint import make_checkpoint
from torch import Tensor
from transformers import BlipForImageTextRetrieval

from blipbench.config.models import load_model_config
from blipbench.data.images import normalise
from blipbench.device import make_runtime
from blipbench.inference.blip import BlipRunner
from blipbench.models.blip import BlipRetrieval
from blipbench.models.checkpoint import load_checkpoint, load_weights
from blipbench.models.conversion import convert_checkpoint
from blipbench.models.tokenizer import load_tokenizer

TOLERANCE = 1e-4
CLS, SEP, ENC, PAD = 101, 102, 30523, 0
LENGTHS = (5, 8, 8, 13, 21, 35)  # tokens with the first and [SEP]
IMAGES = 2


@dataclasses.dataclass(frozen=True)
class Scores:
    """ITM logits of 'match' [texts], the texts with one image each in turn, and ITC similarities [images, texts]."""

    itm: Tensor
    itc: Tensor


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("oracle") / "base.pth"
    yield make_checkpoint(load_model_config("base"), path, seed=0)
    path.unlink()  # 900 MB, which pytest would keep for three sessions


@pytest.fixture(scope="module")
def pixels() -> Tensor:
    """uint8 [images, 3, 384, 384], noise over a colour of the image's own."""
    generator = torch.Generator().manual_seed(0)
    colour = torch.randint(0, 192, (IMAGES, 3, 1, 1), generator=generator)
    return (colour + torch.randint(0, 64, (IMAGES, 3, 384, 384), generator=generator)).to(torch.uint8)


@pytest.fixture(scope="module")
def input_ids() -> list[list[int]]:
    """Random words, [CLS] first."""
    rng = np.random.default_rng(0)
    return [[CLS, *rng.integers(1000, 30000, length - 2).tolist(), SEP] for length in LENGTHS]


@pytest.fixture(scope="module")
def oracle(
    checkpoint: Path, pixels: Tensor, input_ids: list[list[int]], tmp_path_factory: pytest.TempPathFactory
) -> Scores:
    """From the public forward of transformers' class: all texts padded into one batch."""
    folder = tmp_path_factory.mktemp("oracle") / "transformers"
    convert_checkpoint(str(checkpoint), folder, "transformers")
    model = BlipForImageTextRetrieval.from_pretrained(folder).eval()
    for file in folder.iterdir():
        file.unlink()
    ids = torch.full((len(input_ids), max(LENGTHS)), PAD)
    for row, text in zip(ids, input_ids, strict=True):
        row[: len(text)] = torch.tensor(text)
    mask = (torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]).long()
    with_enc = ids.clone()
    with_enc[:, 0] = ENC
    images = normalise(pixels)
    with torch.inference_mode():
        itc = model(ids, pixel_values=images, attention_mask=mask, use_itm_head=False)[0]
        itm = model(with_enc, pixel_values=images.repeat(len(ids) // IMAGES, 1, 1, 1), attention_mask=mask)[0]
    return Scores(itm=itm[:, 1], itc=itc)


@pytest.fixture(scope="module")
def runner(checkpoint: Path) -> BlipRunner:
    loaded = load_checkpoint(str(checkpoint), config=load_model_config("base"))
    model = BlipRetrieval(loaded.config)
    load_weights(model, loaded, "retrieval_coco")
    return BlipRunner(model, load_tokenizer(), make_runtime("cpu", "fp32"))


def test_the_pairs_scores_differ_enough_to_tell_them_apart(oracle: Scores) -> None:
    for scores in (oracle.itm, oracle.itc):
        assert float(scores.std()) > 100 * TOLERANCE * float(scores.abs().max())


def test_the_fast_path_gives_the_scores_of_transformers(
    runner: BlipRunner, oracle: Scores, pixels: Tensor, input_ids: list[list[int]]
) -> None:
    images, tokens = runner.embed_images(pixels)
    texts = runner.embed_texts(runner.bank(input_ids), np.arange(len(input_ids)))
    assert relative_error(torch.from_numpy(images @ texts.T), oracle.itc) < TOLERANCE
    matcher = runner.matcher(input_ids)
    for image in range(IMAGES):
        mine = np.arange(image, len(input_ids), IMAGES)
        assert relative_error(matcher.score(tokens[image], mine), oracle.itm[image::IMAGES]) < TOLERANCE


def test_the_plain_path_gives_the_scores_of_transformers(
    runner: BlipRunner, oracle: Scores, pixels: Tensor, input_ids: list[list[int]]
) -> None:
    itm, itc = runner.plain_scores(pixels[1:], input_ids[1::IMAGES])
    assert relative_error(itm, oracle.itm[1::IMAGES]) < TOLERANCE
    assert relative_error(itc, oracle.itc[1, 1::IMAGES]) < TOLERANCE
