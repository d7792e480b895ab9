"""BLIP's models, a class per kind of checkpoint; attribute names are those of the official state dicts.

These are the plain computations on padded batches, as the reference does them; `inference/` has the fast ones.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from blipbench.models.config import ModelConfig
from blipbench.models.med import TextDecoder, TextEncoder
from blipbench.models.vit import ImageEncoder


class BlipRetrieval(nn.Module):
    """Image-text retrieval: two unimodal encoders with their ITC projections, and the ITM head."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.visual_encoder = ImageEncoder(config.vision)
        self.text_encoder = TextEncoder(config.text, context_width=config.vision.width)
        self.vision_proj = nn.Linear(config.vision.width, config.embed_dim)
        self.text_proj = nn.Linear(config.text.width, config.embed_dim)
        self.itm_head = nn.Linear(config.text.width, 2)

    def encode_images(self, pixels: Tensor) -> Tensor:
        """Normalised pixels [n, 3, S, S], or clips [n, frames, 3, S, S], to tokens [n, frames * T, width]."""
        if pixels.ndim == 4:
            return self.visual_encoder(pixels)
        return self.visual_encoder(pixels.flatten(0, 1)).unflatten(0, pixels.shape[:2]).flatten(1, 2)

    def project_images(self, image_embeds: Tensor, frames: int = 1) -> Tensor:
        """ITC embeddings [n, embed_dim], unit norm; a clip's is the mean of its frames' *unnormalised* projections."""
        class_tokens = image_embeds.unflatten(1, (frames, -1))[:, :, 0]  # [n, frames, width]
        return F.normalize(self.vision_proj(class_tokens).mean(1), dim=-1)

    def project_texts(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """The ITC embedding [n, embed_dim], unit norm, of texts that start with [CLS]."""
        states = self.text_encoder(input_ids, attention_mask)
        return F.normalize(self.text_proj(states[:, 0]), dim=-1)

    def match_logits(self, input_ids: Tensor, attention_mask: Tensor, image_embeds: Tensor) -> Tensor:
        """ITM logits [n, 2] (index 1 = match) of n pairs; texts start with [ENC], image_embeds [n, T, width]."""
        states = self.text_encoder(input_ids, attention_mask, image_embeds)
        return self.itm_head(states[:, 0])


class BlipCaptioner(nn.Module):
    """The decoder attends to image tokens."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.visual_encoder = ImageEncoder(config.vision)
        self.text_decoder = TextDecoder(config.text, context_width=config.vision.width)


class BlipVqa(nn.Module):
    """The question encoder attends to image tokens, the answer decoder to the question's states (text width)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.visual_encoder = ImageEncoder(config.vision)
        self.text_encoder = TextEncoder(config.text, context_width=config.vision.width)
        self.text_decoder = TextDecoder(config.text, context_width=config.text.width)
