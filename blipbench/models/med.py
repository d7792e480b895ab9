"""MED, BLIP's text transformer, as an encoder: BERT layers with a cross-attention between self-attention and MLP.

Mode 'text' (`image_embeds` None) skips the cross-attention and starts with [CLS]; mode 'multimodal' attends to image
tokens and starts with [ENC] (BLIP, section 3.1). This is the plain, padded and masked form: what training and the
self-check use. `inference/` computes the same numbers without the padding. State-dict names are the official ones.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blipbench.models.config import TextConfig


class Projections(nn.Module):
    """Query from the text, key and value from what it attends to."""

    def __init__(self, width: int, context_width: int) -> None:
        super().__init__()
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(context_width, width)
        self.value = nn.Linear(context_width, width)


class Residual(nn.Module):
    """LayerNorm(dense(x) + residual): BERT is post-norm."""

    def __init__(self, in_width: int, width: int, eps: float) -> None:
        super().__init__()
        self.dense = nn.Linear(in_width, width)
        self.LayerNorm = nn.LayerNorm(width, eps=eps)

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        return self.LayerNorm(self.dense(x) + residual)


class Attention(nn.Module):
    """Multi-head attention of `hidden` over `context`, with its output projection and norm."""

    def __init__(self, config: TextConfig, context_width: int) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.self = Projections(config.width, context_width)
        self.output = Residual(config.width, config.width, config.layer_norm_eps)

    def forward(self, hidden: Tensor, context: Tensor, mask: Tensor | None) -> Tensor:
        def heads(x: Tensor) -> Tensor:
            return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # [batch, heads, tokens, head_dim]

        query, key, value = self.self.query(hidden), self.self.key(context), self.self.value(context)
        out = F.scaled_dot_product_attention(heads(query), heads(key), heads(value), attn_mask=mask)
        return self.output(out.transpose(1, 2).flatten(2), hidden)  # [batch, tokens, width]


class Intermediate(nn.Module):
    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.width, config.intermediate_size)

    def forward(self, hidden: Tensor) -> Tensor:
        return F.gelu(self.dense(hidden))


class Layer(nn.Module):
    def __init__(self, config: TextConfig, image_width: int) -> None:
        super().__init__()
        self.attention = Attention(config, config.width)
        self.crossattention = Attention(config, image_width)
        self.intermediate = Intermediate(config)
        self.output = Residual(config.intermediate_size, config.width, config.layer_norm_eps)

    def forward(self, hidden: Tensor, mask: Tensor, image_embeds: Tensor | None) -> Tensor:
        hidden = self.attention(hidden, hidden, mask)
        if image_embeds is not None:
            hidden = self.crossattention(hidden, image_embeds, None)
        return self.output(self.intermediate(hidden), hidden)


class Embeddings(nn.Module):
    """Word plus absolute position, then LayerNorm; BLIP has no token types."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.width)
        self.position_embeddings = nn.Embedding(config.max_positions, config.width)
        self.LayerNorm = nn.LayerNorm(config.width, eps=config.layer_norm_eps)

    def forward(self, input_ids: Tensor) -> Tensor:
        positions = torch.arange(input_ids.shape[1], device=input_ids.device)
        return self.LayerNorm(
            self.word_embeddings(input_ids) + self.position_embeddings(positions)
        )  # [batch, tokens, width]


class Layers(nn.Module):
    def __init__(self, config: TextConfig, image_width: int) -> None:
        super().__init__()
        self.layer = nn.ModuleList(Layer(config, image_width) for _ in range(config.depth))


class TextEncoder(nn.Module):
    """`image_width` is the ViT's width: what the cross-attention's key and value read."""

    def __init__(self, config: TextConfig, image_width: int) -> None:
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config)
        self.encoder = Layers(config, image_width)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, image_embeds: Tensor | None = None) -> Tensor:
        """input_ids, attention_mask [batch, tokens] (1 = a token, 0 = padding); image_embeds [batch, T, image_width].

        Returns the last layer's states [batch, tokens, width].
        """
        hidden = self.embeddings(input_ids)
        mask = attention_mask[:, None, None, :].bool()  # [batch, 1, 1, tokens]: every query skips padded keys
        for layer in self.encoder.layer:
            hidden = layer(hidden, mask, image_embeds)
        return hidden
