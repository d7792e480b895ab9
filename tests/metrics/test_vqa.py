"""VQA's official accuracy, and its intervals over images."""

import numpy as np
import pytest

from blipbench.metrics.vqa import vqa_accuracy, vqa_metrics


@pytest.mark.parametrize("agreeing, accuracy", [(0, 0.0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1.0), (9, 1.0)])
def test_accuracy_is_the_mean_over_the_people_left_out(agreeing: int, accuracy: float) -> None:
    people = ["red"] * agreeing + [f"other {number}" for number in range(10 - agreeing)]
    assert vqa_accuracy("red", people) == pytest.approx(accuracy, rel=1e-12)


def test_where_people_disagree_all_answers_are_normalised() -> None:
    people = ["two"] * 3 + ["2"] * 3 + ["The two."] * 2 + ["three", "dogs"]
    assert vqa_accuracy("a TWO!", people) == 1.0


def test_where_people_agree_no_answer_is() -> None:
    assert vqa_accuracy("2", ["two"] * 10) == 0.0
    assert vqa_accuracy("Two", ["two"] * 10) == 0.0
    assert vqa_accuracy(" two\n", ["two", " two"] * 5) == 1.0


def test_people_who_differ_in_writing_alone_disagree() -> None:
    assert vqa_accuracy("two", ["two"] * 9 + ["2"]) == 1.0
    assert vqa_accuracy("two", ["2"] * 9 + ["two"]) == 1.0


def test_an_empty_answer_is_an_answer_like_any_other() -> None:
    assert vqa_accuracy("", ["yes"] * 9 + ["no"]) == 0.0
    assert vqa_accuracy("the", ["a"] * 2 + ["yes"] * 8) == pytest.approx(0.6, rel=1e-12)


ANSWERS = ["yes", "2", "red", "no"]
PEOPLE = [["yes"] * 10, ["3"] * 10, ["red"] * 2 + ["blue"] * 8, ["no"] * 10]
IMAGE = np.array([7, 7, 9, 9])


def test_metrics_are_in_percent_overall_and_by_type() -> None:
    metrics = vqa_metrics(ANSWERS, PEOPLE, ["yes/no", "number", "other", "yes/no"], IMAGE, seed=0)
    assert {name: metric.value for name, metric in metrics.values.items()} == pytest.approx(
        {"accuracy": 65.0, "accuracy_yes_no": 100.0, "accuracy_number": 0.0, "accuracy_other": 60.0}, rel=1e-12
    )
    assert list(metrics.values)[1:] == ["accuracy_yes_no", "accuracy_number", "accuracy_other"]
    assert metrics.outcomes["accuracy"].tolist() == pytest.approx([1.0, 0.0, 0.6, 1.0], rel=1e-12)


def test_where_types_are_not_known_there_is_one_accuracy() -> None:
    assert list(vqa_metrics(ANSWERS, PEOPLE, [None] * 4, IMAGE, seed=0).values) == ["accuracy"]


def test_intervals_come_from_resampled_images() -> None:
    metric = vqa_metrics(ANSWERS, PEOPLE, [None] * 4, IMAGE, seed=0).values["accuracy"]
    assert (metric.low, metric.high) == pytest.approx((50.0, 80.0), rel=1e-12)
    assert vqa_metrics(ANSWERS, PEOPLE, [None] * 4, IMAGE, seed=0).values["accuracy"] == metric
