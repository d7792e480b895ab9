"""Generates text from a language model: greedy search and nucleus sampling, and what beam search (beams.py) shares.

Takes a prompt and a `Decoding` (a batch of contexts with logits on demand), and returns the best `Hypothesis` of each
context. The semantics are those of transformers 4.15, with which BLIP was published (see `SearchSettings`). The beams
of a context are adjacent rows of the batch. A finished context leaves the batch.

All state is on the device, so that the next step of a GPU never waits for Python.
"""

import collections
import dataclasses
from collections.abc import Sequence
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from blipbench.device import Fetch, upload

Method = Literal["beam", "greedy", "nucleus"]


@dataclasses.dataclass(frozen=True)
class SearchSettings:
    """How to generate. Lengths are in tokens and include [DEC] and the prompt; `max_length` also includes [SEP].

    Beam search keeps `num_beams` live texts (one beam is greedy search). It ranks finished texts by the sum of their
    log-probabilities / length ** `length_penalty`. With `length_rule` "whole", this length counts the whole text
    without [SEP], as in the reference. With "generated", it counts the generated part with [SEP], as in transformers
    4.37 and later.

    `repetition_penalty` applies to every token that is already in the text, including the prompt: to log-probabilities
    in beam search, to logits otherwise. Nucleus sampling considers the `top_k` most probable tokens, and samples from
    the smallest set of them with total probability `top_p` or more.
    """

    method: Method = "beam"
    num_beams: int = 3
    max_length: int = 20
    min_length: int = 5
    repetition_penalty: float = 1.0
    length_penalty: float = 1.0
    length_rule: Literal["whole", "generated"] = "whole"
    top_p: float = 0.9
    top_k: int = 50

    @property
    def beams(self) -> int:
        """The number of live texts per context."""
        return self.num_beams if self.method == "beam" else 1


@dataclasses.dataclass(frozen=True)
class Hypothesis:
    """A generated text. `score` is its rank criterion in beam search, and equals `log_prob` otherwise."""

    ids: list[int]  # starts with [DEC] and the prompt; ends with [SEP] unless truncated at max_length
    log_prob: float  # sum over the generated tokens, from the model without penalties
    score: float


class Decoding(Protocol):
    """The state of decoding a batch of contexts. A row is one live text; every context has equally many, adjacent."""

    def start(self, prompt_ids: Sequence[int]) -> Tensor:
        """Logits after the prompt, one row per context: [contexts, vocabulary]."""
        ...

    def step(self, tokens: Tensor, parents: Tensor, contexts: Sequence[int]) -> Tensor:
        """Logits [rows, vocabulary] after one more token per row: `tokens` [rows].

        Row i continues row `parents[i]` of the previous call. `contexts` are the places that the remaining contexts had
        in the previous call.
        """
        ...


class Batch:
    """Which contexts are still in the batch, by place.

    A GPU is asked which ones are done, and answers one step later. Until then they stay, and their results must not
    change any more.
    """

    def __init__(self, count: int, device: torch.device) -> None:
        self.contexts = list(range(count))
        self.at = torch.arange(count, device=device)  # the same on the device
        self._done = torch.zeros(count, dtype=torch.bool, device=device)  # by context
        self._answers: collections.deque[Fetch] = collections.deque()
        self._steps_late = steps_late(device)

    def remove(self, done: Tensor) -> list[int]:
        """Remove contexts that are done ([places]), and return the places of the remaining ones."""
        self._done[self.at] = done
        self._answers.append(Fetch(self._done))
        if len(self._answers) <= self._steps_late:
            return list(range(len(self.contexts)))
        known = self._answers.popleft().wait().tolist()
        places = compact([not known[context] for context in self.contexts])
        if len(places) < len(self.contexts):
            self.contexts = [self.contexts[place] for place in places]
            self.at = upload(np.array(self.contexts, np.int64), self.at.device)
        return places


def steps_late(device: torch.device) -> int:
    """How many steps later a batch learns which of its contexts are done. A GPU would have to wait for less than 1."""
    return 0 if device.type == "cpu" else 1


@dataclasses.dataclass(frozen=True)
class Found:
    """One text of each of n contexts."""

    ids: Tensor  # [n, max_length]
    lengths: Tensor  # [n]
    log_probs: Tensor  # [n] float64
    scores: Tensor  # [n] float64

    def hypotheses(self) -> list[Hypothesis]:
        columns = (x.tolist() for x in (self.ids, self.lengths, self.log_probs, self.scores))
        return [
            Hypothesis(ids[:length], log_prob, score) for ids, length, log_prob, score in zip(*columns, strict=True)
        ]


def token_search(
    decoding: Decoding, prompt_ids: Sequence[int], settings: SearchSettings, sep_id: int, seeds: Sequence[int]
) -> list[Hypothesis]:
    """Greedy search, or nucleus sampling with one seed per context, so that contexts do not affect each other."""
    logits = decoding.start(prompt_ids)
    batch, count, device = Batch(len(logits), logits.device), len(logits), logits.device
    ids = start_ids(prompt_ids, count, settings, device)  # by context, like the next ones
    lengths = torch.full((count,), settings.max_length, device=device)
    log_probs = torch.zeros(count, dtype=torch.float64, device=device)
    draws = _draws(seeds, settings).to(device) if settings.method == "nucleus" else None
    for length in range(len(prompt_ids), settings.max_length):
        at = batch.at
        live = lengths[at] > length
        logits = logits.float()
        adjusted = adjust(logits, ids[at, :length], settings, sep_id)
        chosen = (
            adjusted.argmax(-1) if draws is None else _draw(adjusted, draws[at, length - len(prompt_ids)], settings)
        )
        ids[at, length] = chosen
        of_model = logits.log_softmax(-1).gather(1, chosen[:, None])[:, 0].double()
        log_probs[at] += torch.where(live, of_model, 0.0)
        lengths[at] = torch.where(live & (chosen == sep_id), length + 1, lengths[at])
        if length + 1 == settings.max_length:
            break
        places = batch.remove(lengths[at] <= length + 1)
        if not places:
            break
        parents = upload(np.array(places, np.int64), device)
        logits = decoding.step(chosen[parents], parents, places)
    return Found(ids, lengths, log_probs, log_probs).hypotheses()


def start_ids(prompt_ids: Sequence[int], rows: int, settings: SearchSettings, device: torch.device) -> Tensor:
    """Room for `rows` texts that begin with the prompt, [rows, max_length]."""
    ids = torch.zeros(rows, settings.max_length, dtype=torch.int64, device=device)
    ids[:, : len(prompt_ids)] = upload(np.array(prompt_ids, np.int64), device)
    return ids


def _draws(seeds: Sequence[int], settings: SearchSettings) -> Tensor:
    """Uniform random numbers for each token of each text, [texts, max_length] float64."""
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    draws = [torch.rand(settings.max_length, generator=generator, dtype=torch.float64) for generator in generators]
    return torch.stack(draws)


def _draw(logits: Tensor, draws: Tensor, settings: SearchSettings) -> Tensor:
    """A token of each row of logits [rows, vocabulary], from the nucleus. draws: [rows], uniform in [0, 1)."""
    probabilities, tokens = nucleus(logits, settings.top_k, settings.top_p)
    ends = probabilities.double().cumsum(-1)  # [rows, top_k]
    drawn = torch.searchsorted(ends, draws[:, None] * ends[:, -1:], right=True)
    return tokens.gather(1, drawn.clamp(max=tokens.shape[1] - 1))[:, 0]


def adjust(scores: Tensor, texts: Tensor, settings: SearchSettings, sep_id: int) -> Tensor:
    """Scores of the next token, [rows, vocabulary], with the repetition penalty and the minimum length applied.

    texts: [rows, tokens].
    """
    too_short = texts.shape[1] < settings.min_length
    if settings.repetition_penalty == 1.0 and not too_short:
        return scores
    scores = scores.clone()
    if settings.repetition_penalty != 1.0:
        given = scores.gather(1, texts)
        penalty = settings.repetition_penalty
        scores.scatter_(1, texts, torch.where(given < 0, given * penalty, given / penalty))
    if too_short:
        scores[:, sep_id] = -torch.inf
    return scores


def nucleus(logits: Tensor, top_k: int, top_p: float) -> tuple[Tensor, Tensor]:
    """Probabilities and ids of the `top_k` most probable tokens, [rows, top_k] each, in descending order.

    Tokens outside the nucleus of `top_p` have probability 0.
    """
    best, tokens = logits.topk(min(top_k, logits.shape[1]))
    likelier = best.softmax(-1).cumsum(-1)[:, :-1]  # [rows, top_k - 1] mass of the tokens before the second, third, ...
    best[:, 1:] = best[:, 1:].masked_fill(likelier > top_p, -torch.inf)
    return best.softmax(-1), tokens


def compact(alive: Sequence[bool]) -> list[int]:
    """The places of the live items, with few moves: the last live items fill the places of finished ones."""
    count = sum(alive)
    tail = [place for place in range(count, len(alive)) if alive[place]]
    return [place if alive[place] else tail.pop() for place in range(count)]
