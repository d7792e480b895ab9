"""Reads visual questions, the answers a model may choose from, and the answers people gave.

    vqa_val.json, vqa_test.json     [{"question_id": 1, "question": "...", "image": "val2014/a.jpg", "answer": ["..."]}]
    v2_..._questions.json           {"data_subtype": "val2014", "questions": [{"question_id", "image_id", "question"}]}
    v2_..._annotations.json         {"annotations": [{"question_id", "answer_type", "answers": [{"answer"}]}]}
    answer_list.json                ["yes", "no", ...]

The first two both state the questions; either is the annotation. Ground truth is the official annotations file of the
split where the data folder has it, else the questions' own "answer" (ten each, which a test file lacks). Answers stay
as typed: the metric has its own normalisation. Records are counted from 1 in messages.
"""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from blipbench.data.files import (
    annotation_places,
    file_size,
    find_annotation,
    first_of,
    joint_sha256,
    read_annotation,
    read_json,
    require_files,
)
from blipbench.data.records import has_half_surrogate, image_path, json_kind, refuse_problems
from blipbench.data.text import normalise_question
from blipbench.data.vqa_files import ANSWER_LIST, GROUND_TRUTH, PUBLIC
from blipbench.errors import DataError

_QUESTIONS = (
    'expected a list of {"question_id": 1, "question": "...", "image": "a.jpg"}, or VQAv2\'s own '
    '{"data_subtype": "val2014", "questions": [{"question_id": 1, "image_id": 1, "question": "..."}]}'
)
_ANNOTATIONS = 'expected {"annotations": [{"question_id": 1, "answer_type": "...", "answers": [{"answer": "..."}]}]}'
_ANSWERS = 'expected a list of answers, ["yes", "no", ...]'


@dataclasses.dataclass(frozen=True)
class VqaDataset:
    """Questions about images, in the order of the annotation; images in the order of their first question.

    `questions` are normalised. `answers` are the ground truth as typed, None where it is not public; `answer_types`
    ("yes/no", "number", "other") None where nobody says them. `annotation_sha256` covers the answer list and the ground
    truth's file too.
    """

    name: str
    split: str
    annotation: Path
    annotation_sha256: str
    names: list[str]  # [images] as written in the annotation
    sources: list[tuple[Path, ...]]  # [images]
    questions: list[str]
    question_ids: list[int]
    image_of_question: npt.NDArray[np.int32]  # [questions]
    answers: list[list[str]] | None  # [questions]
    answer_types: list[str] | None  # [questions]
    answer_list: list[str]
    total_images: int  # before --limit
    upright: bool = False

    @property
    def counts(self) -> dict[str, int]:
        return {"images": len(self.sources), "questions": len(self.questions), "answer list": len(self.answer_list)}

    @property
    def limited_from(self) -> int | None:
        return self.total_images if self.total_images > len(self.sources) else None


class _Question(NamedTuple):
    """`image` is as written, `path` the same without "." and ".."; `answers` is None where the record has none."""

    question_id: int
    question: str
    image: str
    path: str
    answers: list[str] | None


class _Truth(NamedTuple):
    answers: list[str]
    answer_type: str


def read_vqa(
    root: Path,
    annotation: Path,
    *,
    name: str,
    split: str,
    max_words: int = 50,
    limit: int | None = None,
    answer_list: str | None = ANSWER_LIST,
    ground_truth: Mapping[str, str] = GROUND_TRUTH,  # type: ignore[assignment]
    public: Collection[str] = PUBLIC,
) -> VqaDataset:
    """The questions of `annotation`, with images looked up in `root` and `root`/images.

    `name` is the task's, for messages. `limit` keeps the first images with all their questions. `answer_list` is a file
    in `root` or `root`/annotations; None is for a model that generates its answers. `ground_truth` names the official
    file of people's answers of each split, and the splits in `public` require answers.

    Raises:
        DataError: a file is missing, unreadable or malformed, train or val has no ground truth, or images
            are missing or empty.
        UsageError: `limit` is not positive.
    """
    questions, sha256 = _read_questions(annotation)
    hashes = [sha256]
    choices: list[str] = []
    if answer_list is not None:
        choices, sha256 = read_answer_list(find_annotation(root, answer_list, name))
        hashes.append(sha256)

    place = {path: number for number, path in enumerate(dict.fromkeys(q.path for q in questions))}
    images = {q.path: q.image for q in reversed(questions)}
    paths = first_of(list(place), limit)
    named = [(images[path], path) for path in paths]
    files = require_files(root, named, name, f"run `blipbench data prepare {name}`")
    kept = [q for q in questions if place[q.path] < len(paths)]
    official = ground_truth.get(split)
    answers, answer_types, truth_hashes = _people_answers(root, annotation, kept, official, split in public, name)
    return VqaDataset(
        name=name,
        split=split,
        annotation=annotation,
        annotation_sha256=joint_sha256(hashes + truth_hashes),
        names=[images[path] for path in paths],
        sources=[(file,) for file in files],
        questions=[normalise_question(q.question, max_words) for q in kept],
        question_ids=[q.question_id for q in kept],
        image_of_question=np.array([place[q.path] for q in kept], dtype=np.int32),
        answers=answers,
        answer_types=answer_types,
        answer_list=choices,
        total_images=len(place),
    )


def read_answer_list(path: Path) -> tuple[list[str], str]:
    """The answers to choose from, in order, and the file's sha256. Raises DataError naming the entry."""
    answers, sha256 = read_annotation(path, _ANSWERS)
    first: dict[str, int] = {}
    for number, answer in enumerate(answers, start=1):
        if not isinstance(answer, str) or has_half_surrogate(answer):
            raise DataError(f"{path}: answer {number} is {answer!a}, not text; {_ANSWERS}")
        if not answer.strip():
            raise DataError(f"{path}: answer {number} is empty; remove it")
        if first.setdefault(answer, number) != number:
            raise DataError(f"{path}: answers {first[answer]} and {number} are both {answer!r}; remove one")
    return answers, sha256


def read_ground_truth(path: Path) -> tuple[dict[int, _Truth], str]:
    """People's answers by question id, from an official annotations file, and its sha256. Raises DataError."""
    content, sha256 = read_json(path, _ANNOTATIONS)
    records = content.get("annotations") if isinstance(content, dict) else None
    if not isinstance(records, list):
        raise DataError(f"{path} has no list 'annotations'; {_ANNOTATIONS}")
    truth: dict[int, _Truth] = {}
    for number, record in enumerate(records, start=1):
        try:
            question_id = _integer(record, "question_id", _ANNOTATIONS)
            given = record.get("answers")
            if isinstance(given, list):
                given = [answer.get("answer") if isinstance(answer, dict) else answer for answer in given]
            answers = _check_answers(given, "answers")
            answer_type = _text(record, "answer_type", _ANNOTATIONS)
        except ValueError as error:
            raise DataError(f"{path}: annotation {number}: {error}") from None
        if question_id in truth:
            raise DataError(f"{path}: annotation {number}: question_id {question_id} is there twice")
        truth[question_id] = _Truth(answers, answer_type)
    return truth, sha256


def _read_questions(path: Path) -> tuple[list[_Question], str]:
    content, sha256 = read_json(path, _QUESTIONS)
    records, subset = content, None
    if isinstance(content, dict):
        records, subset = content.get("questions"), content.get("data_subtype")
        if not isinstance(subset, str):
            raise DataError(f"{path} has no 'data_subtype', which names its images' folder; {_QUESTIONS}")
    if not isinstance(records, list) or not records:
        raise DataError(f"{path} holds no list of questions; {_QUESTIONS}")
    questions: list[_Question] = []
    problems: list[str] = []
    first: dict[int, int] = {}  # question_id -> number of the record that has it
    for number, record in enumerate(records, start=1):
        try:
            question = _check_question(record, subset)
            earlier = first.setdefault(question.question_id, number)
            if earlier != number:
                raise ValueError(f"question_id {question.question_id} is that of record {earlier} too")
            questions.append(question)
        except ValueError as error:
            problems.append(f"{path}: record {number}: {error}")
    refuse_problems(problems)
    return questions, sha256


def _check_question(record: Any, subset: str | None) -> _Question:
    """`subset` is that of an official file, which has image ids in place of names. ValueError says what is wrong."""
    question_id = _integer(record, "question_id", _QUESTIONS)
    question = _text(record, "question", _QUESTIONS)
    if subset is None:
        image = _text(record, "image", _QUESTIONS)
    else:
        image = f"{subset}/COCO_{subset}_{_integer(record, 'image_id', _QUESTIONS):012d}.jpg"
    path = image_path(image)
    answers = _check_answers(record["answer"], "answer") if "answer" in record else None
    return _Question(question_id, question, image, path, answers)


def _people_answers(
    root: Path, annotation: Path, questions: Sequence[_Question], official: str | None, required: bool, task: str
) -> tuple[list[list[str]] | None, list[str] | None, list[str]]:
    """Answers, their types, and the sha256 of the file `official`, if they are read from there."""
    places = list(annotation_places(root, official, task)) if official else []
    found = next((place for place in places if file_size(place) is not None), None)
    if found is not None:
        truth, sha256 = read_ground_truth(found)
        for question in questions:
            if question.question_id not in truth:
                raise DataError(
                    f"{found} has no answer to question {question.question_id}, which {annotation} asks; "
                    "are they of the same split?"
                )
        chosen = [truth[question.question_id] for question in questions]
        return [true.answers for true in chosen], [true.answer_type for true in chosen], [sha256]

    answers = [question.answers for question in questions if question.answers is not None]
    if answers and len(answers) < len(questions):
        lacking = next(question.question_id for question in questions if question.answers is None)
        raise DataError(
            f"{annotation}: question {lacking} has no 'answer', but others have; "
            "give every question its answers, or none"
        )
    if not answers and required:
        raise DataError(
            f"{annotation} has no answers to its questions, nor is there {' or '.join(map(str, places))}; "
            f"run `blipbench data prepare {task}`"
        )
    return answers or None, None, []


def _integer(record: Any, field: str, expected: str) -> int:
    if not isinstance(record, dict):
        raise ValueError(f"is {json_kind(record)}; {expected}")
    value = record.get(field)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63:
        raise ValueError(f"{field!r} is {value!a}, not a whole number; {expected}")
    return value


def _text(record: dict[str, Any], field: str, expected: str) -> str:
    value = record.get(field)
    if not isinstance(value, str):
        raise ValueError(f"{field!r} is {json_kind(value)}, not a string; {expected}")
    if has_half_surrogate(value):
        raise ValueError(f"{field!r} holds half a surrogate pair, which is not text: {value!a}")
    return value


def _check_answers(value: Any, field: str) -> list[str]:
    if not isinstance(value, list):
        raise ValueError(f"{field!r} is {json_kind(value)}, not a list of people's answers")
    if not value:
        raise ValueError(f"{field!r} is an empty list: a question with no answer cannot be scored; remove it")
    for number, answer in enumerate(value, start=1):
        if not isinstance(answer, str) or has_half_surrogate(answer):
            raise ValueError(f"{field!r}: answer {number} is {answer!a}, not text")
    return value
