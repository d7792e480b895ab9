"""Reads the answers of VQA: those that a model can choose from, and those that people gave.

    answer_list.json                ["yes", "no", ...]
    v2_..._annotations.json         {"annotations": [{"question_id", "answer_type", "answers": [{"answer"}]}]}

Answers stay as typed, because the metric has its own normalisation. Each reader adds what is wrong with a record to
`problems`. Records are counted from 1 in messages.
"""

from pathlib import Path
from typing import Any, NamedTuple

from blipbench.data.files import read_annotation, read_json
from blipbench.data.records import has_half_surrogate, json_kind, require_text
from blipbench.errors import DataError

_TRUTH = 'expected {"annotations": [{"question_id": 1, "answer_type": "...", "answers": [{"answer": "..."}]}]}'
_ANSWERS = 'expected a list of answers, ["yes", "no", ...]'


class Truth(NamedTuple):
    """The answers of people to a question, and their type ("yes/no", "number", "other")."""

    answers: list[str]
    answer_type: str


def read_answer_list(path: Path, problems: list[str]) -> tuple[list[str], str]:
    """The answers to choose from, in order, and the file's sha256. Raises DataError if it is not a list."""
    answers, sha256 = read_annotation(path, _ANSWERS)
    first: dict[str, int] = {}
    for number, answer in enumerate(answers, start=1):
        if not isinstance(answer, str) or has_half_surrogate(answer):
            problems.append(f"{path}: answer {number} is {answer!a}, not text; {_ANSWERS}")
        elif not answer.strip():
            problems.append(f"{path}: answer {number} is empty; remove it")
        elif first.setdefault(answer, number) != number:
            problems.append(f"{path}: answers {first[answer]} and {number} are both {answer!r}; remove one")
    return answers, sha256


def read_ground_truth(path: Path, problems: list[str]) -> tuple[dict[int, Truth], str]:
    """The answers of people by question id, from an official file, and its sha256.

    Raises DataError if the file has no list of annotations.
    """
    content, sha256 = read_json(path, _TRUTH)
    records = content.get("annotations") if isinstance(content, dict) else None
    if not isinstance(records, list):
        raise DataError(f"{path} has no list 'annotations'; {_TRUTH}")
    truth: dict[int, Truth] = {}
    for number, record in enumerate(records, start=1):
        try:
            question_id = id_in(record, "question_id", _TRUTH)
            given = record.get("answers")
            if isinstance(given, list):
                given = [answer.get("answer") if isinstance(answer, dict) else answer for answer in given]
            found = Truth(check_answers(given, "answers"), text_in(record, "answer_type", _TRUTH))
            if question_id in truth:
                raise ValueError(f"question_id {question_id} is there twice")
            truth[question_id] = found
        except ValueError as error:
            problems.append(f"{path}: annotation {number}: {error}")
    return truth, sha256


def id_in(record: Any, field: str, expected: str) -> int:
    """The whole number in a field. ValueError says what is wrong."""
    if not isinstance(record, dict):
        raise ValueError(f"is {json_kind(record)}; {expected}")
    value = record.get(field)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63:
        raise ValueError(f"{field!r} is {value!a}, not a whole number; {expected}")
    return value


def text_in(record: dict[str, Any], field: str, expected: str) -> str:
    """The text in a field. ValueError says what is wrong."""
    value = record.get(field)
    if not isinstance(value, str):
        raise ValueError(f"{field!r} is {json_kind(value)}, not a string; {expected}")
    require_text(value, repr(field))
    return value


def check_answers(value: Any, field: str) -> list[str]:
    """The answers of people to a question. ValueError says what is wrong."""
    if not isinstance(value, list):
        raise ValueError(f"{field!r} is {json_kind(value)}, not a list of people's answers")
    if not value:
        raise ValueError(f"{field!r} is an empty list: a question with no answer cannot be scored; remove it")
    for number, answer in enumerate(value, start=1):
        if not isinstance(answer, str) or has_half_surrogate(answer):
            raise ValueError(f"{field!r}: answer {number} is {answer!a}, not text")
    return value
