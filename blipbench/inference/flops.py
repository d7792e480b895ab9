"""FLOPs that each part of an evaluation needs, from shapes. Only matrix products count; a multiply-add is two FLOPs.

"Needed" means what the score depends on: no padding, an image's keys and values once, only the first token in the last
text layer. These numbers balance units over ranks and give the share of peak, so unnecessary work lowers that share.
"""

import numpy as np
import numpy.typing as npt

from blipbench.models.config import ModelConfig, VisionConfig

Floats = npt.NDArray[np.float64]


def image_flops(config: VisionConfig) -> float:
    """The ViT on one image or frame."""
    return patch_embed_flops(config) + config.depth * (vit_attention_flops(config) + vit_mlp_flops(config))


def patch_embed_flops(config: VisionConfig) -> float:
    return float(2 * (config.num_tokens - 1) * 3 * config.patch_size**2 * config.width)


def vit_attention_flops(config: VisionConfig) -> float:
    """Self-attention of one block on one image, with its four projections."""
    tokens = config.num_tokens
    return float(8 * tokens * config.width**2 + 4 * tokens**2 * config.width)


def vit_mlp_flops(config: VisionConfig) -> float:
    """The MLP of one block on one image."""
    return float(16 * config.num_tokens * config.width**2)


def text_flops(config: ModelConfig, lengths: npt.ArrayLike) -> Floats:
    """The ITC embedding of texts of these lengths."""
    return _first_self_attention(config, lengths) + _layers(config, lengths, image_tokens=0)


def match_flops(config: ModelConfig, lengths: npt.ArrayLike, image_tokens: int) -> Floats:
    """ITM of one image with each text of these lengths, without `context_flops` and the first self-attention."""
    return _layers(config, lengths, image_tokens)


def reason_flops(config: ModelConfig, lengths: npt.ArrayLike, image_tokens: int) -> Floats:
    """Sentences of these lengths about two images each, without the two `context_flops` per pair of images."""
    return _first_self_attention(config, lengths) + _layers(config, lengths, image_tokens, images=2)


def context_flops(config: ModelConfig, image_tokens: int) -> float:
    """One image's cross-attention keys and values in all layers."""
    return float(config.text.depth * 2 * 2 * image_tokens * config.vision.width * config.text.width)


def question_flops(config: ModelConfig, lengths: npt.ArrayLike, image_tokens: int) -> Floats:
    """Encoding questions of these lengths, with the states of all tokens, without `context_flops` of the image."""
    length, text = np.asarray(lengths, dtype=np.float64), config.text
    per_token = 12 * text.width**2 + 4 * image_tokens * text.width + 4 * text.width * text.intermediate_size
    return text.depth * (length * per_token + 4 * length**2 * text.width)


def answer_flops(config: ModelConfig, lengths: npt.ArrayLike, nodes: float) -> Floats:
    """Decoding answers for questions of these lengths: [DEC] and `nodes` tokens below it for each question.

    The first layer's self-attention is the same for every question and is not counted. The attention to the few tokens
    of an answer is not counted either. [DEC] is alone and needs no query.
    """
    length, text = np.asarray(lengths, dtype=np.float64), config.text
    keys_values = text.depth * 4 * length * text.width**2
    self_attention = (text.depth - 1) * (8 * nodes + 6) * text.width**2
    per_node = 4 * text.width**2 + 4 * length * text.width + 4 * text.width * text.intermediate_size
    head = 2 * text.width**2 + 2 * text.width * text.vocab_size
    return keys_values + self_attention + (nodes + 1) * (text.depth * per_node + head)


def decoding_flops(config: ModelConfig, image_tokens: int, prompt: int, beams: int, steps: float) -> float:
    """A caption of `steps` tokens after a prompt of `prompt` tokens, without `context_flops` of the image.

    The prompt is read once. Each beam reads every later token except the last. Self-attention over so few tokens is not
    counted.
    """
    text = config.text
    per_token = 12 * text.width**2 + 4 * image_tokens * text.width + 4 * text.width * text.intermediate_size
    head = 2 * text.width**2 + 2 * text.width * text.vocab_size
    later = beams * (steps - 1)
    return (prompt + later) * text.depth * per_token + (1 + later) * head


def self_attention_flops(config: ModelConfig, lengths: npt.ArrayLike) -> float:
    """Self-attention of all tokens of texts of these lengths in one layer, with its four projections."""
    return float(_first_self_attention(config, lengths).sum())


def cross_attention_flops(config: ModelConfig, lengths: npt.ArrayLike, image_tokens: int) -> float:
    """Cross-attention of all tokens of texts of these lengths in one layer, without the keys and values."""
    width = config.text.width
    return float(np.sum(lengths)) * (4 * width**2 + 4 * image_tokens * width)


def _first_self_attention(config: ModelConfig, lengths: npt.ArrayLike) -> Floats:
    length, width = np.asarray(lengths, dtype=np.float64), config.text.width
    return 8 * length * width**2 + 4 * length**2 * width


def _layers(config: ModelConfig, lengths: npt.ArrayLike, image_tokens: int, images: int = 1) -> Floats:
    """Everything after the first layer's self-attention; in the last layer only the first token."""
    length, text = np.asarray(lengths, dtype=np.float64), config.text
    cross = images * (4 * text.width**2 + 4 * image_tokens * text.width) if image_tokens else 0
    after_self = cross + 4 * text.width * text.intermediate_size  # per token
    keys_values = 4 * text.width**2  # per token
    one_query = 4 * text.width**2  # query and output projection of one token
    full_layer = length * (keys_values + one_query + after_self) + 4 * length**2 * text.width
    last_layer = length * keys_values + one_query + after_self + 4 * length * text.width
    if text.depth == 1:
        return length * 0 + after_self
    return length * after_self + (text.depth - 2) * full_layer + last_layer
