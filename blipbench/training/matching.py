"""Image-text matching (ITM): is this text of this image? With hard negatives, drawn by ITC similarity (BLIP, section
3.2), or without ITC among neighbouring images.

In: a rank's pairs and the candidates to draw from, its own or every rank's. Out: cross-entropy over each pair as it is,
each text with an image not its own, and each image with a text not its own.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blipbench.errors import BlipbenchError
from blipbench.models.med import TextEncoder
from blipbench.training.encoders import full_precision

Pick = Callable[[Tensor], Tensor]  # sampling weights [n, m] -> a column for each row, [n]


class Pairs(NamedTuple):
    """n pairs; texts start with [ENC]."""

    image_embeds: Tensor  # [n, T, width]
    input_ids: Tensor  # [n, L]
    attention_mask: Tensor  # [n, L]


def draw(weights: Tensor) -> Tensor:
    """One column for each row of weights [n, m], by chance: [n].

    Raises BlipbenchError where a row has none to draw: every candidate shows the same picture.
    """
    if not weights.any(1).all():
        raise BlipbenchError(
            f"image-text matching found no negative among {weights.shape[1]} pairs: all of them show one picture; "
            f"use a larger batch, or shuffle the data so that a batch mixes pictures"
        )
    return torch.multinomial(weights, 1).squeeze(1)


@torch.no_grad()
def sampling_weights(feats: Tensor, candidates: Tensor, temp: Tensor, same: Tensor, floor: float) -> Tensor:
    """The probability that each candidate is drawn as a negative: [n, m], zero where `same` [n, m] is true.

    The softmax of the ITC logits of feats [n, embed_dim] over candidates [m, embed_dim], plus `floor`.
    """
    with torch.autocast(feats.device.type, enabled=False):
        weights = F.softmax(feats @ candidates.t() / temp, dim=1) + floor
    return weights.masked_fill(same, 0)


def near_weights(image_ids: Tensor, neighbours: int) -> Tensor:
    """The weights with which each of n pairs is drawn as a negative of another: [n, n], one row for each pair.

    Evenly from those with another image of the same `neighbours` consecutive ids, or where there is none from all with
    another image.
    """
    other = image_ids[:, None] != image_ids
    near = other & (image_ids[:, None] // neighbours == image_ids // neighbours)
    return torch.where(near.any(1, keepdim=True), near, other).float()


def matching_loss(
    text_encoder: TextEncoder,
    itm_head: nn.Linear,
    own: Pairs,
    candidates: Pairs,
    negative_images: Tensor,
    negative_texts: Tensor,
) -> Tensor:
    """`own` are the n positives; negative_images, negative_texts [n] point into `candidates`.

    Every picture is in several pairs; its keys and values are computed once, those of other ranks' pictures that were
    drawn besides.
    """
    image_embeds, each = own.image_embeds, torch.arange(len(own.image_embeds), device=negative_images.device)
    if candidates is not own:
        image_embeds = torch.cat([image_embeds, candidates.image_embeds[negative_images]])
        negative_images = each + len(each)
    image_of = torch.cat([each, negative_images, each])  # [3 n]
    input_ids = torch.cat([own.input_ids, own.input_ids, candidates.input_ids[negative_texts]])
    mask = torch.cat([own.attention_mask, own.attention_mask, candidates.attention_mask[negative_texts]])
    states = text_encoder(input_ids, mask, image_embeds, context_of=image_of, first_only=True)  # [3 n, 1, text width]
    labels = torch.zeros(len(states), dtype=torch.int64, device=states.device)
    labels[: len(own.input_ids)] = 1  # match
    return F.cross_entropy(full_precision(itm_head(states[:, 0])), labels)
