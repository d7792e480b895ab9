"""A captioner with random weights, as our model and as transformers' class, for oracle and speed tests."""

from pathlib import Path

import torch
from random_weights import fill_randomly
from transformers import BlipConfig, BlipForConditionalGeneration

from blipbench.models.blip import BlipCaptioner
from blipbench.models.config import ModelConfig
from blipbench.models.layouts import to_transformers, transformers_config
from blipbench.models.tokenizer import load_tokenizer

SEP = 102  # of bert-base-uncased


def random_captioner(config: ModelConfig, seed: int, std: float = 0.02, sep_logit: float = 0.0) -> BlipCaptioner:
    """`sep_logit` lets captions end sooner."""
    with torch.device("meta"):  # whose initialisation costs nothing
        model = BlipCaptioner(config).requires_grad_(False)
    model.to_empty(device="cpu")
    head = model.text_decoder.cls.predictions
    head.decoder.weight, head.bias = model.text_decoder.bert.embeddings.word_embeddings.weight, head.decoder.bias
    fill_randomly(model, seed, std)
    head.bias[SEP] += sep_logit
    return model.eval()


def transformers_captioner(model: BlipCaptioner) -> BlipForConditionalGeneration:
    """transformers' class with the same weights."""
    mlp_width = model.visual_encoder.blocks[0].mlp.fc1.out_features
    settings = transformers_config(model.config, "caption", load_tokenizer(None), mlp_width)
    weights, _ = to_transformers(Path("random"), model.state_dict(), "caption")
    theirs: BlipForConditionalGeneration = BlipForConditionalGeneration.from_pretrained(
        None, config=BlipConfig.from_dict(settings), state_dict=weights
    )
    return theirs.eval()
