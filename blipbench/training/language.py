"""The language model loss (LM) of captions: label-smoothed cross-entropy a target (BLIP, section 3.2).

In: a decoder, texts and what they attend to. Out: the mean over the targets of the whole batch, over all ranks.
"""

import torch
from torch import Tensor

from blipbench.models.med import IGNORED, TextDecoder, language_model_loss
from blipbench.training.encoders import full_precision, with_first
from blipbench.training.ranks import mean_over_ranks


def caption_loss(
    decoder: TextDecoder,
    dec_id: int,
    input_ids: Tensor,
    attention_mask: Tensor,
    image_embeds: Tensor,
    prompt_length: int = 0,
) -> Tensor:
    """input_ids, attention_mask [n, L]; image_embeds [n, T, width]. The first `prompt_length` tokens are no targets.

    The reference takes the mean over the targets of a rank's own batch. Here the ranks' mean of it, which is what DDP
    minimises, is the mean over the whole batch's targets however they fall to ranks; on one rank that is the same.
    """
    input_ids = with_first(input_ids, dec_id)
    labels = input_ids.masked_fill(attention_mask == 0, IGNORED)
    labels[:, :prompt_length] = IGNORED
    num_targets = mean_over_ranks((labels[:, 1:] != IGNORED).sum().float())
    logits = decoder(input_ids, attention_mask, image_embeds)  # [n, L, vocabulary]
    return language_model_loss(full_precision(logits), labels).sum() / num_targets()


def answer_losses(
    decoder: TextDecoder,
    dec_id: int,
    answer_ids: Tensor,
    answer_mask: Tensor,
    states: Tensor,
    states_mask: Tensor,
    owner: Tensor,
) -> Tensor:
    """The loss of each answer, [a], summed over its tokens.

    answer_ids, answer_mask [a, L']; states [n, L, width] and states_mask [n, L] are the questions'. Answer i is of
    question `owner[i]`, [a].
    """
    answer_ids = with_first(answer_ids, dec_id)
    logits = decoder(answer_ids, answer_mask, states, states_mask, owner)  # [a, L', vocabulary]
    return language_model_loss(full_precision(logits), answer_ids.masked_fill(answer_mask == 0, IGNORED))


def owners(answers_per_question: Tensor) -> Tensor:
    """The question of each answer, [a]."""
    each = torch.arange(len(answers_per_question), device=answers_per_question.device)
    return torch.repeat_interleave(each, answers_per_question)
