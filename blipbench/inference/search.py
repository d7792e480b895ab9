"""Generates text from a language model: beam search, greedy search and nucleus sampling.

Takes a prompt and a `Decoding` (a batch of contexts with logits on demand), and returns the best `Hypothesis` of each
context. The semantics are those of transformers 4.15, with which BLIP was published (see `SearchSettings`). The beams
of a context are adjacent rows of the batch. A finished context leaves the batch.
"""

import dataclasses
from collections.abc import Sequence
from typing import Literal, Protocol

import torch
from torch import Tensor

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

    def step(self, tokens: Sequence[int], parents: Sequence[int], contexts: Sequence[int]) -> Tensor:
        """Logits [rows, vocabulary] after one more token per row.

        Row i continues row `parents[i]` of the previous call. `contexts` are the places that the remaining contexts had
        in the previous call.
        """
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
        best = scores.view(len(live), -1).topk(2 * settings.num_beams)  # enough if up to half of them are [SEP]
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
    """A beam (its place in its sentence) with one more token."""

    beam: int
    token: int
    score: float
    log_prob: float  # of the token


@dataclasses.dataclass(frozen=True)
class _Beam:
    ids: list[int]
    score: float  # sum of penalised log-probabilities
    log_prob: float
    parent: int  # the beam of the previous step that it continues


class _Sentence:
    """Beam search for one context: the live beams and the best `num_beams` hypotheses so far."""

    def __init__(self, prompt_ids: Sequence[int], settings: SearchSettings, sep_id: int) -> None:
        self.settings = settings
        self.sep_id = sep_id
        self.not_counted = 0 if settings.length_rule == "whole" else len(prompt_ids)
        self.beams = [_Beam(list(prompt_ids), 0.0, 0.0, 0)]
        self.kept: list[Hypothesis] = []
        self.done = False

    def advance(self, candidates: Sequence[_Candidate]) -> None:
        """Take the candidates of the next step: 2 * num_beams, best first."""
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
        """The hypothesis with the highest score; among equal ones, the last that was found."""
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
        """Whether no live text can beat the worst hypothesis kept, by the estimate that the length rule uses.

        The estimate is the score of the best live text if it ended here.
        """
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
    """Greedy search, or nucleus sampling with one seed per context, so that contexts do not affect each other."""
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
    """Scores of the next token, [rows, vocabulary], with the repetition penalty and the minimum length applied."""
    too_short = len(texts[0]) < settings.min_length
    if settings.repetition_penalty == 1.0 and not too_short:
        return scores
    scores = scores.clone()
    if settings.repetition_penalty != 1.0:
        seen = torch.tensor(texts, device=scores.device)  # [rows, tokens]; all live texts have equal length
        given = scores.gather(1, seen)
        penalty = settings.repetition_penalty
        scores.scatter_(1, seen, torch.where(given < 0, given * penalty, given / penalty))
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
