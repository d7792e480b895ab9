"""Reads visual questions.

    vqa_val.json, vqa_test.json     [{"question_id": 1, "question": "...", "image": "val2014/a.jpg", "answer": ["..."]}]
    v2_..._questions.json           {"data_subtype": "val2014", "questions": [{"question_id", "image_id", "question"}]}

Both state the questions, and either can be the annotation. The answers of people are in the official file of the split,
if the data folder has it (vqa_answers.py), and otherwise in the "answer" of each question, which a test file lacks.
Records are counted from 1 in messages.
"""

import dataclasses
from collections.abc import Sequence
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
    read_json,
    require_files,
)
from blipbench.data.records import image_path
from blipbench.data.text import normalise_question
from blipbench.data.vqa_answers import check_answers, id_in, read_answer_list, read_ground_truth, text_in
from blipbench.errors import DataError

_EXPECTED = (
    'expected a list of {"question_id": 1, "question": "...", "image": "a.jpg"}, or VQAv2\'s own '
    '{"data_subtype": "val2014", "questions": [{"question_id": 1, "image_id": 1, "question": "..."}]}'
)


@dataclasses.dataclass(frozen=True)
class VqaDataset:
    """Questions about images, in the order of the annotation; images in the order of their first question.

    `questions` are normalised. `answers` are the ground truth as typed, None if it is not public. `answer_types` are
    "yes/no", "number" or "other", None if they are not known. `annotation_sha256` also covers the answer list and the
    file of the ground truth.
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
    """`image` is as written, `path` the same without "." and "..". `answers` is None if the record has none."""

    question_id: int
    question: str
    image: str
    path: str
    answers: list[str] | None


def read_vqa(
    root: Path,
    annotation: Path,
    *,
    name: str,
    split: str,
    max_words: int = 50,
    limit: int | None = None,
    answer_list: str | None,
    ground_truth: str | None = None,
    needs_answers: bool = False,
) -> VqaDataset:
    """The questions of `annotation`, with images looked up in `root` and `root`/images.

    `name` is the task's, for messages. `limit` keeps the first images with all their questions. `answer_list` and
    `ground_truth` are files in `root` or `root`/annotations. A model that generates its answers needs no answer list.
    The ground truth is used if it exists. `needs_answers` refuses questions without the answers of people.

    Raises:
        DataError: a file is missing, unreadable or malformed, answers are missing, or images are missing or empty.
        UsageError: `limit` is not positive.
    """
    questions, problems, sha256 = _read_questions(annotation)
    hashes = [sha256]
    choices: list[str] = []
    if answer_list is not None:
        choices, sha256 = read_answer_list(find_annotation(root, answer_list, name), problems)
        hashes.append(sha256)

    place = {path: number for number, path in enumerate(dict.fromkeys(q.path for q in questions))}
    images = {q.path: q.image for q in reversed(questions)}
    paths = first_of(list(place), limit)
    kept = [q for q in questions if place[q.path] < len(paths)]

    places = list(annotation_places(root, ground_truth, name)) if ground_truth else []
    official = next((place for place in places if file_size(place) is not None), None)
    answers: list[list[str]] | None
    answer_types: list[str] | None
    if official is not None:
        answers, answer_types, sha256 = _official_answers(official, annotation, kept, problems)
        hashes.append(sha256)
    else:
        answers, answer_types = _own_answers(annotation, kept, problems), None
        if kept and not answers and needs_answers:
            problems.append(
                f"{annotation} has no answers to its questions, nor is there {' or '.join(map(str, places))}; "
                f"run `blipbench data prepare {name}`"
            )
    sources = require_files(root, [(images[path], path) for path in paths], name, problems)
    return VqaDataset(
        name=name,
        split=split,
        annotation=annotation,
        annotation_sha256=joint_sha256(hashes),
        names=[images[path] for path in paths],
        sources=sources,
        questions=[normalise_question(q.question, max_words) for q in kept],
        question_ids=[q.question_id for q in kept],
        image_of_question=np.array([place[q.path] for q in kept], dtype=np.int32),
        answers=answers,
        answer_types=answer_types,
        answer_list=choices,
        total_images=len(place),
    )


def _read_questions(path: Path) -> tuple[list[_Question], list[str], str]:
    """The sound records, the problems of the others, and the file's sha256."""
    content, sha256 = read_json(path, _EXPECTED)
    records, subset = content, None
    if isinstance(content, dict):
        records, subset = content.get("questions"), content.get("data_subtype")
        if not isinstance(subset, str):
            raise DataError(f"{path} has no 'data_subtype', which names the folder of its images; {_EXPECTED}")
    if not isinstance(records, list) or not records:
        raise DataError(f"{path} holds no list of questions; {_EXPECTED}")
    questions: list[_Question] = []
    problems: list[str] = []
    first: dict[int, int] = {}  # question_id -> number of the record that has it
    for number, record in enumerate(records, start=1):
        try:
            question = _check_question(record, subset)
            earlier = first.setdefault(question.question_id, number)
            if earlier != number:
                raise ValueError(f"question_id {question.question_id} is also that of record {earlier}")
            questions.append(question)
        except ValueError as error:
            problems.append(f"{path}: record {number}: {error}")
    return questions, problems, sha256


def _check_question(record: Any, subset: str | None) -> _Question:
    """`subset` is that of an official file, which has image ids instead of names. ValueError says what is wrong."""
    question_id = id_in(record, "question_id", _EXPECTED)
    question = text_in(record, "question", _EXPECTED)
    if subset is None:
        image = text_in(record, "image", _EXPECTED)
    else:
        image = f"{subset}/COCO_{subset}_{id_in(record, 'image_id', _EXPECTED):012d}.jpg"
    path = image_path(image)
    answers = check_answers(record["answer"], "answer") if "answer" in record else None
    return _Question(question_id, question, image, path, answers)


def _official_answers(
    official: Path, annotation: Path, questions: Sequence[_Question], problems: list[str]
) -> tuple[list[list[str]], list[str], str]:
    """Answers, their types, and the sha256 of the official file. Adds questions without answers to `problems`."""
    truth, sha256 = read_ground_truth(official, problems)
    problems += [
        f"{official} has no answer to question {question.question_id}, which {annotation} asks; "
        "are they of the same split?"
        for question in questions
        if question.question_id not in truth
    ]
    chosen = [truth[question.question_id] for question in questions if question.question_id in truth]
    return [true.answers for true in chosen], [true.answer_type for true in chosen], sha256


def _own_answers(annotation: Path, questions: Sequence[_Question], problems: list[str]) -> list[list[str]] | None:
    """The answers that the questions state, or None if no question has any."""
    answers = [question.answers for question in questions if question.answers is not None]
    if answers:
        problems += [
            f"{annotation}: question {question.question_id} has no 'answer', but others have; "
            "give every question its answers, or none"
            for question in questions
            if question.answers is None
        ]
    return answers or None
