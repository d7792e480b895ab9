"""The prefix tree of an answer list: what answers share is one node, and every answer can be read off it."""

import numpy as np

from blipbench.inference.answer_tree import NOWHERE, build_tree, select_nodes

DEC, SEP = 100, 101
ANSWERS = [[1], [1, 2], [1, 2, 3], [4], [1, 5], [4]]


def test_answers_that_begin_alike_share_nodes() -> None:
    tree = build_tree(ANSWERS, DEC, SEP)
    assert sorted(zip(tree.depths.tolist(), tree.tokens.tolist(), strict=True)) == [
        (0, DEC),
        (1, 1),
        (1, 4),
        (2, 2),
        (2, 5),
        (3, 3),
    ]


def test_nodes_are_numbered_by_depth() -> None:
    tree = build_tree(ANSWERS, DEC, SEP)
    assert (np.diff(tree.depths) >= 0).all()


def test_a_path_spells_its_answer_and_predicts_its_end() -> None:
    tree = build_tree(ANSWERS, DEC, SEP)
    for answer, path, targets in zip(ANSWERS, tree.paths, tree.targets, strict=True):
        on_path = path != NOWHERE
        assert tree.tokens[path[on_path]].tolist() == [DEC, *answer]
        assert targets[on_path].tolist() == [*answer, SEP]


def test_rows_hold_what_the_candidates_need_and_no_more() -> None:
    rows = select_nodes(build_tree(ANSWERS, DEC, SEP), np.array([[0, 2], [3, 4]]))
    assert np.bincount(rows.questions).tolist() == [4, 4]  # [DEC] 1 2 3 and [DEC] 4 1 5


def test_rows_begin_with_the_roots_in_the_order_of_the_questions() -> None:
    rows = select_nodes(build_tree(ANSWERS, DEC, SEP), np.array([[0], [3], [4]]))
    assert rows.nodes[:3].tolist() == [0, 0, 0]
    assert rows.questions[:3].tolist() == [0, 1, 2]


def test_a_row_attends_to_its_own_question_from_the_root_to_itself() -> None:
    tree = build_tree(ANSWERS, DEC, SEP)
    rows = select_nodes(tree, np.array([[2, 4], [2, 3]]))
    start = 2
    for depth, ancestors in enumerate(rows.levels, start=1):
        for row, above in enumerate(ancestors, start=start):
            assert above[-1] == row
            assert tree.depths[rows.nodes[above]].tolist() == list(range(depth + 1))
            assert set(rows.questions[above].tolist()) == {rows.questions[row]}
        start += len(ancestors)
    assert start == len(rows.nodes)


def test_an_answer_without_tokens_is_the_root_alone() -> None:
    tree = build_tree([[], [7]], DEC, SEP)
    assert tree.paths.tolist() == [[0, NOWHERE], [0, 1]]
    assert select_nodes(tree, np.array([[0]])).levels == []
