"""Beam search over a batch of contexts at once. The semantics are those of transformers 4.15 (see search.py).

    beam_search(decoding, prompt_ids, settings, sep_id)    -> the best Hypothesis of each context

Each step extends every beam by every token and takes the best 2 * num_beams candidates of each context. Those that end
with [SEP] and are among the best num_beams become hypotheses, and the best others become the next beams. All of that
is arithmetic on tensors [contexts, ...] on the device.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from blipbench.device import upload
from blipbench.inference.search import Batch, Decoding, Found, Hypothesis, SearchSettings, adjust, start_ids


@dataclasses.dataclass(frozen=True)
class _Texts:
    """Equally many texts of each of n contexts."""

    ids: Tensor  # [n, texts, max_length]
    scores: Tensor  # [n, texts] float64
    log_probs: Tensor  # [n, texts] float64

    def of(self, contexts: Tensor) -> "_Texts":
        return _Texts(*(x[contexts] for x in (self.ids, self.scores, self.log_probs)))


class _Kept:
    """The best `num_beams` hypotheses of each context so far, by context."""

    def __init__(self, contexts: int, settings: SearchSettings, device: torch.device) -> None:
        shape = (contexts, settings.num_beams)
        self.ids = torch.zeros(*shape, settings.max_length, dtype=torch.int64, device=device)
        self.lengths = torch.zeros(shape, dtype=torch.int64, device=device)
        self.log_probs = torch.zeros(shape, dtype=torch.float64, device=device)
        self.scores = torch.full(shape, -torch.inf, dtype=torch.float64, device=device)
        self.when = torch.full(shape, -1, device=device)  # increases with each hypothesis; -1 for a free place
        self._added = 0

    def add(self, at: Tensor, wanted: Tensor, texts: _Texts, length: int, divisor: Tensor) -> None:
        """Keep text 0 of the contexts `at` where it is `wanted` ([n]) and better than the worst of a full list."""
        score = texts.scores[:, 0] / divisor
        scores, when = self.scores[at], self.when[at]
        worst = scores.amin(1)
        oldest_worst = torch.where(scores == worst[:, None], when, torch.iinfo(when.dtype).max).argmin(1)
        taken = wanted & ((when < 0).any(1) | (score > worst))
        place = (torch.arange(scores.shape[1], device=at.device) == oldest_worst[:, None]) & taken[:, None]
        self.ids[at] = torch.where(place[..., None], texts.ids[:, :1], self.ids[at])
        self.lengths[at] = self.lengths[at].masked_fill(place, length)
        self.log_probs[at] = torch.where(place, texts.log_probs[:, :1], self.log_probs[at])
        self.scores[at] = torch.where(place, score[:, None], scores)
        self.when[at] = when.masked_fill(place, self._added)
        self._added += 1

    def beats(self, at: Tensor, estimate: Tensor) -> Tensor:
        """Whether the list of each context `at` is full and no member is worse than the estimate: [n]."""
        return (self.when[at] >= 0).all(1) & (self.scores[at].amin(1) >= estimate)

    def best(self) -> list[Hypothesis]:
        """The hypothesis with the highest score of each context; among equal ones, the last that was found."""
        latest = torch.where(self.scores == self.scores.amax(1, keepdim=True), self.when, -1).argmax(1)
        every = torch.arange(len(latest), device=latest.device)
        return Found(*(x[every, latest] for x in (self.ids, self.lengths, self.log_probs, self.scores))).hypotheses()


def beam_search(
    decoding: Decoding, prompt_ids: Sequence[int], settings: SearchSettings, sep_id: int
) -> list[Hypothesis]:
    """The best hypothesis of each context."""
    logits = decoding.start(prompt_ids)
    count, device = len(logits), logits.device
    batch, kept = Batch(count, device), _Kept(count, settings, device)
    zeros = torch.zeros(count, 1, dtype=torch.float64, device=device)
    live = _Texts(start_ids(prompt_ids, count, settings, device)[:, None], zeros, zeros)
    done = torch.zeros(count, dtype=torch.bool, device=device)
    uncounted = 0 if settings.length_rule == "whole" else len(prompt_ids)
    for length in range(len(prompt_ids) + 1, settings.max_length + 1):
        found, parents, ended = _extend(live, logits, length, settings, sep_id)
        ended_length = length - 1 if settings.length_rule == "whole" else length - uncounted
        for rank in range(settings.num_beams):
            one = _Texts(*(x[:, rank, None] for x in (found.ids, found.scores, found.log_probs)))
            kept.add(batch.at, ended[:, rank] & ~done, one, length, _power(ended_length, settings, device))
        going = ended.int().sort(dim=1, stable=True).indices[:, : settings.num_beams]  # the best that do not end
        live, parents = _pick(found, going), parents.gather(1, going)
        # Whether no live text can beat the worst hypothesis kept, by the estimate that the length rule uses.
        if settings.length_rule == "whole":
            estimate = found.scores[:, 0] / _power(length - 1, settings, device)
        else:
            estimate = live.scores[:, 0] / _power(length - uncounted, settings, device)
        done = done | kept.beats(batch.at, estimate)
        if length == settings.max_length:
            for beam in range(settings.num_beams):
                one = _Texts(*(x[:, beam, None] for x in (live.ids, live.scores, live.log_probs)))
                kept.add(batch.at, ~done, one, length, _power(length - uncounted, settings, device))
            break
        width = len(logits) // len(live.ids)
        parents = parents + width * torch.arange(len(parents), device=device)[:, None]
        places = batch.remove(done)
        if not places:
            break
        if len(places) < len(live.ids):
            remaining = upload(np.array(places, np.int64), device)
            live, parents, done = live.of(remaining), parents[remaining], done[remaining]
        logits = decoding.step(live.ids[:, :, length - 1].flatten(), parents.flatten(), places)
    return kept.best()


def _extend(
    live: _Texts, logits: Tensor, length: int, settings: SearchSettings, sep_id: int
) -> tuple[_Texts, Tensor, Tensor]:
    """The best 2 * num_beams candidates of `length` tokens of each context, best first.

    That is enough if up to half of them are [SEP]. Also returns the beam that each continues, and whether it ends.
    """
    contexts, vocabulary = len(live.ids), logits.shape[1]
    log_probs = logits.float().log_softmax(-1)  # [rows, vocabulary]
    scores = adjust(log_probs, live.ids[:, :, : length - 1].flatten(0, 1), settings, sep_id)
    scores = scores + live.scores.float().view(-1, 1)
    best = scores.view(contexts, -1).topk(2 * settings.num_beams)
    of_model = log_probs.view(contexts, -1).gather(1, best.indices).double()
    parents, tokens = best.indices // vocabulary, best.indices % vocabulary
    texts = _pick(live, parents)
    texts.ids[:, :, length - 1] = tokens
    return _Texts(texts.ids, best.values.double(), texts.log_probs + of_model), parents, tokens == sep_id


def _pick(texts: _Texts, which: Tensor) -> _Texts:
    """Texts `which` [n, m] of each context."""
    contexts = torch.arange(len(which), device=which.device)[:, None]
    return _Texts(*(x[contexts, which] for x in (texts.ids, texts.scores, texts.log_probs)))


def _power(length: int, settings: SearchSettings, device: torch.device) -> Tensor:
    """A tensor, because a GPU divides by a number less exactly than by a tensor."""
    return torch.full((), length**settings.length_penalty, dtype=torch.float64, device=device)
