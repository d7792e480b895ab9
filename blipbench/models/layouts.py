"""The two ways to name BLIP's tensors: the official state dict, and transformers' BLIP classes.

In: tensors by name in one layout. Out: the same tensors by name in the other, and the config.json with which
transformers computes the same numbers. The text transformer has the same names in both.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from blipbench.errors import CheckpointError, UsageError
from blipbench.models.config import ModelConfig
from blipbench.models.sizes import shape_of
from blipbench.models.tokenizer import Tokenizer

# The first prefix that fits is replaced; (official, transformers).
_VISION_PREFIXES = (
    ("visual_encoder.cls_token", "vision_model.embeddings.class_embedding"),
    ("visual_encoder.pos_embed", "vision_model.embeddings.position_embedding"),
    ("visual_encoder.patch_embed.proj.", "vision_model.embeddings.patch_embedding."),
    ("visual_encoder.norm.", "vision_model.post_layernorm."),
    ("visual_encoder.blocks.", "vision_model.encoder.layers."),
)
_BLOCK_PARTS = (
    (".attn.qkv.", ".self_attn.qkv."),
    (".attn.proj.", ".self_attn.projection."),
    (".norm1.", ".layer_norm1."),
    (".norm2.", ".layer_norm2."),
)

# By kind: transformers' class, and the official modules that it holds.
_CLASSES = {
    "itm": "BlipForImageTextRetrieval",
    "retrieval": "BlipForImageTextRetrieval",
    "pretrain": "BlipForImageTextRetrieval",
    "caption": "BlipForConditionalGeneration",
    "vqa": "BlipForQuestionAnswering",
}
_MODULES = {
    "BlipForImageTextRetrieval": ("visual_encoder", "text_encoder", "vision_proj", "text_proj", "itm_head"),
    "BlipForConditionalGeneration": ("visual_encoder", "text_decoder"),
    "BlipForQuestionAnswering": ("visual_encoder", "text_encoder", "text_decoder"),
}

# The decoder's output layer is the word embedding; files of transformers leave the copies out: (copy, what it equals).
_TIED = (
    ("text_decoder.cls.predictions.decoder.weight", "text_decoder.bert.embeddings.word_embeddings.weight"),
    ("text_decoder.cls.predictions.decoder.bias", "text_decoder.cls.predictions.bias"),
)


def transformers_name(name: str) -> str:
    """The name in transformers of an official tensor."""
    return _renamed(name, _VISION_PREFIXES, _BLOCK_PARTS)


def official_name(name: str) -> str:
    """The official name of a transformers tensor."""
    return _renamed(name, _swapped(_VISION_PREFIXES), _swapped(_BLOCK_PARTS))


def is_transformers(names: set[str]) -> bool:
    """Whether tensors are named as transformers' BLIP classes do."""
    return any(name.startswith("vision_model.") for name in names)


def to_transformers(path: Path, tensors: dict[str, Tensor], kind: str) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors that transformers' class for `kind` has, by its names; and the official names that it leaves out.

    `path` names the checkpoint in messages. Raises UsageError if there is no such class or it cannot hold this model,
    CheckpointError for an untied decoder or a damaged tensor.
    """
    modules = _MODULES[transformers_class(kind)]
    copies = dict(_TIED)
    kept: dict[str, Tensor] = {}
    left_out: list[str] = []
    for name, tensor in tensors.items():
        if name.split(".")[0] not in modules or name.endswith(".position_ids"):
            left_out.append(name)
        elif name not in copies:
            kept[transformers_name(name)] = tensor
        elif not _equal(tensor, tensors.get(copies[name])):
            raise CheckpointError(
                f"{path}: {name} is not {copies[name]}, as transformers' BLIP ties them; keep another layout"
            )
    image_width = shape_of(path, tensors, "visual_encoder.patch_embed.proj.weight", 4)[0]
    for name in kept:
        if name.endswith("crossattention.self.key.weight"):
            _, context_width = shape_of(path, tensors, name, 2)
            if context_width != image_width:
                raise UsageError(
                    f"{path}: {name} attends to {context_width} wide states, but transformers gives every "
                    f"cross-attention the ViT's width, {image_width}; this model has no transformers layout"
                )
    return kept, left_out


def to_official(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Transformers' tensors by their official names, with the decoder's tied copies that its files leave out."""
    official = {official_name(name): tensor for name, tensor in tensors.items()}
    for copy, original in _TIED:
        if original in official:
            official.setdefault(copy, official[original])
    return official


def transformers_class(kind: str) -> str:
    """The class of transformers that runs a checkpoint of this kind. Raises UsageError where there is none."""
    if kind not in _CLASSES:
        raise UsageError(f"transformers has no class for a {kind} checkpoint; keep --layout official or safetensors")
    return _CLASSES[kind]


def transformers_config(config: ModelConfig, kind: str, tokenizer: Tokenizer, intermediate_size: int) -> dict[str, Any]:
    """The config.json for transformers' class of `kind`; `intermediate_size` is that of the ViT's MLP."""
    from transformers import BlipConfig  # takes seconds to import, and only a conversion needs it

    text = {
        "vocab_size": config.text.vocab_size,
        "hidden_size": config.text.width,
        "encoder_hidden_size": config.vision.width,
        "intermediate_size": config.text.intermediate_size,
        "num_hidden_layers": config.text.depth,
        "num_attention_heads": config.text.num_heads,
        "max_position_embeddings": config.text.max_positions,
        "layer_norm_eps": config.text.layer_norm_eps,
        "hidden_act": "gelu",
        "bos_token_id": tokenizer.dec_id,
        "eos_token_id": tokenizer.sep_id,
        "sep_token_id": tokenizer.sep_id,
        "pad_token_id": tokenizer.pad_id,
    }
    vision = {
        "hidden_size": config.vision.width,
        "intermediate_size": intermediate_size,
        "num_hidden_layers": config.vision.depth,
        "num_attention_heads": config.vision.num_heads,
        "image_size": config.vision.image_size,
        "patch_size": config.vision.patch_size,
        "layer_norm_eps": 1e-6,  # transformers' default, 1e-5, is not what BLIP was trained with
        "hidden_act": "gelu",
    }
    settings: dict[str, Any] = BlipConfig(
        text_config=text, vision_config=vision, image_text_hidden_size=config.embed_dim
    ).to_dict()
    return {**settings, "architectures": [transformers_class(kind)]}


def _equal(tensor: Tensor, other: Tensor | None) -> bool:
    return other is not None and tensor.dtype == other.dtype and torch.equal(tensor, other)


def _swapped(pairs: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    return tuple((b, a) for a, b in pairs)


def _renamed(name: str, prefixes: tuple[tuple[str, str], ...], parts: tuple[tuple[str, str], ...]) -> str:
    for old, new in prefixes:
        if name.startswith(old):
            name = new + name.removeprefix(old)
            for old_part, new_part in parts:
                name = name.replace(old_part, new_part)
            return name
    return name
