"""Writes tiny CLIP and SigLIP models with random weights as transformers folders: weights, processor, tokenizer."""

import string
from pathlib import Path

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPTokenizer,
    PreTrainedTokenizerFast,
    SiglipConfig,
    SiglipImageProcessor,
    SiglipModel,
)

IMAGE_SIZE = 32
MAX_TOKENS = {"clip": 20, "siglip": 12}

_VISION = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": IMAGE_SIZE,
    "patch_size": 8,
}
_TEXT = {"hidden_size": 24, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}


def make_dual_encoder(family: str, folder: Path) -> Path:
    """Write the folder; weights are the same at every call."""
    torch.manual_seed(0)
    return {"clip": _make_clip, "siglip": _make_siglip}[family](folder)


def _make_clip(folder: Path) -> Path:
    letters = string.ascii_lowercase + string.digits + ",'"
    merges = [("t", "h"), ("th", "e</w>"), ("a", "n</w>"), ("i", "n"), ("in", "g</w>")]
    pieces = [*letters, *(f"{letter}</w>" for letter in letters), *(a + b for a, b in merges)]
    pieces += ["<|startoftext|>", "<|endoftext|>"]
    vocab = {piece: number for number, piece in enumerate(pieces)}
    text = {
        **_TEXT,
        "vocab_size": len(vocab),
        "max_position_embeddings": MAX_TOKENS["clip"],
        "bos_token_id": vocab["<|startoftext|>"],
        "eos_token_id": vocab["<|endoftext|>"],
        "pad_token_id": vocab["<|endoftext|>"],
    }
    config = CLIPConfig(text_config=text, vision_config=_VISION, projection_dim=16)
    _spread(CLIPModel(config)).save_pretrained(folder)
    square = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
    CLIPImageProcessor(size={"shortest_edge": IMAGE_SIZE}, crop_size=square).save_pretrained(folder)
    CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=MAX_TOKENS["clip"]).save_pretrained(folder)
    return folder


def _make_siglip(folder: Path) -> Path:
    """A word vocabulary stands for SigLIP's SentencePiece one, whose package is optional."""
    words = ["</s>", "<unk>", "a", "the", "and", "in", "on", "with", "two", "circle", "square", "white", "bar", "there"]
    backend = Tokenizer(WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>"))
    backend.pre_tokenizer = Whitespace()
    backend.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 0)])
    text = {
        **_TEXT,
        "hidden_size": 32,
        "vocab_size": len(words),
        "max_position_embeddings": MAX_TOKENS["siglip"],
        "projection_size": 32,
        "bos_token_id": None,
        "eos_token_id": 0,
        "pad_token_id": 0,
    }
    _spread(SiglipModel(SiglipConfig(text_config=text, vision_config=_VISION))).save_pretrained(folder)
    SiglipImageProcessor(size={"height": IMAGE_SIZE, "width": IMAGE_SIZE}).save_pretrained(folder)
    PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="</s>", pad_token="</s>", unk_token="<unk>", model_max_length=12
    ).save_pretrained(folder)
    return folder


def _spread(model: torch.nn.Module) -> torch.nn.Module:
    """Weights large enough that different inputs give different embeddings."""
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.15)
    return model
