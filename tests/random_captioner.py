"""A captioner with random weights, as our model and as transformers' class, for oracle and speed tests."""

import torch
from torch import nn
from transformers import BlipConfig, BlipForConditionalGeneration

from blipbench.models.blip import BlipCaptioner
from blipbench.models.config import ModelConfig
from blipbench.models.layouts import to_transformers, transformers_config
from blipbench.models.tokenizer import load_tokenizer

SEP = 102  # of bert-base-uncased


def random_captioner(config: ModelConfig, seed: int, std: float = 0.02, sep_logit: float = 0.0) -> BlipCaptioner:
    """Matrices, embeddings and biases normal, LayerNorms near 1 and 0; `sep_logit` lets captions end sooner."""
    with torch.device("meta"):  # whose initialisation costs nothing
        model = BlipCaptioner(config).requires_grad_(False)
    model.to_empty(device="cpu")
    head = model.text_decoder.cls.predictions
    head.decoder.weight, head.bias = model.text_decoder.bert.embeddings.word_embeddings.weight, head.decoder.bias
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        is_scale = "norm" in name.lower() and name.endswith("weight")
        nn.init.normal_(parameter, 1.0 if is_scale else 0.0, std, generator)
    head.bias[SEP] += sep_logit
    return model.eval()


def transformers_captioner(model: BlipCaptioner) -> BlipForConditionalGeneration:
    """transformers' class with the same weights."""
    mlp_width = model.visual_encoder.blocks[0].mlp.fc1.out_features
    settings = transformers_config(model.config, "caption", load_tokenizer(None), mlp_width)
    weights, _ = to_transformers(model.state_dict(), "caption")
    theirs: BlipForConditionalGeneration = BlipForConditionalGeneration.from_pretrained(
        None, config=BlipConfig.from_dict(settings), state_dict=weights
    )
    return theirs.eval()
