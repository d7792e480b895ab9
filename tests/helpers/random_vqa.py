"""A VQA model with random weights, as a checkpoint of ours and as transformers' class, for oracle and speed tests."""

from pathlib import Path

import torch
from random_weights import fill_randomly
from transformers import BlipForQuestionAnswering

from blipbench.models.blip import BlipVqa
from blipbench.models.checkpoint import Checkpoint, load_checkpoint
from blipbench.models.config import ModelConfig
from blipbench.models.conversion import convert_checkpoint, save_checkpoint
from blipbench.models.med import LABEL_SMOOTHING

SEP = 102  # of bert-base-uncased


def random_vqa_checkpoint(
    config: ModelConfig, folder: Path, seed: int, std: float = 0.02, sep_logit: float = 0.0
) -> Checkpoint:
    """`sep_logit` lets texts end sooner or later."""
    model = BlipVqa(config)
    fill_randomly(model, seed, std)
    with torch.no_grad():
        model.text_decoder.cls.predictions.bias[SEP] += sep_logit
    path = folder / "vqa.pth"
    save_checkpoint(model.state_dict(), config, path)
    return load_checkpoint(str(path), config=config)


def transformers_vqa(checkpoint: Checkpoint, folder: Path) -> BlipForQuestionAnswering:
    """transformers' class with the same weights, and the reference's label smoothing."""
    convert_checkpoint(str(checkpoint.path), folder, "transformers", config=checkpoint.config)
    model: BlipForQuestionAnswering = BlipForQuestionAnswering.from_pretrained(folder)
    model.text_decoder.label_smoothing = LABEL_SMOOTHING
    return model.eval()
