"""FLOPs that each piece of an evaluation needs, counted from shapes: a multiply-add is two, only matrix products count.

"Needed" means what the score reads: no padding, keys and values of an image once, only the first token in the last
text layer. These numbers balance units over ranks and give the share of peak, so doing superfluous work lowers it.
"""

import numpy as np
import numpy.typing as npt

from blipbench.models.config import ModelConfig, VisionConfig

Floats = npt.NDArray[np.float64]


def image_flops(config: VisionConfig) -> float:
    """The ViT over one image or frame."""
    patches, tokens = config.num_tokens - 1, config.num_tokens
    embed = 2 * patches * 3 * config.patch_size**2 * config.width
    block = 2 * tokens * 12 * config.width**2 + 4 * tokens**2 * config.width
    return float(embed + config.depth * block)


def text_flops(config: ModelConfig, lengths: npt.ArrayLike) -> Floats:
    """The ITC embedding of texts of these lengths."""
    return _first_self_attention(config, lengths) + _layers(config, lengths, image_tokens=0)


def match_flops(config: ModelConfig, lengths: npt.ArrayLike, image_tokens: int) -> Floats:
    """ITM of one image with texts of these lengths, each; `context_flops` and the first self-attention come on top."""
    return _layers(config, lengths, image_tokens)


def reason_flops(config: ModelConfig, lengths: npt.ArrayLike, image_tokens: int) -> Floats:
    """Sentences of these lengths on two images each; two `context_flops` per pair of images come on top."""
    return _first_self_attention(config, lengths) + _layers(config, lengths, image_tokens, images=2)


def context_flops(config: ModelConfig, image_tokens: int) -> float:
    """One image's cross-attention keys and values in all layers."""
    return float(config.text.depth * 2 * 2 * image_tokens * config.vision.width * config.text.width)


def question_flops(config: ModelConfig, lengths: npt.ArrayLike, image_tokens: int) -> Floats:
    """Questions of these lengths encoded with all tokens' states; `context_flops` of the image comes on top."""
    length, text = np.asarray(lengths, dtype=np.float64), config.text
    per_token = 12 * text.width**2 + 4 * image_tokens * text.width + 4 * text.width * text.intermediate_size
    return text.depth * (length * per_token + 4 * length**2 * text.width)


def answer_flops(config: ModelConfig, lengths: npt.ArrayLike, nodes: float) -> Floats:
    """Answers decoded for questions of these lengths: [DEC], and `nodes` tokens below it for each question.

    The first layer's self-attention is the same for every question; attention to the few tokens of an answer is left
    out. [DEC], alone, asks for no query.
    """
    length, text = np.asarray(lengths, dtype=np.float64), config.text
    keys_values = text.depth * 4 * length * text.width**2
    self_attention = (text.depth - 1) * (8 * nodes + 6) * text.width**2
    per_node = 4 * text.width**2 + 4 * length * text.width + 4 * text.width * text.intermediate_size
    head = 2 * text.width**2 + 2 * text.width * text.vocab_size
    return keys_values + self_attention + (nodes + 1) * (text.depth * per_node + head)


def decoding_flops(config: ModelConfig, image_tokens: int, prompt: int, beams: int, steps: float) -> float:
    """A caption of `steps` tokens after a prompt of `prompt` tokens; `context_flops` of the image comes on top.

    The prompt is read once, every later token but the last by each beam. Self-attention over so few tokens is left out.
    """
    text = config.text
    per_token = 12 * text.width**2 + 4 * image_tokens * text.width + 4 * text.width * text.intermediate_size
    head = 2 * text.width**2 + 2 * text.width * text.vocab_size
    later = beams * (steps - 1)
    return (prompt + later) * text.depth * per_token + (1 + later) * head


def _first_self_attention(config: ModelConfig, lengths: npt.ArrayLike) -> Floats:
    length, width = np.asarray(lengths, dtype=np.float64), config.text.width
    return 8 * length * width**2 + 4 * length**2 * width


def _layers(config: ModelConfig, lengths: npt.ArrayLike, image_tokens: int, images: int = 1) -> Floats:
    """Everything after the first layer's self-attention, the last layer for the first token alone."""
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
