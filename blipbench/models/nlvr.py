"""BLIP's model for visual reasoning over two images (NLVR2; BLIP, section 5.4 and figure 5).

The text encoder has two cross-attentions in every layer, one per image. Their outputs are averaged in the first six
layers and merged by a linear layer from then on. The class state, of [ENC], goes through a small head to two logits:
false, true. This is the plain, padded form; `inference/reasoning.py` computes the same numbers without the padding.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from blipbench.models.config import ModelConfig, TextConfig
from blipbench.models.med import Attention, Embeddings, Intermediate, Projections, Residual
from blipbench.models.vit import ImageEncoder

MERGE_FROM = 6  # the first layer that merges; the ones before average
TRUE = 1  # index of 'true' in the head's two logits


class TwinOutput(nn.Module):
    """LayerNorm(what both images' attentions found, as one + residual)."""

    def __init__(self, config: TextConfig, merges: bool) -> None:
        super().__init__()
        self.dense0 = nn.Linear(config.width, config.width)
        self.dense1 = nn.Linear(config.width, config.width)
        self.merge_layer = nn.Linear(2 * config.width, config.width) if merges else None
        self.LayerNorm = nn.LayerNorm(config.width, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, left: Tensor, right: Tensor, residual: Tensor) -> Tensor:
        left, right = self.dense0(left), self.dense1(right)
        if self.merge_layer is None:
            return self.LayerNorm(self.dropout((left + right) / 2) + residual)
        return self.LayerNorm(self.dropout(self.merge_layer(torch.cat([left, right], dim=-1))) + residual)


class TwinAttention(nn.Module):
    """Cross-attention over the left image (`self0`) and over the right one (`self1`), side by side."""

    def __init__(self, config: TextConfig, image_width: int, merges: bool) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.self0 = Projections(config.width, image_width, config.dropout)
        self.self1 = Projections(config.width, image_width, config.dropout)
        self.output = TwinOutput(config, merges)

    def forward(
        self, hidden: Tensor, left: Tensor, right: Tensor, left_of: Tensor | None, right_of: Tensor | None
    ) -> Tensor:
        found_left = self.self0.attend(hidden, left, self.num_heads, None, left_of)
        found_right = self.self1.attend(hidden, right, self.num_heads, None, right_of)
        return self.output(found_left, found_right, hidden)


class TwinLayer(nn.Module):
    def __init__(self, config: TextConfig, image_width: int, merges: bool) -> None:
        super().__init__()
        self.attention = Attention(config, config.width)
        self.crossattention = TwinAttention(config, image_width, merges)
        self.intermediate = Intermediate(config)
        self.output = Residual(config.intermediate_size, config)

    def forward(
        self,
        hidden: Tensor,
        mask: Tensor,
        left: Tensor,
        right: Tensor,
        left_of: Tensor | None,
        right_of: Tensor | None,
        wanted: int | None = None,
    ) -> Tensor:
        """States of the first `wanted` tokens (None: of all), which read all of them."""
        hidden = self.attention(hidden[:, :wanted], hidden, mask)
        hidden = self.crossattention(hidden, left, right, left_of, right_of)
        return self.output(self.intermediate(hidden), hidden)


class TwinLayers(nn.Module):
    def __init__(self, config: TextConfig, image_width: int) -> None:
        super().__init__()
        self.layer = nn.ModuleList(TwinLayer(config, image_width, i >= MERGE_FROM) for i in range(config.depth))


class TwinTextEncoder(nn.Module):
    """With `gradient_checkpointing` a layer's activations are not kept for the backward pass but computed again."""

    def __init__(self, config: TextConfig, image_width: int, gradient_checkpointing: bool = False) -> None:
        super().__init__()
        self.config = config
        self.gradient_checkpointing = gradient_checkpointing
        self.embeddings = Embeddings(config)
        self.encoder = TwinLayers(config, image_width)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        left: Tensor,
        right: Tensor,
        left_of: Tensor | None = None,
        right_of: Tensor | None = None,
        first_only: bool = False,
    ) -> Tensor:
        """input_ids, attention_mask [batch, tokens] (1 at a token, 0 at padding); left, right [batch, T, image_width].

        With left_of, right_of [batch] int64 there may be fewer images than texts: text i reads `left[left_of[i]]` and
        `right[right_of[i]]`. Returns states [batch, tokens, width], or [batch, 1, width] with `first_only`, which saves
        most of the last layer.
        """
        hidden = self.embeddings(input_ids)
        mask = attention_mask[:, None, None, :].bool()  # [batch, 1, 1, tokens]: every query skips padded keys
        *_, last = self.encoder.layer
        for layer in self.encoder.layer:
            wanted = 1 if first_only and layer is last else None
            if self.gradient_checkpointing and torch.is_grad_enabled():
                hidden = checkpoint(layer, hidden, mask, left, right, left_of, right_of, wanted, use_reentrant=False)
            else:
                hidden = layer(hidden, mask, left, right, left_of, right_of, wanted)
        return hidden


class BlipNlvr(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        width = config.text.width
        self.visual_encoder = ImageEncoder(config.vision)
        self.text_encoder = TwinTextEncoder(config.text, config.vision.width)
        self.cls_head = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 2))

    def class_states(self, input_ids: Tensor, attention_mask: Tensor, left: Tensor, right: Tensor) -> Tensor:
        """State of the first token [n, width]; texts start with [ENC]; left, right are image tokens [n, T, width]."""
        return self.text_encoder(input_ids, attention_mask, left, right)[:, 0]

    def forward(self, input_ids: Tensor, attention_mask: Tensor, left: Tensor, right: Tensor) -> Tensor:
        """Logits [n, 2] (false, true); the arguments are those of `class_states`."""
        return self.cls_head(self.class_states(input_ids, attention_mask, left, right))


def twin_state_dict(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights under NLVR's names: of a cross-attention two copies, that share memory."""
    twins: dict[str, Tensor] = {}
    for name, tensor in state.items():
        for single, double in ((".crossattention.self.", "self"), (".crossattention.output.dense.", "output.dense")):
            if single in name:
                for side in (0, 1):
                    twins[name.replace(single, f".crossattention.{double}{side}.")] = tensor
                break
        else:
            twins[name] = tensor
    return twins
