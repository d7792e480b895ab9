"""Text normalisation equals the reference's, character for character."""

import json
from pathlib import Path

import pytest

from blipbench.data.text import normalise_caption, normalise_question

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "text_normalisation.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("max_words", [50, 40, 30])
def test_captions_equal_the_reference(max_words: int) -> None:
    normalised = [normalise_caption(case["text"], max_words) for case in GOLDEN]
    assert normalised == [case[f"pre_caption_{max_words}"] for case in GOLDEN]


def test_questions_equal_the_reference() -> None:
    assert [normalise_question(case["text"], 50) for case in GOLDEN] == [case["pre_question_50"] for case in GOLDEN]


def test_a_caption_of_punctuation_alone_becomes_the_empty_text() -> None:
    assert normalise_caption("...!", 30) == ""


def test_punctuation_parts_the_words_of_a_caption_but_not_of_a_question() -> None:
    assert (normalise_caption("a#b", 30), normalise_question("a#b", 30)) == ("a b", "ab")
