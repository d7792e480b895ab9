"""Ranks a fixed list of answers for each question (BLIP, section 5.3): the more likely the answer, the lower its loss.

    ranker = AnswerRanker(decoder, answers, dec_id)
    ranker.rank(states, k) -> one Ranking per question       states: [tokens, width] for each question

The probability of the first answer token selects k candidates. A candidate's loss is the language model loss summed
over its tokens and [SEP], with label smoothing of 0.1 over the vocabulary. The candidates of a question share its keys
and values, their first step, and every common prefix (`answer_tree.py`). Everything before the first cross-attention is
the same for all questions and is computed once. The head runs once per node:

    loss = logsumexp(logits) - 0.9 * logits[target] - 0.1 * mean(logits)

The mean is computed as one product with the mean embedding.
"""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from blipbench.device import Fetch, upload
from blipbench.inference.answer_tree import NOWHERE, TreeRows, build_tree, select_nodes
from blipbench.inference.attention import Context, Indices, Spans
from blipbench.inference.decoding import FastDecoder
from blipbench.inference.text import KeysValues
from blipbench.models.med import LABEL_SMOOTHING

LOGIT_BYTES = {"cpu": 64 * 2**20, "cuda": 2**30}  # limit for float32 logits held at once
ATTENTION_ROWS = 32768  # per call: CUDA's kernels require a batch below 65,536


@dataclasses.dataclass(frozen=True)
class Ranking:
    """One question's candidates by ascending loss; equal losses are ordered by index."""

    candidates: Indices  # [k] indices into the answer list
    losses: npt.NDArray[np.float32]  # [k]


@dataclasses.dataclass(frozen=True)
class Questions:
    """A batch of questions sorted by length, with the keys and values that the decoder reads."""

    lengths: Indices  # [questions]
    keys_values: KeysValues  # per layer, [tokens of all questions, width]

    @property
    def count(self) -> int:
        return len(self.lengths)


@dataclasses.dataclass(frozen=True)
class FirstStep:
    """The output of [DEC]: its predictions, and the keys and values that later tokens attend to."""

    hidden: Tensor  # [questions, width], after the head's transform
    logits: Tensor  # [questions, vocabulary] float32
    keys_values: KeysValues  # per layer except the first, [questions, width]


@dataclasses.dataclass(frozen=True)
class _Started:
    """Questions after their first step. `candidates` are on their way from the device."""

    batch: list[int]
    questions: Questions
    step: FirstStep
    candidates: Fetch


class AnswerRanker:
    """`answers` are token ids without [CLS] and [SEP]."""

    def __init__(self, decoder: FastDecoder, answers: Sequence[Sequence[int]], dec_id: int) -> None:
        self.decoder = decoder
        self.runtime = decoder.runtime
        self.text = decoder.text
        self.tree = build_tree(answers, dec_id, decoder.sep_id)
        self.output = self.text.embeddings.word_embeddings.weight  # [vocabulary, width], tied
        self.bias = decoder.bias.float()
        self.mean_output, self.mean_bias = self.output.float().mean(0), self.bias.mean()
        self.first_tokens = self._tensor(self.tree.targets[:, 0])
        self.before_context = self._before_context()

    @torch.inference_mode()
    def rank(self, states: Sequence[Tensor], k: int) -> list[Ranking]:
        """`states`: [tokens, width] for each question. `k` is capped at the length of the answer list.

        Up to three batches are under way, so that a GPU computes while the trees of others are built here.
        """
        found: dict[int, Ranking] = {}
        started: list[_Started] = []
        scored: list[tuple[list[int], Indices, Fetch]] = []
        for batch in self._batches(states, k):
            started.append(self._start(batch, states, k))
            if len(started) > 1:
                scored.append(self._score(started.pop(0)))
            if len(scored) > 1:
                found |= _rankings(*scored.pop(0))
        scored += [self._score(batch) for batch in started]
        for batch_and_losses in scored:
            found |= _rankings(*batch_and_losses)
        return [found[question] for question in range(len(states))]

    def _start(self, batch: list[int], states: Sequence[Tensor], k: int) -> _Started:
        questions = self.read([states[question] for question in batch])
        step = self.first_step(questions)
        return _Started(batch, questions, step, Fetch(self.most_likely(step, k)))

    def _score(self, started: _Started) -> tuple[list[int], Indices, Fetch]:
        candidates = started.candidates.wait().numpy()
        return started.batch, candidates, Fetch(self.losses(started.questions, started.step, candidates))

    def nodes_per_question(self, k: int) -> float:
        """Estimated number of nodes below [DEC] for k candidates, from the mean per answer over the whole list."""
        return min(k, len(self.tree.paths)) * self.tree.nodes_per_answer

    @torch.inference_mode()
    def read(self, states: Sequence[Tensor]) -> Questions:
        """`states`: [tokens, width] for each question, sorted by length."""
        lengths = np.array([len(state) for state in states])
        return Questions(lengths, self.text.keys_values(torch.cat(list(states))))

    @torch.inference_mode()
    def first_step(self, questions: Questions) -> FirstStep:
        contexts = self._contexts(questions, np.arange(questions.count))
        hidden = self.before_context[:1].expand(questions.count, -1)
        keys_values: KeysValues = []
        for i, (layer, context) in enumerate(zip(self.text.layers, contexts, strict=True)):
            if i > 0:
                key, value = layer.key_value(hidden).chunk(2, dim=-1)
                keys_values.append((key, value))
                hidden = layer.after_self(value, hidden)  # a single token attends to its own value only
            hidden = layer.mlp(layer.cross_attend(hidden, context))
        hidden = self.decoder.transformed(hidden)
        return FirstStep(hidden, self.decoder.vocabulary(hidden).float(), keys_values)

    @torch.inference_mode()
    def most_likely(self, step: FirstStep, k: int) -> Tensor:
        """The k answers with the most probable first tokens (ties by index), [questions, k] in ascending order."""
        order = step.logits[:, self.first_tokens].sort(dim=1, descending=True, stable=True).indices
        return order[:, :k].sort(dim=1).values

    @torch.inference_mode()
    def losses(self, questions: Questions, step: FirstStep, candidates: Indices) -> Tensor:
        """The loss of each candidate: [questions, k] -> [questions, k] float32."""
        rows = select_nodes(self.tree, candidates)
        others = self.decoder.transformed(self._other_steps(questions, step, rows))
        hidden = torch.cat([step.hidden, others])  # [rows, width]
        of_node = torch.cat([step.logits.logsumexp(-1), self._log_sums(others)])
        of_node -= LABEL_SMOOTHING * (hidden.float() @ self.mean_output + self.mean_bias)
        question, place, depth = np.nonzero(rows.paths != NOWHERE)
        row = self._tensor(rows.paths[question, place, depth])
        target = self._tensor(rows.targets[question, place, depth])
        wanted = (hidden[row].float() * self.output[target].float()).sum(-1) + self.bias[target]
        at = self._tensor(question), self._tensor(place), self._tensor(depth)
        losses = of_node.new_zeros(rows.paths.shape)  # [questions, k, depth + 1]
        losses[at] = of_node[row] - (1 - LABEL_SMOOTHING) * wanted
        return losses.sum(-1)

    def _other_steps(self, questions: Questions, step: FirstStep, rows: TreeRows) -> Tensor:
        """Final states of the nodes below the roots, [rows - questions, width]."""
        below = slice(questions.count, None)
        contexts = self._contexts(questions, rows.questions[below])
        levels = self._levels(rows)
        hidden = self.before_context[self._tensor(rows.nodes[below])]
        for i, (layer, context) in enumerate(zip(self.text.layers, contexts, strict=True)):
            if i > 0:
                query, key, value = layer.qkv(hidden).chunk(3, dim=-1)
                root_key, root_value = step.keys_values[i - 1]
                key, value = torch.cat([root_key, key]), torch.cat([root_value, value])
                hidden = layer.after_self(_attend_upwards(query, key, value, levels, self.text.num_heads), hidden)
            hidden = layer.mlp(layer.cross_attend(hidden, context))
        return hidden

    @torch.inference_mode()
    def _before_context(self) -> Tensor:
        """Every node's state after the first layer's self-attention, [nodes, width], which no question affects."""
        whole = select_nodes(self.tree, np.arange(len(self.tree.paths))[None])
        table, layer = self.text.embeddings, self.text.layers[0]
        words = table.word_embeddings(self._tensor(self.tree.tokens))
        hidden = table.LayerNorm(words + table.position_embeddings(self._tensor(self.tree.depths)))
        query, key, value = layer.qkv(hidden).chunk(3, dim=-1)
        above = _attend_upwards(query[1:], key, value, self._levels(whole), self.text.num_heads)
        attended = torch.cat([value[:1], above])
        return layer.after_self(attended, hidden)

    def _contexts(self, questions: Questions, owner: Indices) -> list[Context]:
        """One context per layer. Query i reads question `owner[i]`."""
        spans = Spans.of_owner(owner, np.ones_like(owner), questions.lengths, self.runtime.device)
        return self.text.contexts(questions.keys_values, spans, spans)

    def _log_sums(self, hidden: Tensor) -> Tensor:
        """The logsumexp of each row's logits, computed in blocks of rows: [rows, width] -> [rows] float32."""
        sums = [self.decoder.vocabulary(block).float().logsumexp(-1) for block in hidden.split(self._logit_rows)]
        return torch.cat(sums) if sums else hidden.new_empty(0, dtype=torch.float32)

    def _batches(self, states: Sequence[Tensor], k: int) -> Iterator[list[int]]:
        """Batches of questions sorted by length. The questions and their candidates fill the token budget."""
        fitting = int(self.runtime.batch_tokens / max(1.0, self.nodes_per_question(k)))
        size = max(1, min(fitting, self._logit_rows))
        order = sorted(range(len(states)), key=lambda question: len(states[question]))
        for start in range(0, len(order), size):
            yield order[start : start + size]

    @property
    def _logit_rows(self) -> int:
        return max(1, LOGIT_BYTES[self.runtime.device.type] // (4 * len(self.output)))

    def _levels(self, rows: TreeRows) -> list[Tensor]:
        """The rows that each row below the roots attends to: parts of levels, [rows, depth + 1], by depth."""
        return [part for level in rows.levels for part in self._tensor(level).split(ATTENTION_ROWS)]

    def _tensor(self, x: Indices) -> Tensor:
        return upload(x, self.runtime.device)


def _rankings(batch: list[int], candidates: Indices, losses: Fetch) -> dict[int, Ranking]:
    """The ranking of each question of a batch, once its losses are here."""
    loss = losses.wait().numpy()  # [questions, k]
    order = np.argsort(loss, axis=1, kind="stable")
    best = zip(batch, np.take_along_axis(candidates, order, 1), np.take_along_axis(loss, order, 1), strict=True)
    return {question: Ranking(row, of_row) for question, row, of_row in best}


def _attend_upwards(query: Tensor, key: Tensor, value: Tensor, levels: Sequence[Tensor], num_heads: int) -> Tensor:
    """Each node attends to its ancestors and itself.

    query: [rows below the roots, width], by depth. key, value: [rows, width], the roots first.
    """

    def heads(x: Tensor) -> Tensor:
        return x.unflatten(-1, (num_heads, -1)).transpose(1, 2)  # [rows, heads, tokens, head_dim]

    out = torch.empty_like(query)
    start = 0
    for ancestors in levels:
        end = start + len(ancestors)
        asked = query[start:end, None]
        attended = F.scaled_dot_product_attention(heads(asked), heads(key[ancestors]), heads(value[ancestors]))
        out[start:end] = attended.flatten(1)  # [rows, heads, 1, head_dim] -> [rows, width]
        start = end
    return out
