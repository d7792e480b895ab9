"""Text as the models were trained on it: the reference's normalisation, character for character.

In goes a caption or question as typed, out comes the string the tokenizer gets. A text made of nothing but
punctuation becomes the empty string; the reference embeds it like any other ([CLS] [SEP]), so it is not an error.
"""

import re

_PUNCTUATION = re.compile(r'[.!"()*#:;~]')
_WHITESPACE_RUN = re.compile(r"\s{2,}")


def normalise_caption(text: str, max_words: int) -> str:
    """Lower-case, punctuation to spaces, runs of whitespace to one space, trimmed, at most `max_words` words.

    A word is what stands between two spaces: a lone tab or newline inside the text stays and does not part words.
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
