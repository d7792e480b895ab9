"""A fixed list of answers as a prefix tree: what several answers begin with is one node, computed once.

In go the answers' token ids, out comes an `AnswerTree`; `grow` picks the part of it that a batch of questions with
their candidate answers needs, as rows of a packed batch. Node 0, the root, is [DEC] alone: every answer's first step.
An answer is a path from the root; each node of the path predicts the next token, the last one [SEP].
"""

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from blipbench.inference.packing import Indices

NOWHERE = -1  # fills the paths of answers shorter than the longest


@dataclasses.dataclass(frozen=True)
class AnswerTree:
    """Nodes are numbered by depth. Rows of `paths` and `targets` end in NOWHERE where an answer is short."""

    tokens: Indices  # [nodes] token of each node, the root's being [DEC]
    depths: Indices  # [nodes] distance from the root, also the token's position in the answer
    ancestors: Indices  # [nodes, depth + 1] from the root down to the node itself, then NOWHERE
    paths: Indices  # [answers, depth + 1] nodes of each answer, the root first
    targets: Indices  # [answers, depth + 1] the token that each node of the path has to predict, at last [SEP]

    @property
    def nodes_per_answer(self) -> float:
        """Below the root."""
        return (len(self.tokens) - 1) / len(self.paths)


@dataclasses.dataclass(frozen=True)
class Growth:
    """The nodes that a batch needs, a row each. The first rows are the questions' roots, in order; depth ascends."""

    nodes: Indices  # [rows] of the tree
    questions: Indices  # [rows]
    levels: list[Indices]  # per depth below the roots: of each row the rows it attends to, itself last [n, depth + 1]
    paths: Indices  # [questions, candidates, depth + 1] rows, NOWHERE past an answer's end
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


def grow(tree: AnswerTree, candidates: npt.NDArray[np.int64]) -> Growth:
    """The rows for questions with these candidates, [questions, k] indices into the answers."""
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
    return Growth(nodes, questions, levels, rows, tree.targets[candidates])
