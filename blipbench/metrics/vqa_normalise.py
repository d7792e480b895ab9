"""The answer normalisation of the official VQA accuracy. Two answers agree if their normalised forms are equal.

It handles punctuation first, then case, number words, articles, and contractions without an apostrophe. Some rules look
odd. They reproduce the official tool exactly, because published figures depend on it.
"""

import re

_NUMBER_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_DIGITS = {word: str(number) for number, word in enumerate(_NUMBER_WORDS)} | {"none": "0"}
_ARTICLES = frozenset({"a", "an", "the"})

_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_COMMA_IN_NUMBER = re.compile(r"\d,\d")
# A period after a digit is removed too ("3." but not "3.5"): the official pattern tries to look behind, but does not.
_PERIOD = re.compile(r"\.(?!\d)")
_MOST_PERIODS = 32  # the official tool passes a flag of this value as the number of replacements

# Not included if the form without apostrophe is a word: she'll, he'll, I'd, it's, she's, we'd, we'll, we're, let's.
_CONTRACTED = """
    ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd he'd've
    he's how'd how'll how's isn't it'd it'd've it'll ma'am might've mightn't mightn't've must've mustn't needn't not've
    o'clock oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd've somebody'll somebody's
    someone'd someone'd've someone'll someone's something'd something'd've something'll that's there'd there'd've
    there're there's they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're what's
    what've when's where'd where's where've who'd who'd've who'll who's who've why'll why're why's won't would've
    wouldn't wouldn't've y'all y'all'd've y'all'll you'd you'd've you'll you're you've
"""


def _without_one_apostrophe(word: str) -> list[str]:
    return [word[:place] + word[place + 1 :] for place, letter in enumerate(word) if letter == "'"]


_CONTRACTIONS = {bare: word for word in _CONTRACTED.split() for bare in _without_one_apostrophe(word)}
_CONTRACTIONS["somebody'd"] = "somebodyd"  # reversed in the official table


def tidy(answer: str) -> str:
    """Clean up white space. This is done to every answer, whether or not it is normalised."""
    return answer.replace("\n", " ").replace("\t", " ").strip()


def normalise_answer(answer: str) -> str:
    """The form in which answers are compared, e.g. "The two dogs." becomes "2 dogs"."""
    words = [_DIGITS.get(word, word) for word in _strip_punctuation(answer).lower().split()]
    return " ".join(_CONTRACTIONS.get(word, word) for word in words if word not in _ARTICLES)


def _strip_punctuation(answer: str) -> str:
    """Remove marks next to a space, and replace marks inside words with a space.

    If the answer has a comma inside a number ("1,000"), remove all marks.
    """
    stripped = answer
    number_with_comma = _COMMA_IN_NUMBER.search(answer) is not None
    for mark in _PUNCTUATION:
        goes = number_with_comma or f"{mark} " in answer or f" {mark}" in answer
        stripped = stripped.replace(mark, "" if goes else " ")
    return _PERIOD.sub("", stripped, count=_MOST_PERIODS)
