import numpy as np
import pytest

from blipbench.metrics.nlvr import nlvr_metrics


def test_accuracy_is_the_share_of_sentences_in_percent() -> None:
    metrics = nlvr_metrics(np.array([True, False, True, True]), np.array([0, 0, 1, 2]), "test", seed=0)
    assert metrics.values["test_p_acc"].value == 75.0


@pytest.mark.parametrize(("split", "name"), [("val", "dev_acc"), ("test", "test_p_acc"), ("train", "train_acc")])
def test_it_is_named_as_the_published_tables_name_the_split(split: str, name: str) -> None:
    assert list(nlvr_metrics(np.array([True]), np.array([7]), split, seed=0).values) == [name]


def test_the_interval_is_wider_where_sentences_share_their_images() -> None:
    correct = np.arange(400) % 8 < 4
    apart = nlvr_metrics(correct, np.arange(400), "test", seed=0).values["test_p_acc"]
    together = nlvr_metrics(correct, np.arange(400) // 4, "test", seed=0).values["test_p_acc"]
    assert apart.low is not None and together.low is not None
    assert together.low < apart.low < 50.0


def test_one_pair_that_is_always_right_has_no_spread() -> None:
    metric = nlvr_metrics(np.array([True, True]), np.array([3, 3]), "val", seed=0).values["dev_acc"]
    assert (metric.value, metric.low, metric.high) == (100.0, 100.0, 100.0)
