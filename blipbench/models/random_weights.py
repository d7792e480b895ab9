"""A retrieval model with random weights, as an official state dict: for speed measurements and tests at real sizes.

The tensors are made from the sizes alone, without building a model, and are the same for the same seed.
"""

import torch
from torch import Tensor

from blipbench.models.config import ModelConfig, TextConfig

_STD = 0.02  # of the reference's own initialisation
_MATCH_LOGIT_STD = 2.0  # so that ITM orders candidates, as a trained head does


def random_state_dict(config: ModelConfig, seed: int) -> dict[str, Tensor]:
    """Weights of the retrieval kind under official names, float32.

    Matrices and embeddings are normal (std 0.02), LayerNorms near 1 and 0; `itm_head` is scaled so that logits differ
    by a few units between pairs.
    """
    generator = torch.Generator().manual_seed(seed)
    state: dict[str, Tensor] = {"temp": torch.tensor(0.07)}
    for name, shape in _shapes(config).items():
        noise = torch.randn(shape, generator=generator)
        if name == "itm_head.weight":
            state[name] = noise * (_MATCH_LOGIT_STD / config.text.width**0.5)
        elif "norm" in name.lower() and name.endswith(".weight"):
            state[name] = 1.0 + _STD * noise
        else:
            state[name] = _STD * noise
    return state


def _shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    vision, text = config.vision, config.text
    shapes: dict[str, tuple[int, ...]] = {
        "visual_encoder.cls_token": (1, 1, vision.width),
        "visual_encoder.pos_embed": (1, vision.num_tokens, vision.width),
        "visual_encoder.patch_embed.proj.weight": (vision.width, 3, vision.patch_size, vision.patch_size),
        "visual_encoder.patch_embed.proj.bias": (vision.width,),
    }
    for layer in range(vision.depth):
        block = f"visual_encoder.blocks.{layer}"
        shapes |= _norm(f"{block}.norm1", vision.width)
        shapes |= _linear(f"{block}.attn.qkv", vision.width, 3 * vision.width)
        shapes |= _linear(f"{block}.attn.proj", vision.width, vision.width)
        shapes |= _norm(f"{block}.norm2", vision.width)
        shapes |= _linear(f"{block}.mlp.fc1", vision.width, 4 * vision.width)
        shapes |= _linear(f"{block}.mlp.fc2", 4 * vision.width, vision.width)
    shapes |= _norm("visual_encoder.norm", vision.width)
    shapes["text_encoder.embeddings.word_embeddings.weight"] = (text.vocab_size, text.width)
    shapes["text_encoder.embeddings.position_embeddings.weight"] = (text.max_positions, text.width)
    shapes |= _norm("text_encoder.embeddings.LayerNorm", text.width)
    for layer in range(text.depth):
        shapes |= _text_layer(f"text_encoder.encoder.layer.{layer}", text, vision.width)
    shapes |= _linear("vision_proj", vision.width, config.embed_dim)
    shapes |= _linear("text_proj", text.width, config.embed_dim)
    return shapes | _linear("itm_head", text.width, 2)


def _text_layer(layer: str, text: TextConfig, image_width: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for attention, context_width in (("attention", text.width), ("crossattention", image_width)):
        shapes |= _linear(f"{layer}.{attention}.self.query", text.width, text.width)
        shapes |= _linear(f"{layer}.{attention}.self.key", context_width, text.width)
        shapes |= _linear(f"{layer}.{attention}.self.value", context_width, text.width)
        shapes |= _linear(f"{layer}.{attention}.output.dense", text.width, text.width)
        shapes |= _norm(f"{layer}.{attention}.output.LayerNorm", text.width)
    shapes |= _linear(f"{layer}.intermediate.dense", text.width, text.intermediate_size)
    shapes |= _linear(f"{layer}.output.dense", text.intermediate_size, text.width)
    return shapes | _norm(f"{layer}.output.LayerNorm", text.width)


def _linear(name: str, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}
