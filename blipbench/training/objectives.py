"""BLIP's training objectives: one module for each kind of checkpoint (BLIP, sections 3.2 and 5).

In: a batch on the module's device, and alpha, the weight of the momentum encoders' soft targets (0 to 1; where there
are none it is ignored). Out: the named scalar losses whose sum is minimised. Momentum copies, queues and what ranks
exchange are updated inside `forward`, as in the reference. A state dict has exactly the official checkpoint's names.
Dropout and drop path come from the config.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blipbench.models.config import ModelConfig
from blipbench.training.batches import NlvrBatch, PairBatch, VqaBatch
from blipbench.training.contrastive import ContrastiveObjective, ContrastiveSettings, Encoded
from blipbench.training.encoders import (
    full_precision,
    image_encoder,
    image_tokens,
    text_decoder,
    text_encoder,
    tie_all_but_self_attention,
    twin_text_encoder,
    with_first,
)
from blipbench.training.language import answer_losses, caption_loss, owners
from blipbench.training.matching import Pairs, matching_loss, near_weights, sampling_weights
from blipbench.training.queues import enqueue
from blipbench.training.ranks import gathered, gathered_with_grad, padded_alike

Losses = dict[str, Tensor]

_NO_PICTURE = -100  # the image id of a place in the queue that no batch has filled
_PRETRAIN_FLOOR = 1e-4  # the reference adds it to every negative's chance in pre-training
_RETRIEVAL_FLOOR = torch.finfo(torch.float32).tiny  # below any other chance; else all of a row's can underflow to 0


class PretrainObjective(ContrastiveObjective):
    """ITC, ITM and LM at once; encoder and decoder share everything but self-attention.

    `neighbours` turns ITC off. ITM's negatives are then drawn evenly from the pairs whose image ids are among the same
    `neighbours` consecutive ones, or from all pairs if the batch has none. Otherwise image ids are not used.
    """

    queue_ptr: Tensor

    def __init__(
        self,
        config: ModelConfig,
        settings: ContrastiveSettings,
        *,
        dec_id: int,
        neighbours: int | None = None,
    ) -> None:
        super().__init__(config, settings)
        self.dec_id = dec_id
        self.neighbours = neighbours
        self.text_decoder = text_decoder(self.config, config.vision.width, settings.gradient_checkpointing)
        tie_all_but_self_attention(self.text_encoder, self.text_decoder)
        self.register_buffer("queue_ptr", torch.zeros(1, dtype=torch.int64))
        if neighbours is not None:  # DDP waits for the gradients of all that is trained
            for of_itc_alone in (self.temp, *self.vision_proj.parameters(), *self.text_proj.parameters()):
                of_itc_alone.requires_grad_(False)

    def forward(self, batch: PairBatch, alpha: float) -> Losses:
        if self.neighbours is not None:
            image_embeds = image_tokens(self.visual_encoder, batch.images)  # [n, T, width]
            weights = near_weights(batch.image_ids, self.neighbours)
            itm = self._match(batch, image_embeds, weights, weights)
            return {"itm": itm, "lm": self._caption(batch, image_embeds)}
        encoded = self.encode(batch)
        n = len(batch.images)
        own_pair = torch.eye(n, dtype=torch.bool, device=batch.images.device)
        positives = F.pad(own_pair.float(), (0, self.queue_size))  # [n, n + queue_size]
        itc = self.contrast(encoded, positives, alpha)
        self.enqueue(encoded, self.queue_ptr)
        # Negatives are the rank's own, drawn by similarity to the momentum features.
        weights_t2i = sampling_weights(encoded.text_feats, encoded.image_feats_m, self.temp, own_pair, _PRETRAIN_FLOOR)
        weights_i2t = sampling_weights(encoded.image_feats, encoded.text_feats_m, self.temp, own_pair, _PRETRAIN_FLOOR)
        itm = self._match(batch, encoded.image_embeds, weights_t2i, weights_i2t)
        return {"itc": itc, "itm": itm, "lm": self._caption(batch, encoded.image_embeds)}

    def _caption(self, batch: PairBatch, image_embeds: Tensor) -> Tensor:
        return caption_loss(self.text_decoder, self.dec_id, batch.input_ids, batch.attention_mask, image_embeds)

    def _match(self, batch: PairBatch, image_embeds: Tensor, weights_t2i: Tensor, weights_i2t: Tensor) -> Tensor:
        own = Pairs(image_embeds, with_first(batch.input_ids, self.enc_id), batch.attention_mask)
        return matching_loss(self.text_encoder, self.itm_head, own, own, self.pick(weights_t2i), self.pick(weights_i2t))


class RetrievalObjective(ContrastiveObjective):
    """ITC and ITM, where all captions of a picture (equal image ids) are its positives and none of its negatives.

    `negative_all_rank` draws ITM's negatives from every rank's batch, not the rank's own alone.
    """

    idx_queue: Tensor
    ptr_queue: Tensor

    def __init__(self, config: ModelConfig, settings: ContrastiveSettings, *, negative_all_rank: bool = False) -> None:
        super().__init__(config, settings)
        self.negative_all_rank = negative_all_rank
        self.register_buffer("idx_queue", torch.full((1, settings.queue_size), _NO_PICTURE))
        self.register_buffer("ptr_queue", torch.zeros(1, dtype=torch.int64))

    def forward(self, batch: PairBatch, alpha: float) -> Losses:
        encoded = self.encode(batch)
        all_ids = torch.cat([batch.image_ids, self.idx_queue[0]])  # [n + queue_size]
        same = (batch.image_ids[:, None] == all_ids).float()
        itc = self.contrast(encoded, same / same.sum(1, keepdim=True), alpha)
        world_ids = gathered(batch.image_ids)  # [world * n]
        enqueue(self.idx_queue, world_ids[None], self.ptr_queue)  # beside its features: the pointer moves after them
        self.enqueue(encoded, self.ptr_queue)
        return {"itc": itc, "itm": self._match(batch, encoded, world_ids)}

    def _match(self, batch: PairBatch, encoded: Encoded, world_ids: Tensor) -> Tensor:
        own = Pairs(encoded.image_embeds, with_first(batch.input_ids, self.enc_id), batch.attention_mask)
        if self.negative_all_rank:
            image_feats, text_feats = gathered(encoded.image_feats), gathered(encoded.text_feats)
            own = Pairs(own.image_embeds, padded_alike(own.input_ids), padded_alike(own.attention_mask))
            candidates = Pairs(
                gathered_with_grad(own.image_embeds), gathered(own.input_ids), gathered(own.attention_mask)
            )
            same = batch.image_ids[:, None] == world_ids
        else:
            image_feats, text_feats, candidates = encoded.image_feats, encoded.text_feats, own
            same = batch.image_ids[:, None] == batch.image_ids
        weights_t2i = sampling_weights(encoded.text_feats, image_feats, self.temp, same, _RETRIEVAL_FLOOR)
        weights_i2t = sampling_weights(encoded.image_feats, text_feats, self.temp, same, _RETRIEVAL_FLOOR)
        return matching_loss(
            self.text_encoder, self.itm_head, own, candidates, self.pick(weights_t2i), self.pick(weights_i2t)
        )


class CaptionObjective(nn.Module):
    """LM on captions that start with the prompt, whose `prompt_length` tokens, [DEC] counted, are no targets."""

    def __init__(
        self,
        config: ModelConfig,
        *,
        dec_id: int,
        prompt_length: int,
        gradient_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.config = config
        self.dec_id = dec_id
        self.prompt_length = prompt_length
        self.visual_encoder = image_encoder(config, gradient_checkpointing)
        self.text_decoder = text_decoder(config, config.vision.width, gradient_checkpointing)

    def forward(self, batch: PairBatch, alpha: float) -> Losses:
        image_embeds = image_tokens(self.visual_encoder, batch.images)  # [n, T, width]
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
        gradient_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.config = config
        self.enc_id = enc_id
        self.dec_id = dec_id
        self.visual_encoder = image_encoder(config, gradient_checkpointing)
        self.text_encoder = text_encoder(config, gradient_checkpointing)
        self.text_decoder = text_decoder(config, config.text.width, gradient_checkpointing)

    def forward(self, batch: VqaBatch, alpha: float) -> Losses:
        image_embeds = image_tokens(self.visual_encoder, batch.images)  # [m, T, width]
        states = self.text_encoder(
            with_first(batch.question_ids, self.enc_id), batch.question_mask, image_embeds, context_of=batch.image_of
        )  # [n, L, width]
        owner = owners(batch.answers_per_question)
        losses = answer_losses(
            self.text_decoder,
            self.dec_id,
            batch.answer_ids,
            batch.answer_mask,
            states,
            batch.question_mask,
            owner,
        )
        return {"vqa": (batch.weights * losses).sum() / len(batch.question_ids)}


class NlvrObjective(nn.Module):
    """Cross-entropy of true and false, on [ENC]'s state over both images."""

    def __init__(
        self,
        config: ModelConfig,
        *,
        enc_id: int,
        gradient_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.config = config
        self.enc_id = enc_id
        width = config.text.width
        self.visual_encoder = image_encoder(config, gradient_checkpointing)
        self.text_encoder = twin_text_encoder(config, gradient_checkpointing)
        self.cls_head = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 2))

    def forward(self, batch: NlvrBatch, alpha: float) -> Losses:
        image_embeds = image_tokens(self.visual_encoder, batch.images)  # [m, T, width]
        (left, left_of), (right, right_of) = (
            shown.unique(return_inverse=True) for shown in batch.image_of.unbind(1)
        )  # an image is on the left of several sentences
        states = self.text_encoder(
            with_first(batch.input_ids, self.enc_id),
            batch.attention_mask,
            image_embeds[left],
            image_embeds[right],
            left_of,
            right_of,
            first_only=True,
        )  # [n, 1, width]
        return {"nlvr": F.cross_entropy(full_precision(self.cls_head(states[:, 0])), batch.labels)}
