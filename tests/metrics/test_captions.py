"""Caption metrics against published examples, by domain, and where Java is missing."""

import shutil
from typing import Any

import numpy as np
import pytest
from fake_java import Install, java_is
from goldens import Golden

from blipbench.metrics.caption_tools import tokenize
from blipbench.metrics.captions import caption_metrics, score_tokenized
from blipbench.metrics.metric import Metrics

__all__ = ["java_is"]

needs_java = pytest.mark.skipif(shutil.which("java") is None, reason="needs a Java runtime")
WITHOUT_JAVA = ("Bleu_1", "Bleu_2", "Bleu_3", "Bleu_4", "ROUGE_L", "CIDEr")
DIGITS = {"nlg_eval_readme": 6, "nlg_eval_single": 6, "clipscore_good": 4, "clipscore_bad": 4}  # as published


def example(golden: Golden, name: str) -> dict[str, Any]:
    oracles = golden.json("caption_metrics")
    oracle = oracles[name]
    references = (
        oracle["references"] if isinstance(oracle["references"], list) else oracles["clipscore_good"]["references"]
    )
    return {"captions": dict(enumerate(oracle["hypotheses"])), "references": dict(enumerate(references)), "seed": 0}


def assert_published(golden: Golden, name: str, metrics: Metrics, which: tuple[str, ...]) -> None:
    scores = golden.json("caption_metrics")[name]["scores"]
    for metric in which:
        expected = pytest.approx(scores[metric], rel=1e-5, abs=0.51 * 10.0 ** -DIGITS[name])
        assert metrics.values[metric].value / 100 == expected, metric


@needs_java
def test_metrics_of_captions_as_typed(golden: Golden) -> None:
    metrics = caption_metrics(**example(golden, "clipscore_good"))
    found = ("METEOR", "SPICE") if "SPICE" in metrics.values else ("METEOR",)
    assert_published(golden, "clipscore_good", metrics, (*WITHOUT_JAVA, *found))
    assert list(metrics.values)[4:7] == ["METEOR", "ROUGE_L", "CIDEr"]


def test_exact_is_the_share_of_captions_that_equal_a_reference(java_is: Install) -> None:
    java_is(None)
    captions = {0: "a red star", 1: "a blue moon", 2: "a star"}
    references = {0: ["a star", "a red star"], 1: ["a blue moon above a star"], 2: ["a red star"]}
    assert score_tokenized(captions, references, seed=0).values["exact"].value == pytest.approx(100 / 3)


def test_metrics_of_captions_tokenized_elsewhere(golden: Golden, java_is: Install) -> None:
    java_is(None)
    assert_published(golden, "nlg_eval_readme", score_tokenized(**example(golden, "nlg_eval_readme")), WITHOUT_JAVA)


@needs_java
def test_bleu_rouge_and_cider_of_another_example(golden: Golden, java_is: Install) -> None:
    typed = example(golden, "clipscore_bad")
    captions = dict(enumerate(tokenize(list(typed["captions"].values()))))
    references = {image: tokenize(of_image) for image, of_image in typed["references"].items()}
    java_is(None)
    assert_published(golden, "clipscore_bad", score_tokenized(captions, references, seed=0), WITHOUT_JAVA)


def test_one_image_has_a_cider_of_zero_and_a_note_that_says_why(golden: Golden, java_is: Install) -> None:
    java_is(None)
    metrics = score_tokenized(**example(golden, "nlg_eval_single"))
    assert_published(golden, "nlg_eval_single", metrics, WITHOUT_JAVA)
    assert any("CIDEr of one image is always 0" in note for note in metrics.notes)


def test_without_java_nothing_is_scored_and_the_note_says_what_to_do(golden: Golden, java_is: Install) -> None:
    java_is(None)
    metrics = caption_metrics(**example(golden, "clipscore_good"))
    (note,) = metrics.notes
    assert metrics.values == {}
    assert "install a Java runtime" in note and "`blipbench score RUN`" in note


def test_a_java_that_dies_is_a_note_too(golden: Golden, java_is: Install) -> None:
    java_is("echo 'Error: could not create the Java Virtual Machine.' >&2; exit 1")
    (note,) = caption_metrics(**example(golden, "clipscore_good")).notes
    assert "the PTB tokenizer failed (Error: could not create the Java Virtual Machine.)" in note


def test_a_metric_that_fails_leaves_the_others(golden: Golden, java_is: Install) -> None:
    java_is("read line; echo 'Error: no memory' >&2; exit 1")
    metrics = score_tokenized(**example(golden, "nlg_eval_readme"))
    assert tuple(metrics.values) == (*WITHOUT_JAVA, "exact")
    assert metrics.notes[0].startswith("METEOR was skipped: METEOR stopped before it was finished (Error: no memory)")
    assert metrics.notes[1].startswith("SPICE was skipped: ")


WORDS = ("dog", "cat", "bird", "tree", "house")


@pytest.fixture
def many(java_is: Install) -> dict[str, Any]:
    """200 images whose captions are more or less like their references, scored without Java."""
    java_is(None)
    rng = np.random.default_rng(0)
    references = {image: [" ".join(rng.choice(WORDS, 6)) for _ in range(2)] for image in range(200)}
    captions = {
        image: " ".join(word if rng.random() < 0.7 else "car" for word in of_image[0].split())
        for image, of_image in references.items()
    }
    return {"captions": captions, "references": references, "seed": 0}


def test_intervals_hold_the_values_and_repeat_with_the_seed(many: dict[str, Any]) -> None:
    values = score_tokenized(**many).values
    for name, metric in values.items():
        assert metric.low is not None and metric.high is not None, name
        assert metric.low < metric.value < metric.high, name
    assert score_tokenized(**many).values == values


def test_bleus_own_counts_give_its_value(many: dict[str, Any]) -> None:
    """All images alike, so every resample is the whole and the interval is the value."""
    same = dict.fromkeys(range(50), many["captions"][0])
    metrics = score_tokenized(same, dict.fromkeys(same, many["references"][0]), seed=0)
    for name in WITHOUT_JAVA[:4]:
        metric = metrics.values[name]
        assert (metric.low, metric.high) == pytest.approx((metric.value, metric.value), rel=1e-9)


def test_a_domains_cider_is_the_mean_of_its_images_scores_in_the_whole(many: dict[str, Any]) -> None:
    domains = {image: ("in-domain", "near-domain", "near-domain", "out-domain")[image % 4] for image in range(200)}
    metrics = score_tokenized(**many, domains=domains)
    per_image = metrics.outcomes["CIDEr"]
    assert metrics.values["near_CIDEr"].value == pytest.approx(np.mean([per_image[1::4], per_image[2::4]]), rel=1e-9)
    values = [metrics.values[f"{domain}_CIDEr"].value for domain in ("in", "near", "out")]
    assert metrics.values["CIDEr"].value == pytest.approx(np.dot(values, [0.25, 0.5, 0.25]), rel=1e-9)
    assert metrics.outcomes["image_id"].tolist() == list(range(200))


def test_references_without_a_word_cannot_be_scored_against(java_is: Install) -> None:
    java_is(None)
    assert score_tokenized({1: "a dog"}, {1: ["", ""]}, seed=0).notes == (
        "nothing is scored: no reference contains a word",
    )
