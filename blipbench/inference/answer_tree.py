"""A fixed list of answers as a prefix tree: a prefix that several answers share is one node, computed once.

`build_tree` takes the answers' token ids and returns an `AnswerTree`. `select_nodes` returns the part of the tree that
a batch of questions and their candidate answers needs, as rows of a packed batch. Node 0 is the root: [DEC] alone, the
first step of every answer. An answer is a path from the root. Each node of the path predicts the next token; the last
node predicts [SEP].
"""

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from blipbench.inference.attention import Indices

NOWHERE = -1  # padding for the paths of answers shorter than the longest


@dataclasses.dataclass(frozen=True)
class AnswerTree:
    """Nodes are numbered by depth. Rows of `paths` and `targets` of short answers are padded with NOWHERE."""

    tokens: Indices  # [nodes] token of each node; the root's token is [DEC]
    depths: Indices  # [nodes] distance from the root, also the token's position in the answer
    ancestors: Indices  # [nodes, depth + 1] from the root down to the node itself, then NOWHERE
    paths: Indices  # [answers, depth + 1] nodes of each answer, starting with the root
    targets: Indices  # [answers, depth + 1] the token that each node of the path must predict; the last is [SEP]

    @property
    def nodes_per_answer(self) -> float:
        """The mean number of nodes per answer, without the root."""
        return (len(self.tokens) - 1) / len(self.paths)


@dataclasses.dataclass(frozen=True)
class TreeRows:
    """The nodes that a batch needs, one row each, by ascending depth. The first rows are the questions' roots."""

    nodes: Indices  # [rows] the tree node of each row
    questions: Indices  # [rows] the question of each row
    levels: list[Indices]  # per depth below the roots, [n, depth + 1]: the rows that each row attends to, itself last
    paths: Indices  # [questions, candidates, depth + 1] rows; NOWHERE after the end of an answer
    targets: Indices  # [questions, candidates, depth + 1] token ids


def build_tree(answers: Sequence[Sequence[int]], dec_id: int, sep_id: int) -> AnswerTree:
    """`answers` are token ids without [DEC] and [SEP]."""
    prefixes = sorted({tuple(ids[:end]) for ids in answers for end in range(len(ids) + 1)}, key=len)
    number = {prefix: node for node, prefix in enumerate(prefixes)}
    longest = len(prefixes[-1])

    def path(ids: tuple[int, ...]) -> list[int]:
        nodes = [number[ids[:end]] for end in range(len(ids) + 1)]
        return nodes + [NOWHERE] * (longest - len(ids))

    return AnswerTree(
        tokens=np.array([prefix[-1] if prefix else dec_id for prefix in prefixes]),
        depths=np.array([len(prefix) for prefix in prefixes]),
        ancestors=np.array([path(prefix) for prefix in prefixes]),
        paths=np.array([path(tuple(ids)) for ids in answers]),
        targets=np.array([[*ids, sep_id, *[NOWHERE] * (longest - len(ids))] for ids in answers]),
    )


def select_nodes(tree: AnswerTree, candidates: npt.NDArray[np.int64]) -> TreeRows:
    """The rows for questions with these candidates: [questions, k] indices into the answers."""
    count = len(candidates)
    paths = tree.paths[candidates]  # [questions, k, depth + 1] nodes
    on_path = paths != NOWHERE
    wanted = np.zeros((len(tree.tokens), count), bool)
    wanted[np.where(on_path, paths, 0), np.arange(count)[:, None, None]] = True
    nodes, questions = np.nonzero(wanted)
    row = np.full(wanted.shape, NOWHERE)
    row[nodes, questions] = np.arange(len(nodes))
    depths = tree.depths[nodes]
    bounds = np.searchsorted(depths, np.arange(1, depths[-1] + 2)).tolist()
    levels = [
        row[tree.ancestors[nodes[start:end], : depth + 1], questions[start:end, None]]
        for depth, (start, end) in enumerate(itertools.pairwise(bounds), start=1)
    ]
    rows = np.where(on_path, row[paths, np.arange(count)[:, None, None]], NOWHERE)
    return TreeRows(nodes, questions, levels, rows, tree.targets[candidates])
