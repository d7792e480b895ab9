"""Searches for the text that a language model gives a context: beam search, greedy search, nucleus sampling.

In go a `Decoding` (a batch of contexts with logits on demand) and a prompt, out comes the best `Hypothesis` of each
context. The semantics are those of the transformers that BLIP was published with (4.15): see `SearchSettings`. Beams
of a context lie side by side in the batch; a context that is finished leaves it.
"""

import dataclasses
from collections.abc import Sequence
from typing import Literal, Protocol

import torch
from torch import Tensor

Method = Literal["beam", "greedy", "nucleus"]


@dataclasses.dataclass(frozen=True)
class SearchSettings:
    """How to write. Lengths are in tokens and count [DEC] and the prompt; `max_length` counts [SEP] too.

    Beam search keeps `num_beams` texts alive (one beam is greedy search) and ranks finished ones by the sum of their
    log-probabilities / length ** `length_penalty`. The length is by `length_rule` that of the "whole" text without
    [SEP], as in the reference, or that of the "generated" part with [SEP], as in transformers from 4.37 on.

    `repetition_penalty` falls on every token that is in the text already, prompt included: on log-probabilities in beam
    search, on logits otherwise. Nucleus sampling draws from the likeliest tokens that together have probability
    `top_p`, of the `top_k` likeliest.
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
        """Texts alive at a time for one context."""
        return self.num_beams if self.method == "beam" else 1


@dataclasses.dataclass(frozen=True)
class Hypothesis:
    """A text that was found. `score` ranked it in beam search; otherwise it is `log_prob`."""

    ids: list[int]  # [DEC] and the prompt first, [SEP] last unless the text was cut at max_length
    log_prob: float  # the model's, summed over the generated tokens, without penalties
    score: float


class Decoding(Protocol):
    """A batch of contexts under way. A row is one text alive; each context has as many, side by side."""

    def start(self, prompt_ids: Sequence[int]) -> Tensor:
        """Logits [contexts, vocabulary] after the prompt, one row a context."""
        ...

    def step(self, tokens: Sequence[int], parents: Sequence[int], contexts: Sequence[int]) -> Tensor:
        """Logits [rows, vocabulary] after one more token each. Row i continues row `parents[i]` of the call before;
        `contexts` are the places, in the call before, of the contexts that are left."""
        ...


def beam_search(
    decoding: Decoding, prompt_ids: Sequence[int], settings: SearchSettings, sep_id: int
) -> list[Hypothesis]:
    """The best hypothesis of each context."""
    logits = decoding.start(prompt_ids)
    sentences = [_Sentence(prompt_ids, settings, sep_id) for _ in range(len(logits))]
    live = sentences
    while True:
        vocabulary = logits.shape[1]
        beams = [beam for sentence in live for beam in sentence.beams]
        log_probs = logits.float().log_softmax(-1)  # [rows, vocabulary]
        scores = adjust(log_probs, [beam.ids for beam in beams], settings, sep_id)
        scores = scores + torch.tensor([beam.score for beam in beams], device=scores.device)[:, None]
        best = scores.view(len(live), -1).topk(2 * settings.num_beams)  # enough even if half of them are [SEP]
        of_model = log_probs.view(len(live), -1).gather(1, best.indices)
        found = torch.stack([best.values.double(), best.indices.double(), of_model.double()], dim=-1).tolist()
        for sentence, candidates in zip(live, found, strict=True):
            sentence.advance(
                [_Candidate(*divmod(int(at), vocabulary), score, log_prob) for score, at, log_prob in candidates]
            )
        width = len(beams) // len(live)
        places = compact([not sentence.done for sentence in live])
        if not places:
            return [sentence.best() for sentence in sentences]
        parents = [place * width + beam.parent for place in places for beam in live[place].beams]
        live = [live[place] for place in places]
        logits = decoding.step([beam.ids[-1] for sentence in live for beam in sentence.beams], parents, places)


@dataclasses.dataclass(frozen=True)
class _Candidate:
    """A beam, by its place in its sentence, with one more token."""

    beam: int
    token: int
    score: float
    log_prob: float  # of the token


@dataclasses.dataclass(frozen=True)
class _Beam:
    ids: list[int]
    score: float  # sum of penalised log-probabilities
    log_prob: float
    parent: int  # which beam of the step before it continues


class _Sentence:
    """One context's beam search: the beams alive and the best `num_beams` hypotheses so far."""

    def __init__(self, prompt_ids: Sequence[int], settings: SearchSettings, sep_id: int) -> None:
        self.settings = settings
        self.sep_id = sep_id
        self.not_counted = 0 if settings.length_rule == "whole" else len(prompt_ids)
        self.beams = [_Beam(list(prompt_ids), 0.0, 0.0, 0)]
        self.kept: list[Hypothesis] = []
        self.done = False

    def advance(self, candidates: Sequence[_Candidate]) -> None:
        """Take the next step's candidates, 2 * num_beams of them, the best first."""
        wanted = self.settings.num_beams
        beams: list[_Beam] = []
        for rank, candidate in enumerate(candidates):
            parent = self.beams[candidate.beam]
            ids, log_prob = [*parent.ids, candidate.token], parent.log_prob + candidate.log_prob
            if candidate.token != self.sep_id:
                beams.append(_Beam(ids, candidate.score, log_prob, candidate.beam))
            elif rank < wanted:
                self._keep(ids, candidate.score, log_prob)
            if len(beams) == wanted:
                break
        self.done = self._nothing_better_can_come(candidates[0].score, beams[0])
        self.beams = beams
        if not self.done and len(beams[0].ids) == self.settings.max_length:
            for beam in beams:
                self._keep(beam.ids, beam.score, beam.log_prob)
            self.done = True

    def best(self) -> Hypothesis:
        """Of equal ones the last found."""
        return max(reversed(self.kept), key=lambda hypothesis: hypothesis.score)

    def _keep(self, ids: list[int], total: float, log_prob: float) -> None:
        score = total / self._length(ids) ** self.settings.length_penalty
        full = len(self.kept) == self.settings.num_beams
        if full and score <= self._worst():
            return
        if full:
            self.kept.remove(min(self.kept, key=lambda hypothesis: hypothesis.score))
        self.kept.append(Hypothesis(ids, log_prob, score))

    def _nothing_better_can_come(self, best_candidate: float, best_beam: _Beam) -> bool:
        """By each rule's own estimate: of what the best text alive would score if it ended here."""
        if len(self.kept) < self.settings.num_beams:
            return False
        length = len(best_beam.ids) - self.not_counted
        if self.settings.length_rule == "whole":
            return self._worst() >= best_candidate / (length - 1) ** self.settings.length_penalty
        return self._worst() >= best_beam.score / length**self.settings.length_penalty

    def _length(self, ids: list[int]) -> int:
        uncounted_end = ids[-1] == self.sep_id and self.settings.length_rule == "whole"
        return len(ids) - self.not_counted - uncounted_end

    def _worst(self) -> float:
        return min(hypothesis.score for hypothesis in self.kept)


def token_search(
    decoding: Decoding, prompt_ids: Sequence[int], settings: SearchSettings, sep_id: int, seeds: Sequence[int]
) -> list[Hypothesis]:
    """Greedy search, or nucleus sampling with a seed per context: what one context gets hangs on no other."""
    logits = decoding.start(prompt_ids)
    texts = [list(prompt_ids) for _ in range(len(logits))]
    log_probs = [0.0] * len(texts)
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    live = list(range(len(texts)))
    while True:
        logits = logits.float()
        adjusted = adjust(logits, [texts[i] for i in live], settings, sep_id)
        if settings.method == "nucleus":
            draws = torch.stack([torch.rand((), generator=generators[i], dtype=torch.float64) for i in live])
            probabilities, tokens = nucleus(adjusted, settings.top_k, settings.top_p)
            ends = probabilities.double().cumsum(-1)  # [rows, top_k]
            drawn = torch.searchsorted(ends, draws.to(ends.device)[:, None] * ends[:, -1:], right=True)
            chosen = tokens.gather(1, drawn.clamp(max=tokens.shape[1] - 1))[:, 0]
        else:
            chosen = adjusted.argmax(-1)
        of_model = logits.log_softmax(-1).gather(1, chosen[:, None])[:, 0].tolist()
        for i, token, log_prob in zip(live, chosen.tolist(), of_model, strict=True):
            texts[i].append(token)
            log_probs[i] += log_prob
        places = compact([texts[i][-1] != sep_id and len(texts[i]) < settings.max_length for i in live])
        if not places:
            return [Hypothesis(ids, total, total) for ids, total in zip(texts, log_probs, strict=True)]
        live = [live[place] for place in places]
        logits = decoding.step([texts[i][-1] for i in live], places, places)


def adjust(scores: Tensor, texts: Sequence[Sequence[int]], settings: SearchSettings, sep_id: int) -> Tensor:
    """Scores [rows, vocabulary] of the next token after `texts`, repetitions penalised and no end too early."""
    too_short = len(texts[0]) < settings.min_length
    if settings.repetition_penalty == 1.0 and not too_short:
        return scores
    scores = scores.clone()
    if settings.repetition_penalty != 1.0:
        seen = torch.tensor(texts, device=scores.device)  # [rows, tokens]; all texts alive are equally long
        given = scores.gather(1, seen)
        penalty = settings.repetition_penalty
        scores.scatter_(1, seen, torch.where(given < 0, given * penalty, given / penalty))
    if too_short:
        scores[:, sep_id] = -torch.inf
    return scores


def nucleus(logits: Tensor, top_k: int, top_p: float) -> tuple[Tensor, Tensor]:
    """Probabilities and ids of the `top_k` likeliest tokens, [rows, top_k] each, the likeliest first; those beyond the
    nucleus of `top_p` have probability 0."""
    best, tokens = logits.topk(min(top_k, logits.shape[1]))
    likelier = best.softmax(-1).cumsum(-1)[:, :-1]  # [rows, top_k - 1] mass of the tokens before the second, third, ...
    best[:, 1:] = best[:, 1:].masked_fill(likelier > top_p, -torch.inf)
    return best.softmax(-1), tokens


def compact(alive: Sequence[bool]) -> list[int]:
    """The places of those alive, with few changes of place: the last take the places of those that ended."""
    count = sum(alive)
    tail = [place for place in range(count, len(alive)) if alive[place]]
    return [place if alive[place] else tail.pop() for place in range(count)]
