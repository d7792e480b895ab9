"""The normalisation of answers in VQA's official accuracy, quirks included: two answers agree when they end up equal.

Punctuation goes first, then case, number words, articles, and contractions written without their apostrophe. What looks
odd here is what the official tool does, and published figures hang on it.
"""

import re

_NUMBER_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_DIGITS = {word: str(number) for number, word in enumerate(_NUMBER_WORDS)} | {"none": "0"}
_ARTICLES = frozenset({"a", "an", "the"})

_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_COMMA_IN_NUMBER = re.compile(r"\d,\d")
# Also a period after a digit goes ("3." but not "3.5"): the official pattern means to look behind, and does not.
_PERIOD = re.compile(r"\.(?!\d)")
_MOST_PERIODS = 32  # the official tool passes a flag of this value where the number of replacements is asked for

# Those whose bare form is another word (she'll, he'll, I'd, it's, she's, we'd, we'll, we're, let's) are not among them.
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
_CONTRACTIONS["somebody'd"] = "somebodyd"  # the other way round in the official table


def tidy(answer: str) -> str:
    """White space alone: what is done to every answer, whether or not it is normalised."""
    return answer.replace("\n", " ").replace("\t", " ").strip()


def normalise_answer(answer: str) -> str:
    """The form in which answers are compared, e.g. "The two dogs." becomes "2 dogs"."""
    words = [_DIGITS.get(word, word) for word in _strip_punctuation(answer).lower().split()]
    return " ".join(_CONTRACTIONS.get(word, word) for word in words if word not in _ARTICLES)


def _strip_punctuation(answer: str) -> str:
    """A mark next to a space goes, one within a word becomes a space; with a comma inside a number ("1,000") all go."""
    stripped = answer
    number_with_comma = _COMMA_IN_NUMBER.search(answer) is not None
    for mark in _PUNCTUATION:
        goes = number_with_comma or f"{mark} " in answer or f" {mark}" in answer
        stripped = stripped.replace(mark, "" if goes else " ")
    return _PERIOD.sub("", stripped, count=_MOST_PERIODS)
