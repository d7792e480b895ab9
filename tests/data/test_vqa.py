"""Questions and answers as published, and what is said of files that are not as they should be."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from goldens import Golden

from blipbench.data.vqa import VqaDataset, read_vqa
from blipbench.errors import DataError, UsageError

Read = Callable[..., VqaDataset]
OFFICIAL = "v2_mscoco_val2014_annotations.json"


def question(question_id: Any = 1, image: Any = "a.png", **more: Any) -> dict[str, Any]:
    return {"question_id": question_id, "question": "What colour is it?", "image": image, "dataset": "vqa", **more}


def people(question_id: int, *answers: str, answer_type: str = "other") -> dict[str, Any]:
    given = [
        {"answer": answer, "answer_confidence": "yes", "answer_id": n} for n, answer in enumerate(answers, start=1)
    ]
    return {"question_id": question_id, "answer_type": answer_type, "answers": given}


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Writes questions (or a whole file's content) and reads them; a.png, b.png lie in the folder, c.png in images/."""
    for name in ("a.png", "b.png", "images/c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"some bytes")
    (tmp_path / "answer_list.json").write_text('["yes", "no", "light red"]')

    def read_questions(
        *questions: Any, content: Any = None, split: str = "test", limit: int | None = None
    ) -> VqaDataset:
        annotation = tmp_path / f"vqa_{split}.json"
        annotation.write_text(json.dumps(list(questions) if content is None else content))
        return read_vqa(
            tmp_path,
            annotation,
            name="vqa",
            split=split,
            limit=limit,
            answer_list="answer_list.json",
            ground_truth=OFFICIAL,
            needs_answers=split == "val",
        )

    return read_questions


@pytest.fixture
def write_truth(tmp_path: Path) -> Callable[..., None]:
    def write(*annotations: Any) -> None:
        (tmp_path / OFFICIAL).write_text(json.dumps({"data_subtype": "val2014", "annotations": annotations}))

    return write


def test_the_golden_questions(golden: Golden) -> None:
    annotation = golden.data / "vqa_test.json"
    data = read_vqa(golden.data, annotation, name="vqa", split="test", answer_list="answer_list.json")
    assert data.counts == {"images": 10, "questions": 10, "answer list": 20}
    assert data.questions[1] == "is there a square in the picture?"
    assert data.question_ids[:2] == [5000, 5011]
    assert data.answer_list[13] == "light red"
    assert data.answers is None and data.answer_types is None


def test_questions_about_one_image_share_it_and_keep_their_order(read: Read) -> None:
    data = read(question(7), question(5, "b.png"), question(6, "./a.png"), question(1, "c.png"))
    assert data.names == ["a.png", "b.png", "c.png"]
    assert data.image_of_question.tolist() == [0, 1, 0, 2]
    assert data.question_ids == [7, 5, 6, 1]
    assert [source[0].name for source in data.sources] == ["a.png", "b.png", "c.png"]


def test_limit_counts_images_and_keeps_all_their_questions(read: Read) -> None:
    data = read(question(1), question(2, "nowhere.png"), question(3), limit=1)
    assert (data.question_ids, data.limited_from) == ([1, 3], 2)
    with pytest.raises(UsageError, match="--limit 0"):
        read(question(), limit=0)


def test_answers_in_the_questions_are_ground_truth_without_types(read: Read) -> None:
    data = read(question(1, answer=["Red", "red", "crimson"]), split="val")
    assert (data.answers, data.answer_types) == ([["Red", "red", "crimson"]], None)


def test_the_official_answers_come_before_the_questions_own(read: Read, write_truth: Callable[..., None]) -> None:
    write_truth(people(2, "no", "No", answer_type="yes/no"), people(1, "the red one"))
    data = read(question(1, answer=["x"]), question(2, answer=["y"]), split="val")
    assert data.answers == [["the red one"], ["no", "No"]]
    assert data.answer_types == ["other", "yes/no"]


def test_official_questions_name_their_images_by_number(
    read: Read, write_truth: Callable[..., None], tmp_path: Path
) -> None:
    (tmp_path / "val2014").mkdir()
    (tmp_path / "val2014" / "COCO_val2014_000000262148.jpg").write_bytes(b"some bytes")
    write_truth(people(262148000, "down"))
    asked = {"image_id": 262148, "question": "Where is he looking?", "question_id": 262148000}
    data = read(content={"data_subtype": "val2014", "questions": [asked]}, split="val")
    assert data.names == ["val2014/COCO_val2014_000000262148.jpg"]
    assert data.answers == [["down"]]


def test_another_answer_list_or_ground_truth_is_another_fingerprint(
    read: Read, write_truth: Callable[..., None], tmp_path: Path
) -> None:
    write_truth(people(1, "red"))
    before = read(question(), split="val").annotation_sha256
    write_truth(people(1, "blue"))
    assert read(question(), split="val").annotation_sha256 != before
    write_truth(people(1, "red"))
    assert read(question(), split="val").annotation_sha256 == before
    (tmp_path / "answer_list.json").write_text('["yes"]')
    assert read(question(), split="val").annotation_sha256 != before


def test_a_model_that_generates_needs_no_answer_list(read: Read, tmp_path: Path) -> None:
    read(question())
    (tmp_path / "answer_list.json").unlink()
    with pytest.raises(DataError, match=r"answer_list.json is neither at.*data prepare vqa"):
        read(question())
    assert not read_vqa(tmp_path, tmp_path / "vqa_test.json", name="vqa", split="test", answer_list=None).answer_list


def test_a_scored_split_without_answers_is_refused(read: Read) -> None:
    with pytest.raises(DataError, match=f"no answers to its questions, nor is there .*{OFFICIAL}.*data prepare vqa"):
        read(question(), split="val")


def test_a_question_that_the_ground_truth_does_not_answer_is_named(
    read: Read, write_truth: Callable[..., None]
) -> None:
    write_truth(people(1, "red"))
    with pytest.raises(DataError, match=rf"{OFFICIAL} has no answer to question 2, which .*vqa_val.json asks"):
        read(question(1), question(2), split="val")


def test_missing_and_empty_images_are_counted_once_each(read: Read, tmp_path: Path) -> None:
    (tmp_path / "b.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"2 of 3 images are missing .*first: b.png \(an empty file\); run"):
        read(question(1), question(2, "b.png"), question(3, "b.png"), question(4, "d.png"))


@pytest.mark.parametrize(
    "second, message",
    [
        (question(1), "record 2: question_id 1 is also that of record 1"),
        (question("2"), "record 2: 'question_id' is '2', not a whole number"),
        (question(True), "record 2: 'question_id' is True"),
        (question(2, "../x.png"), "record 2: image '../x.png' leaves the data folder"),
        (question(2, None), "record 2: 'image' is null, not a string"),
        (question(2) | {"question": 3}, "record 2: 'question' is a number, not a string"),
        (question(2) | {"question": "\ud800"}, "record 2: 'question' holds half a surrogate pair"),
        (question(2, answer=["a"]), "question 1 has no 'answer', but others have"),
        (question(2, answer=[]), "record 2: 'answer' is an empty list: a question with no answer"),
        (question(2, answer="red"), "record 2: 'answer' is a string, not a list"),
        (question(2, answer=["red", 7]), "record 2: 'answer': answer 2 is 7, not text"),
        ("red", "record 2: is a string; expected"),
    ],
)
def test_a_bad_question_is_named(read: Read, second: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(question(1), second)


@pytest.mark.parametrize(
    "content, message",
    [
        ([], "holds no list of questions"),
        (7, "holds no list of questions"),
        ({"questions": [{}]}, "has no 'data_subtype'"),
        (
            {"data_subtype": "val2014", "questions": [{"question_id": 1, "question": "?"}]},
            "record 1: 'image_id' is None",
        ),
    ],
)
def test_a_file_of_another_kind_is_refused(read: Read, content: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(content=content)


@pytest.mark.parametrize(
    "annotations, message",
    [
        ([people(1, "red"), people(1, "red")], "annotation 2: question_id 1 is there twice"),
        ([people(1)], "annotation 1: 'answers' is an empty list"),
        ([{"question_id": 1, "answer_type": "other"}], "annotation 1: 'answers' is null"),
        ([{"question_id": 1, "answers": [{"answer": "red"}]}], "annotation 1: 'answer_type' is null"),
        ([{**people(1), "answers": [{"confidence": "yes"}]}], "annotation 1: 'answers': answer 1 is None"),
    ],
)
def test_a_bad_annotation_is_named(
    read: Read, write_truth: Callable[..., None], annotations: list[Any], message: str
) -> None:
    write_truth(*annotations)
    with pytest.raises(DataError, match=message):
        read(question(), split="val")


@pytest.mark.parametrize(
    "answers, message",
    [
        (["yes", ""], "answer 2 is empty"),
        (["yes", "  "], "answer 2 is empty"),
        (["yes", "no", "yes"], "answers 1 and 3 are both 'yes'"),
        (["yes", 2], "answer 2 is 2, not text"),
        ([], "empty list; expected a list of answers"),
        ({"yes": 1}, "holds an object, not a list"),
    ],
)
def test_a_bad_answer_list_is_refused(read: Read, tmp_path: Path, answers: Any, message: str) -> None:
    (tmp_path / "answer_list.json").write_text(json.dumps(answers))
    with pytest.raises(DataError, match=message):
        read(question())
