"""The tokenizer, METEOR and SPICE, with captions that could break the lines they talk in."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from fake_java import Install, java_is

from blipbench.metrics import caption_tools
from blipbench.metrics.caption_tools import meteor, read_spice, tokenize
from blipbench.metrics.java import JavaError

__all__ = ["java_is"]

needs_java = pytest.mark.skipif(shutil.which("java") is None, reason="needs a Java runtime")


@needs_java
def test_tokens_are_lower_case_without_punctuation() -> None:
    assert tokenize(["A man's brown dog, can't run...", "Two U.S. flags; one tall - one short."]) == [
        "a man 's brown dog ca n't run",
        "two u.s. flags one tall one short",
    ]


@needs_java
def test_brackets_stay_by_their_names_as_in_the_official_evaluation() -> None:
    assert tokenize(["A dog (brown)"]) == ["a dog -lrb- brown -rrb-"]


@needs_java
def test_a_caption_stays_one_caption_whatever_is_in_it() -> None:
    captions = ["", "a\nb", "c\r\nd\u2028e\x85f", "   ", "g ||| h", "café", "\x0b", "!", ""]
    assert tokenize(captions) == ["", "a b", "c d e f", "", "g | | | h", "café", "", "", ""]


def test_no_captions_are_no_tokens(java_is: Install) -> None:
    java_is("true")
    assert tokenize([]) == []


def test_a_tokenizer_that_loses_a_line_is_an_error(java_is: Install) -> None:
    java_is("echo one")
    with pytest.raises(JavaError, match="returned 1 lines for 2 captions"):
        tokenize(["one", "two"])


@needs_java
def test_meteor_takes_captions_that_look_like_its_own_separators() -> None:
    references = [["a dog runs", "the dog"], ["a cat"], ["a |||bird", ""], ["||| |||"]]
    whole, per_image = meteor(["a dog runs", "", "a bird |||", "x"], references)
    assert per_image.shape == (4,)
    assert per_image[0] == pytest.approx(1.0, rel=1e-6)
    assert per_image[1] == 0.0
    assert per_image[2] > 0.5
    assert 0 < whole < 1


@pytest.mark.parametrize(
    "body, message",
    [
        ("read line; exit 1", "METEOR stopped before it was finished"),
        (
            "while read line; do echo 'Error: no paraphrases'; echo more; done",
            "METEOR returned something other than a score",
        ),
        ("read line; echo 1 2; read line; echo 0.5; echo NaN", "METEOR returned nan instead of a number"),
    ],
)
def test_a_meteor_that_misbehaves_is_an_error(java_is: Install, body: str, message: str) -> None:
    java_is(body)
    with pytest.raises(JavaError, match=message):
        meteor(["a"], [["b"]])


SPICE_PRINTS = """Some line
********  SPICE Evaluation  ********

All tuples
  f-score:\t0.133 (SPICE metric)
  precision:\t0.2

Object tuples
  f-score:\t0.5 (SPICE metric)
"""


def test_spice_is_read_from_what_it_writes_in_any_order() -> None:
    written = json.dumps([{"image_id": n, "scores": {"All": {"f": f}}} for n, f in ((1, 0.5), (0, 0.25))])
    scores = read_spice(written, SPICE_PRINTS, None, images=2)
    assert scores.per_image is not None
    np.testing.assert_array_equal(scores.per_image, [0.25, 0.5])
    assert scores.mean == 0.375


def test_spice_that_cannot_write_is_read_from_what_it_prints() -> None:
    scores = read_spice("", SPICE_PRINTS, "SPICE failed (NullPointerException)", images=2)
    assert (scores.mean, scores.per_image) == (0.133, None)


def test_spice_that_gives_no_score_says_why() -> None:
    with pytest.raises(JavaError, match="SPICE failed \\(OutOfMemoryError\\)"):
        read_spice("", "", "SPICE failed (OutOfMemoryError)", images=2)


def test_missing_spice_models_are_named_with_the_way_to_get_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caption_tools, "SPICE_MODELS", ("no-such-models.jar",))
    with pytest.raises(JavaError, match=r"no-such-models.jar.*python -m pycocoevalcap.spice.get_stanford_models"):
        caption_tools.spice(["a"], [["b"]])


def test_spice_opens_to_its_libraries_what_a_recent_java_keeps_shut(
    java_is: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caption_tools, "SPICE_MODELS", ())  # as if they were there
    told = tmp_path / "arguments"
    java_is(f'for word in "$@"; do echo "$word" >> {told}; done; echo \'f-score: 0.5\'')
    assert caption_tools.spice(["a"], [["b"]]).mean == 0.5
    options = told.read_text().splitlines()
    before_the_jar = options[: options.index("-jar")]
    assert "--add-opens=java.base/java.lang=ALL-UNNAMED" in before_the_jar
    assert "-XX:+IgnoreUnrecognizedVMOptions" in before_the_jar  # for Java 8
