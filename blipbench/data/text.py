"""Normalises text as in the training of the models, exactly as the reference does.

Takes a caption or question as typed, and returns the string for the tokenizer. A text that is only punctuation becomes
the empty string. It is not an error: the reference embeds it like any other text ([CLS] [SEP]).
"""

import re

_PUNCTUATION = re.compile(r'[.!"()*#:;~]')
_WHITESPACE_RUN = re.compile(r"\s{2,}")


def normalise_caption(text: str, max_words: int) -> str:
    """Lower-case, punctuation to spaces, runs of whitespace to one space, trimmed, at most `max_words` words.

    Only spaces separate words: a single tab or newline inside the text stays, and does not separate words.
    """
    text = _WHITESPACE_RUN.sub(" ", _PUNCTUATION.sub(" ", text.lower()))
    return _first_words(text.rstrip("\n").strip(" "), max_words)


def normalise_question(text: str, max_words: int) -> str:
    """Lower-case, punctuation removed (not spaced), trailing spaces stripped, at most `max_words` words.

    Unlike in captions, leading and repeated spaces stay, and each counts as an empty word towards the limit.
    """
    return _first_words(_PUNCTUATION.sub("", text.lower()).rstrip(" "), max_words)


def _first_words(text: str, max_words: int) -> str:
    return " ".join(text.split(" ")[:max_words])
