"""Ranks a fixed list of answers for each question (BLIP, section 5.3): the likelier the answer, the lower its loss.

    ranker = AnswerRanker(decoder, answers, dec_id)
    ranker.rank(states, k) -> one Ranking a question         states: of each question [tokens, width]

The first answer token's probability picks k candidates; a candidate's loss is the language model loss summed over its
tokens and [SEP], smoothed by 0.1 over the vocabulary. A question's keys and values are projected once and shared by its
candidates; so is their first step, and whatever else they begin with (`answer_tree.py`). What comes before the first
cross-attention is the same for every question and computed once. The head runs once per node:

    loss = logsumexp(logits) - 0.9 * logits[target] - 0.1 * mean(logits)

with the mean taken as one product with the mean embedding.
"""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from blipbench.inference.answer_tree import NOWHERE, Growth, build_tree, grow
from blipbench.inference.decoding import FastDecoder
from blipbench.inference.packing import Indices
from blipbench.inference.routing import RoutedContext, Routing
from blipbench.models.med import LABEL_SMOOTHING

LOGIT_BYTES = 64 * 2**20  # of float32 logits held at a time
ATTENTION_ROWS = 32768  # in one call: CUDA's kernels take a batch below 65,536

KeyValue = tuple[Tensor, Tensor]


@dataclasses.dataclass(frozen=True)
class Ranking:
    """One question's candidates, the lowest loss first; equal losses by index."""

    candidates: Indices  # [k] indices into the answer list
    losses: npt.NDArray[np.float32]  # [k]


@dataclasses.dataclass(frozen=True)
class Questions:
    """A batch of questions as the decoder reads them: sorted by length, keys and values of every layer projected."""

    groups: list[tuple[int, int]]  # (questions, length)
    keys_values: list[KeyValue]  # per layer, [tokens of all questions, width]

    @property
    def count(self) -> int:
        return sum(count for count, _ in self.groups)


@dataclasses.dataclass(frozen=True)
class FirstStep:
    """[DEC] decoded: what it predicts, and the keys and values with which later tokens attend to it."""

    hidden: Tensor  # [questions, width], after the head's transform
    logits: Tensor  # [questions, vocabulary] float32
    keys_values: list[KeyValue]  # per layer but the first, [questions, width]


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
        """`states` of each question [tokens, width]; k larger than the list means all of it."""
        rankings: dict[int, Ranking] = {}
        for batch in self._batches(states, k):
            questions = self.read([states[question] for question in batch])
            step = self.first_step(questions)
            candidates = self.most_likely(step, k)
            losses = self.losses(questions, step, candidates).cpu().numpy()
            order = np.argsort(losses, axis=1, kind="stable")
            for question, best, row, loss in zip(batch, order, candidates, losses, strict=True):
                rankings[question] = Ranking(row[best], loss[best])
        return [rankings[question] for question in range(len(states))]

    def nodes_per_question(self, k: int) -> float:
        """How many distinct beginnings k candidates have below [DEC], estimated: as many each as the whole list's."""
        return min(k, len(self.tree.paths)) * self.tree.nodes_per_answer

    @torch.inference_mode()
    def read(self, states: Sequence[Tensor]) -> Questions:
        """`states` [tokens, width] of questions sorted by length."""
        lengths, counts = np.unique([len(state) for state in states], return_counts=True)
        groups = list(zip(counts.tolist(), lengths.tolist(), strict=True))
        return Questions(groups, self.text.keys_values(torch.cat(list(states))))

    @torch.inference_mode()
    def first_step(self, questions: Questions) -> FirstStep:
        contexts = self._contexts(questions, np.arange(questions.count))
        hidden = self.before_context[:1].expand(questions.count, -1)
        keys_values: list[KeyValue] = []
        for i, (layer, context) in enumerate(zip(self.text.layers, contexts, strict=True)):
            if i > 0:
                key, value = layer.key_value(hidden).chunk(2, dim=-1)
                keys_values.append((key, value))
                hidden = layer.after_self(value, hidden)  # alone, a token finds its own value
            hidden = layer.mlp(layer.cross_attend(hidden, context))
        hidden = self.decoder.transformed(hidden)
        return FirstStep(hidden, self.decoder.vocabulary(hidden).float(), keys_values)

    @torch.inference_mode()
    def most_likely(self, step: FirstStep, k: int) -> Indices:
        """The k answers whose first tokens are the likeliest, equal ones by index: [questions, k], ascending."""
        order = step.logits[:, self.first_tokens].sort(dim=1, descending=True, stable=True).indices
        return np.sort(order[:, :k].cpu().numpy(), axis=1)

    @torch.inference_mode()
    def losses(self, questions: Questions, step: FirstStep, candidates: Indices) -> Tensor:
        """Of each question's candidates [questions, k] -> [questions, k] float32."""
        growth = grow(self.tree, candidates)
        others = self.decoder.transformed(self._other_steps(questions, step, growth))
        hidden = torch.cat([step.hidden, others])  # [rows, width]
        of_node = torch.cat([step.logits.logsumexp(-1), self._log_sums(others)])
        of_node -= LABEL_SMOOTHING * (hidden.float() @ self.mean_output + self.mean_bias)
        question, place, depth = np.nonzero(growth.paths != NOWHERE)
        row = self._tensor(growth.paths[question, place, depth])
        target = self._tensor(growth.targets[question, place, depth])
        wanted = (hidden[row].float() * self.output[target].float()).sum(-1) + self.bias[target]
        at = self._tensor(question), self._tensor(place), self._tensor(depth)
        losses = of_node.new_zeros(growth.paths.shape)  # [questions, k, depth + 1]
        losses[at] = of_node[row] - (1 - LABEL_SMOOTHING) * wanted
        return losses.sum(-1)

    def _other_steps(self, questions: Questions, step: FirstStep, growth: Growth) -> Tensor:
        """Final states of the nodes below the roots, [rows - questions, width]."""
        below = slice(questions.count, None)
        contexts = self._contexts(questions, growth.questions[below])
        levels = self._levels(growth)
        hidden = self.before_context[self._tensor(growth.nodes[below])]
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
        """Every node's state after the first layer's self-attention, [nodes, width]: no question enters it."""
        whole = grow(self.tree, np.arange(len(self.tree.paths))[None])
        table, layer = self.text.embeddings, self.text.layers[0]
        words = table.word_embeddings(self._tensor(self.tree.tokens))
        hidden = table.LayerNorm(words + table.position_embeddings(self._tensor(self.tree.depths)))
        query, key, value = layer.qkv(hidden).chunk(3, dim=-1)
        above = _attend_upwards(query[1:], key, value, self._levels(whole), self.text.num_heads)
        attended = torch.cat([value[:1], above])
        return layer.after_self(attended, hidden)

    def _contexts(self, questions: Questions, owner: Indices) -> list[RoutedContext]:
        """Per layer; query i reads question `owner[i]`."""
        routing = Routing(questions.groups, owner, self.runtime.device)
        return [routing.bind(key, value, self.text.num_heads) for key, value in questions.keys_values]

    def _log_sums(self, hidden: Tensor) -> Tensor:
        """logsumexp of the logits of each row [rows, width] -> [rows] float32, a block of rows at a time."""
        sums = [self.decoder.vocabulary(block).float().logsumexp(-1) for block in hidden.split(self._logit_rows)]
        return torch.cat(sums) if sums else hidden.new_empty(0, dtype=torch.float32)

    def _batches(self, states: Sequence[Tensor], k: int) -> Iterator[list[int]]:
        """Questions sorted by length, as many at a time as fill the token budget with their candidates."""
        fitting = int(self.runtime.batch_tokens / max(1.0, self.nodes_per_question(k)))
        size = max(1, min(fitting, self._logit_rows))
        order = sorted(range(len(states)), key=lambda question: len(states[question]))
        for start in range(0, len(order), size):
            yield order[start : start + size]

    @property
    def _logit_rows(self) -> int:
        return max(1, LOGIT_BYTES // (4 * len(self.output)))

    def _levels(self, growth: Growth) -> list[Tensor]:
        """Of each row below the roots the rows that it attends to; parts of a level, [rows, depth + 1], by depth."""
        return [part for level in growth.levels for part in self._tensor(level).split(ATTENTION_ROWS)]

    def _tensor(self, x: Indices) -> Tensor:
        return torch.from_numpy(x).to(self.runtime.device, non_blocking=True)


def _attend_upwards(query: Tensor, key: Tensor, value: Tensor, levels: Sequence[Tensor], num_heads: int) -> Tensor:
    """Each node attends to the nodes above it and itself. query [rows below the roots, width] by depth; key, value
    [rows, width], the roots' first."""

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
