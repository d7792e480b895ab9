"""MED, BLIP's text transformer: BERT layers with a cross-attention between self-attention and MLP (BLIP, section 3.1).

As an encoder, mode 'text' (`context` None) skips the cross-attention and starts with [CLS]; mode 'multimodal' attends
to image tokens and starts with [ENC]. As a decoder, self-attention is causal, the text starts with [DEC], and a
language model head ends it. This is the plain, padded and masked form: what training and the self-check use;
`inference/` computes the same numbers without the padding. State-dict names are the official ones.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from blipbench.models.config import TextConfig


class Projections(nn.Module):
    """Query from the text, key and value from what it attends to; `dropout` is of the attention's probabilities."""

    def __init__(self, width: int, context_width: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = dropout
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(context_width, width)
        self.value = nn.Linear(context_width, width)

    def attend(
        self, hidden: Tensor, context: Tensor, num_heads: int, mask: Tensor | None, context_of: Tensor | None = None
    ) -> Tensor:
        """hidden [batch, tokens, width] over context [batch, T, context_width] -> [batch, tokens, width].

        With `context_of` [batch], text i reads context `context_of[i]` of [contexts, T, context_width], whose keys and
        values are computed once however many texts read them.
        """

        def heads(x: Tensor) -> Tensor:
            return x.unflatten(-1, (num_heads, -1)).transpose(1, 2)  # [batch, heads, tokens, head_dim]

        query, key, value = self.query(hidden), self.key(context), self.value(context)
        if context_of is not None:
            key, value = key.index_select(0, context_of), value.index_select(0, context_of)
        dropout = self.dropout if self.training else 0.0
        out = F.scaled_dot_product_attention(heads(query), heads(key), heads(value), attn_mask=mask, dropout_p=dropout)
        return out.transpose(1, 2).flatten(2)


class Residual(nn.Module):
    """LayerNorm(dense(x) + residual): BERT is post-norm."""

    def __init__(self, in_width: int, config: TextConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(in_width, config.width)
        self.LayerNorm = nn.LayerNorm(config.width, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        return self.LayerNorm(self.dropout(self.dense(x)) + residual)


class Attention(nn.Module):
    """Multi-head attention of `hidden` over `context`, with its output projection and norm."""

    def __init__(self, config: TextConfig, context_width: int) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.self = Projections(config.width, context_width, config.dropout)
        self.output = Residual(config.width, config)

    def forward(self, hidden: Tensor, context: Tensor, mask: Tensor | None, context_of: Tensor | None = None) -> Tensor:
        return self.output(self.self.attend(hidden, context, self.num_heads, mask, context_of), hidden)


class Intermediate(nn.Module):
    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.width, config.intermediate_size)

    def forward(self, hidden: Tensor) -> Tensor:
        return F.gelu(self.dense(hidden))


class Layer(nn.Module):
    def __init__(self, config: TextConfig, context_width: int) -> None:
        super().__init__()
        self.attention = Attention(config, config.width)
        self.crossattention = Attention(config, context_width)
        self.intermediate = Intermediate(config)
        self.output = Residual(config.intermediate_size, config)

    def forward(
        self,
        hidden: Tensor,
        mask: Tensor,
        context: Tensor | None,
        context_mask: Tensor | None,
        context_of: Tensor | None,
        wanted: int | None = None,
    ) -> Tensor:
        """States of the first `wanted` tokens (None: of all), which read all of them."""
        hidden = self.attention(hidden[:, :wanted], hidden, mask)
        if context is not None:
            hidden = self.crossattention(hidden, context, context_mask, context_of)
        return self.output(self.intermediate(hidden), hidden)


class Embeddings(nn.Module):
    """Word plus absolute position, then LayerNorm; BLIP has no token types."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.width)
        self.position_embeddings = nn.Embedding(config.max_positions, config.width)
        self.LayerNorm = nn.LayerNorm(config.width, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, input_ids: Tensor) -> Tensor:
        positions = torch.arange(input_ids.shape[1], device=input_ids.device)
        hidden = self.LayerNorm(self.word_embeddings(input_ids) + self.position_embeddings(positions))
        return self.dropout(hidden)  # [batch, tokens, width]


class Layers(nn.Module):
    def __init__(self, config: TextConfig, context_width: int) -> None:
        super().__init__()
        self.layer = nn.ModuleList(Layer(config, context_width) for _ in range(config.depth))


class TextEncoder(nn.Module):
    """`context_width` is the width of what the cross-attention reads: the ViT's, or of a VQA decoder the text's.

    With `gradient_checkpointing` a layer's activations are not kept for the backward pass but computed again.
    """

    def __init__(
        self, config: TextConfig, context_width: int, causal: bool = False, gradient_checkpointing: bool = False
    ) -> None:
        super().__init__()
        self.config = config
        self.causal = causal
        self.gradient_checkpointing = gradient_checkpointing
        self.embeddings = Embeddings(config)
        self.encoder = Layers(config, context_width)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        context: Tensor | None = None,
        context_mask: Tensor | None = None,
        context_of: Tensor | None = None,
        first_only: bool = False,
    ) -> Tensor:
        """input_ids, attention_mask [batch, tokens]; context [batch, T, context_width], context_mask [batch, T].

        Masks are 1 at a token, 0 at padding; no context mask means no padding. With `context_of` [batch] int64 there
        may be fewer contexts than texts: text i reads context `context_of[i]`. Returns states [batch, tokens, width],
        or [batch, 1, width] with `first_only`, which saves most of the last layer.
        """
        hidden = self.embeddings(input_ids)
        mask = attention_mask[:, None, None, :].bool()  # [batch, 1, 1, tokens]: every query skips padded keys
        if self.causal:
            mask = mask & torch.ones(mask.shape[-1], mask.shape[-1], dtype=torch.bool, device=mask.device).tril()
        if context_mask is not None:
            context_mask = context_mask[:, None, None, :].bool()
            context_mask = context_mask if context_of is None else context_mask[context_of]
        *_, last = self.encoder.layer
        for layer in self.encoder.layer:
            wanted = 1 if first_only and layer is last else None
            if self.gradient_checkpointing and torch.is_grad_enabled():
                hidden = checkpoint(layer, hidden, mask, context, context_mask, context_of, wanted, use_reentrant=False)
            else:
                hidden = layer(hidden, mask, context, context_mask, context_of, wanted)
        return hidden


class Transform(nn.Module):
    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.width, config.width)
        self.LayerNorm = nn.LayerNorm(config.width, eps=config.layer_norm_eps)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.LayerNorm(F.gelu(self.dense(hidden)))


class Predictions(nn.Module):
    """`decoder` holds the word embeddings' own weight, and the bias that is also called `bias`."""

    def __init__(self, config: TextConfig, word_embeddings: nn.Embedding) -> None:
        super().__init__()
        self.transform = Transform(config)
        self.decoder = nn.Linear(config.width, config.vocab_size)
        self.decoder.weight = word_embeddings.weight
        self.bias = self.decoder.bias

    def forward(self, hidden: Tensor) -> Tensor:
        return self.decoder(self.transform(hidden))


class LanguageHead(nn.Module):
    def __init__(self, config: TextConfig, word_embeddings: nn.Embedding) -> None:
        super().__init__()
        self.predictions = Predictions(config, word_embeddings)


class TextDecoder(nn.Module):
    """The causal transformer with its language model head."""

    def __init__(self, config: TextConfig, context_width: int, gradient_checkpointing: bool = False) -> None:
        super().__init__()
        self.config = config
        self.bert = TextEncoder(config, context_width, causal=True, gradient_checkpointing=gradient_checkpointing)
        self.cls = LanguageHead(config, self.bert.embeddings.word_embeddings)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        context: Tensor,
        context_mask: Tensor | None = None,
        context_of: Tensor | None = None,
    ) -> Tensor:
        """Logits [batch, tokens, vocabulary] of the token after each; the arguments are TextEncoder's."""
        return self.cls.predictions(self.bert(input_ids, attention_mask, context, context_mask, context_of))


LABEL_SMOOTHING = 0.1  # of the reference's language model loss, at evaluation too
IGNORED = -100  # the label of a position without a target


def language_model_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Loss of each text, [batch]: summed over its targets. logits [batch, tokens, vocabulary], labels [batch, tokens].

    Position i predicts label i + 1. The reference's reduction 'mean' is the sum over the number of targets.
    """
    losses = F.cross_entropy(
        logits[:, :-1].transpose(1, 2),
        labels[:, 1:],
        ignore_index=IGNORED,
        label_smoothing=LABEL_SMOOTHING,
        reduction="none",
    )  # [batch, tokens - 1]
    return losses.sum(1)
