"""Recall from ranks, with bootstrap intervals over images."""

import numpy as np
import pytest

from blipbench.metrics.bootstrap import draw_weights, interval, resampled_ratio
from blipbench.metrics.retrieval import retrieval_metrics

TEXT_RANK = np.array([0, 3, 12, 0])
IMAGE_RANK = np.array([0, 1, 4, 5, 9, 10, 0, 0])
OWNER = np.repeat(np.arange(4), 2)


def test_recall_counts_ranks_below_the_cutoff_in_percent() -> None:
    values = retrieval_metrics(TEXT_RANK, IMAGE_RANK, OWNER, is_video=False, seed=0).values
    assert {name: metric.value for name, metric in values.items()} == {
        "txt_r1": 50.0,
        "txt_r5": 75.0,
        "txt_r10": 75.0,
        "txt_r_mean": 200 / 3,
        "img_r1": 37.5,
        "img_r5": 62.5,
        "img_r10": 87.5,
        "img_r_mean": 62.5,
        "r_mean": (200 / 3 + 62.5) / 2,
    }


def test_video_has_its_own_names_and_the_median_rank_counted_from_one() -> None:
    values = retrieval_metrics(np.array([0, 1, 2]), np.array([0, 4, 6]), np.arange(3), is_video=True, seed=0).values
    assert "img_r1" not in values
    assert values["vid_mdR"].value == 5.0


def test_intervals_hold_the_value_and_repeat_with_the_seed() -> None:
    first = retrieval_metrics(TEXT_RANK, IMAGE_RANK, OWNER, is_video=False, seed=1).values
    again = retrieval_metrics(TEXT_RANK, IMAGE_RANK, OWNER, is_video=False, seed=1).values
    assert first == again
    for metric in first.values():
        assert metric.low is not None and metric.high is not None
        assert metric.low <= metric.value <= metric.high


def test_an_interval_has_the_width_that_theory_gives_a_proportion() -> None:
    hits = np.zeros(2000)
    hits[:600] = 1
    low, high = interval(resampled_ratio(draw_weights(2000, seed=0), hits, np.ones(2000)))
    half_width = 1.96 * np.sqrt(0.3 * 0.7 / 2000)
    assert low == pytest.approx(0.3 - half_width, abs=0.003)
    assert high == pytest.approx(0.3 + half_width, abs=0.003)


def test_images_are_resampled_with_all_their_texts() -> None:
    """Texts of one image stand or fall together here, so the interval must be that of 50 images, not of 500 texts."""
    owner = np.repeat(np.arange(50), 10)
    ranks = np.where(owner % 2 == 0, 0, 99)
    metric = retrieval_metrics(np.zeros(50, int), ranks, owner, is_video=False, seed=0).values["img_r1"]
    assert metric.high is not None and metric.low is not None
    assert metric.high - metric.low > 20
