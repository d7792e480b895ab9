"""BLIP's training objectives: one module for each kind of checkpoint (BLIP, sections 3.2 and 5).

In: a batch on the module's device, and alpha, the weight of the momentum encoders' soft targets (0 to 1; where there
are none it is ignored). Out: the named scalar losses whose sum is minimised. Momentum copies, queues and what ranks
exchange are updated inside `forward`, as in the reference. A state dict has exactly the official checkpoint's names.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from blipbench.models.config import ModelConfig
from blipbench.training.batches import NlvrBatch, PairBatch, VqaBatch
from blipbench.training.encoders import (
    image_encoder,
    regularised,
    text_decoder,
    text_encoder,
    twin_text_encoder,
    with_first,
)
from blipbench.training.language import answer_losses, caption_loss, owners

Losses = dict[str, Tensor]


class CaptionObjective(nn.Module):
    """LM on captions that start with the prompt, whose `prompt_length` tokens, [DEC] counted, are no targets."""

    def __init__(
        self,
        config: ModelConfig,
        *,
        dec_id: int,
        prompt_length: int,
        dropout: float = 0.0,
        drop_path: float = 0.0,
        gradient_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.config = config = regularised(config, dropout, drop_path)
        self.dec_id = dec_id
        self.prompt_length = prompt_length
        self.visual_encoder = image_encoder(config, gradient_checkpointing)
        self.text_decoder = text_decoder(config, config.vision.width, gradient_checkpointing)

    def forward(self, batch: PairBatch, alpha: float) -> Losses:
        image_embeds = self.visual_encoder(batch.images)  # [n, T, width]
        lm = caption_loss(
            self.text_decoder,
            self.dec_id,
            batch.input_ids,
            batch.attention_mask,
            image_embeds,
            self.prompt_length,
        )
        return {"lm": lm}


class VqaObjective(nn.Module):
    """LM on every answer, weighted by its share of the ten answers, summed and divided by the number of questions."""

    def __init__(
        self,
        config: ModelConfig,
        *,
        enc_id: int,
        dec_id: int,
        dropout: float = 0.0,
        drop_path: float = 0.0,
        gradient_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.config = config = regularised(config, dropout, drop_path)
        self.enc_id = enc_id
        self.dec_id = dec_id
        self.visual_encoder = image_encoder(config, gradient_checkpointing)
        self.text_encoder = text_encoder(config, gradient_checkpointing)
        self.text_decoder = text_decoder(config, config.text.width, gradient_checkpointing)

    def forward(self, batch: VqaBatch, alpha: float) -> Losses:
        image_embeds = self.visual_encoder(batch.images)  # [n, T, width]
        states = self.text_encoder(with_first(batch.question_ids, self.enc_id), batch.question_mask, image_embeds)
        owner = owners(batch.answers_per_question)
        losses = answer_losses(
            self.text_decoder,
            self.dec_id,
            batch.answer_ids,
            batch.answer_mask,
            states[owner],  # [a, L, width]
            batch.question_mask[owner],
        )
        return {"vqa": (batch.weights * losses).sum() / len(batch.images)}


class NlvrObjective(nn.Module):
    """Cross-entropy of true and false, on [ENC]'s state over both images."""

    def __init__(
        self,
        config: ModelConfig,
        *,
        enc_id: int,
        dropout: float = 0.0,
        drop_path: float = 0.0,
        gradient_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.config = config = regularised(config, dropout, drop_path)
        self.enc_id = enc_id
        width = config.text.width
        self.visual_encoder = image_encoder(config, gradient_checkpointing)
        self.text_encoder = twin_text_encoder(config, gradient_checkpointing)
        self.cls_head = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 2))

    def forward(self, batch: NlvrBatch, alpha: float) -> Losses:
        pairs = batch.images.shape[:2]
        image_embeds = self.visual_encoder(batch.images.flatten(0, 1)).unflatten(0, pairs)  # [n, 2, T, width]
        left, right = image_embeds.unbind(1)
        states = self.text_encoder(with_first(batch.input_ids, self.enc_id), batch.attention_mask, left, right)
        return {"nlvr": F.cross_entropy(self.cls_head(states[:, 0]).float(), batch.labels)}
