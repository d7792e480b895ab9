"""The official normalisation of answers, by examples of each rule and of each of its oddities."""

import pytest

from blipbench.metrics.vqa_normalise import normalise_answer, tidy


@pytest.mark.parametrize(
    "answer, normalised",
    [
        ("Yes", "yes"),
        ("the Red Dog", "red dog"),
        ("an apple and a pear", "apple and pear"),
        ("a", ""),
        ("theatre", "theatre"),
        ("none", "0"),
        ("Zero", "0"),
        ("ten", "10"),
        ("eleven", "eleven"),
        ("twenty one", "twenty 1"),
        ("two  dogs", "2 dogs"),
        ("dont", "don't"),
        ("don't", "don't"),
        ("couldnt've", "couldn't've"),
        ("couldn'tve", "couldn't've"),
        ("couldntve", "couldntve"),
        ("its", "its"),
        ("im", "im"),
        ("lets", "lets"),
        ("'ows'at", "'ow's'at"),
        ("somebody'd", "somebodyd"),
        ("y'alld've", "y'all'd've"),
        ("Oclock", "o'clock"),
    ],
)
def test_case_articles_number_words_and_contractions(answer: str, normalised: str) -> None:
    assert normalise_answer(answer) == normalised


@pytest.mark.parametrize(
    "answer, normalised",
    [
        ("black-white", "black white"),
        ("black - white", "black white"),
        ("black -white", "black white"),
        ("salt/pepper", "salt pepper"),
        ("red, green", "red green"),
        ("red,green", "red green"),
        ("1,000", "1000"),
        ("1,000 t-shirts", "1000 tshirts"),
        ("1,a", "1"),
        ("t-shirt - blue", "tshirt blue"),
        ("yes!", "yes"),
        ('"stop"', "stop"),
        ("(left)", "left"),
        ("what?!", "what"),
        ("3.5", "3.5"),
        ("3.", "3"),
        (".5", ".5"),
        ("U.S.", "us"),
        ("U.S. 66", "us 66"),
        ("10:30", "10:30"),
        ("50%", "50%"),
        ("$5", "$5"),
        ("man's", "man's"),
        ("." * 40, "." * 8),
        ("", ""),
    ],
)
def test_punctuation(answer: str, normalised: str) -> None:
    assert normalise_answer(answer) == normalised


def test_a_contraction_that_punctuation_leaves_behind_is_mended() -> None:
    assert normalise_answer("(dont)") == "don't"


def test_tidying_touches_white_space_alone() -> None:
    assert tidy(" The\ttwo\ndogs. ") == "The two dogs."
