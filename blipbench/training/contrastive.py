"""Image-text contrastive learning (ITC): what retrieval finetuning and pre-training share (BLIP, section 3.2; ALBEF).

In: pairs. Out: image tokens, unit-norm features of both encoders and of their momentum copies, and the loss: each image
picks its text, and each text its image, among the rank's batch and the queue of earlier ones. Logits, softmax and
queues are float32, under autocast too.
"""

import dataclasses
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blipbench.models.config import ModelConfig
from blipbench.training.batches import PairBatch
from blipbench.training.encoders import full_precision, image_encoder, image_tokens, text_encoder
from blipbench.training.matching import Pick, draw
from blipbench.training.momentum import Pairs, start_copies, update_copies
from blipbench.training.queues import advance, enqueue, require_divisible
from blipbench.training.ranks import gathered, world_size

QUEUE_SIZE = 57600  # of the reference, as the three below
MOMENTUM = 0.995
_TEMPERATURE = 0.07
_TEMPERATURE_RANGE = (0.001, 0.5)


@dataclasses.dataclass(frozen=True)
class ContrastiveSettings:
    """The settings of both contrastive objectives. `pick` draws ITM's negatives."""

    enc_id: int
    queue_size: int = QUEUE_SIZE
    momentum: float = MOMENTUM
    pick: Pick = draw
    gradient_checkpointing: bool = False


class Encoded(NamedTuple):
    """A batch of n pairs; features [n, embed_dim] are of unit norm and float32, those of `_m` without gradient."""

    image_embeds: Tensor  # [n, T, width]
    image_feats: Tensor
    text_feats: Tensor
    image_feats_m: Tensor
    text_feats_m: Tensor


class ContrastiveObjective(nn.Module):
    """Two unimodal encoders with projections, momentum copies (`_m`) and queues [embed_dim, queue_size]; the ITM head.

    A subclass owns the queues' pointer, [1], which official checkpoints name in two ways.
    """

    image_queue: Tensor
    text_queue: Tensor

    def __init__(self, config: ModelConfig, settings: ContrastiveSettings) -> None:
        super().__init__()
        self.config = config
        self.enc_id = settings.enc_id
        self.queue_size = queue_size = settings.queue_size
        self.momentum = settings.momentum
        self.pick = settings.pick
        gradient_checkpointing = settings.gradient_checkpointing
        self.visual_encoder = image_encoder(config, gradient_checkpointing)
        self.vision_proj = nn.Linear(config.vision.width, config.embed_dim)
        self.text_encoder = text_encoder(config, gradient_checkpointing)
        self.text_proj = nn.Linear(config.text.width, config.embed_dim)
        self.itm_head = nn.Linear(config.text.width, 2)
        self.temp = nn.Parameter(torch.tensor(_TEMPERATURE))
        self.visual_encoder_m = image_encoder(config)
        self.vision_proj_m = nn.Linear(config.vision.width, config.embed_dim)
        self.text_encoder_m = text_encoder(config)
        self.text_proj_m = nn.Linear(config.text.width, config.embed_dim)
        start_copies(self.momentum_pairs())
        self.register_buffer("image_queue", F.normalize(torch.randn(config.embed_dim, queue_size), dim=0))
        self.register_buffer("text_queue", F.normalize(torch.randn(config.embed_dim, queue_size), dim=0))

    def momentum_pairs(self) -> Pairs:
        """Each trained module and its copy. `start_copies` on them after other weights were loaded into the modules."""
        return (
            (self.visual_encoder, self.visual_encoder_m),
            (self.vision_proj, self.vision_proj_m),
            (self.text_encoder, self.text_encoder_m),
            (self.text_proj, self.text_proj_m),
        )

    def encode(self, batch: PairBatch) -> Encoded:
        """Clamp the temperature, move the momentum copies, and embed the batch with both.

        Raises UsageError where the queue does not hold a whole number of the ranks' batches.
        """
        require_divisible(self.queue_size, len(batch.images) * world_size())
        image_embeds = image_tokens(self.visual_encoder, batch.images)  # [n, T, width]
        states = self.text_encoder(batch.input_ids, batch.attention_mask, first_only=True)  # [n, 1, text width]
        with torch.no_grad():
            self.temp.clamp_(*_TEMPERATURE_RANGE)
            update_copies(self.momentum_pairs(), self.momentum)
            same = self._sees_as_its_copy()
            image_embeds_m = image_embeds if same else image_tokens(self.visual_encoder_m, batch.images)
            states_m = self.text_encoder_m(batch.input_ids, batch.attention_mask, first_only=True)
            image_feats_m = features(self.vision_proj_m, image_embeds_m)
            text_feats_m = features(self.text_proj_m, states_m)
        return Encoded(
            image_embeds=image_embeds,
            image_feats=features(self.vision_proj, image_embeds),
            text_feats=features(self.text_proj, states),
            image_feats_m=image_feats_m,
            text_feats_m=text_feats_m,
        )

    def _sees_as_its_copy(self) -> bool:
        """A frozen image encoder is the equal of its momentum copy, unless drop path makes two views of an image."""
        return self.config.vision.drop_path == 0 and not any(p.requires_grad for p in self.visual_encoder.parameters())

    def contrast(self, encoded: Encoded, positives: Tensor, alpha: float) -> Tensor:
        """The ITC loss. `positives` [n, n + queue_size] are the hard targets, rows summing to 1; alpha weighs the soft
        ones, the momentum features' own softmax, against them."""
        with torch.autocast(encoded.image_feats.device.type, enabled=False):
            images = torch.cat([encoded.image_feats_m.t(), self.image_queue], dim=1)  # [embed_dim, n + queue_size]
            texts = torch.cat([encoded.text_feats_m.t(), self.text_queue], dim=1)
            loss_i2t = _soft_cross_entropy(
                encoded.image_feats, encoded.image_feats_m, texts, positives, self.temp, alpha
            )
            loss_t2i = _soft_cross_entropy(
                encoded.text_feats, encoded.text_feats_m, images, positives, self.temp, alpha
            )
            return (loss_i2t + loss_t2i) / 2

    def enqueue(self, encoded: Encoded, pointer: Tensor) -> None:
        """All ranks' momentum features, in rank order, over the oldest of the queue; `pointer` moves on."""
        image_feats, text_feats = gathered(encoded.image_feats_m), gathered(encoded.text_feats_m)
        enqueue(self.image_queue, image_feats.t(), pointer)
        enqueue(self.text_queue, text_feats.t(), pointer)
        advance(pointer, len(image_feats), self.queue_size)


def features(projection: nn.Linear, states: Tensor) -> Tensor:
    """The first token's projection, unit norm, float32: [n, tokens, width] -> [n, embed_dim]."""
    return F.normalize(full_precision(projection(states[:, 0])), dim=-1)


def _soft_cross_entropy(
    feats: Tensor, feats_m: Tensor, candidates: Tensor, positives: Tensor, temp: Tensor, alpha: float
) -> Tensor:
    """feats, feats_m [n, embed_dim] over candidates [embed_dim, n + queue_size] -> a scalar."""
    with torch.no_grad():
        soft = F.softmax(feats_m @ candidates / temp, dim=1)
        targets = alpha * soft + (1 - alpha) * positives
    # Given as probabilities, the targets of cross_entropy are soft; it takes the mean over the rows.
    return F.cross_entropy(feats @ candidates / temp, targets)
