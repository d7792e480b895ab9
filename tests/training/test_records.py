"""Training annotations in the official formats, read into examples; what is wrong is named before training."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from goldens import GOLDEN
from training_runs import spec

from blipbench.errors import DataError
from blipbench.training.records import CaptionExample, NlvrExample, TrainingSet, VqaExample, read_training_set


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data folder with two pictures, a.png and b.png."""
    picture = next((GOLDEN / "data").rglob("*.png"), None) or next((GOLDEN / "data").rglob("*.jpg"))
    for name in ("a.png", "b.png"):
        shutil.copyfile(picture, tmp_path / name)
    return tmp_path


def read(root: Path, kind: str, *files: list[Any], **data: Any) -> TrainingSet:
    names = [f"part{number}.json" for number in range(len(files))]
    for name, records in zip(names, files, strict=True):
        (root / name).write_text(json.dumps(records))
    return read_training_set(
        spec(root / "config", kind, data={"annotations": names, "max_words": 30, "max_tokens": 35, **data}), root
    )


def test_captions_of_several_files_share_their_images_and_get_the_prompt(root: Path) -> None:
    first = [{"image": "b.png", "caption": "A Dog!", "image_id": "x"}]
    second = [{"image": "a.png", "caption": ["one", "two"]}, {"image": "./b.png", "caption": "three"}]
    found = read(root, "caption", first, second, prompt="a picture of ")
    texts = ["a picture of a dog", "a picture of one", "a picture of two", "a picture of three"]
    assert found.examples == [CaptionExample(i, text) for i, text in zip((0, 1, 1, 0), texts, strict=True)]
    assert found.paths == [root / "b.png", root / "a.png"]


def test_an_answers_weight_is_its_share_of_the_ten_and_visual_genomes_is_a_fifth(root: Path) -> None:
    vqa = {
        "question_id": 1,
        "question": "What is it?",
        "answer": ["red"] * 6 + ["blue"] * 3 + ["a dog"],
        "image": "a.png",
    }
    genome = {"question_id": 2, "question": "Who?", "answer": "nobody", "image": "b.png", "dataset": "vg"}
    found = read(root, "vqa", [{**vqa, "dataset": "vqa"}], [genome])
    assert found.examples == [
        VqaExample(0, "what is it?", ("red", "blue", "a dog"), (0.6, 0.3, 0.1)),
        VqaExample(1, "who?", ("nobody",), (0.2,)),
    ]


def test_statements_about_two_images(root: Path) -> None:
    records = [{"sentence": "The left one.", "label": "True", "images": ["b.png", "a.png"]}]
    found = read(root, "nlvr", records, records)
    assert found.examples == [NlvrExample(0, 1, "the left one", True), NlvrExample(2, 3, "the left one", True)]
    assert [path.name for path in found.paths] == ["b.png", "a.png", "b.png", "a.png"]


@pytest.mark.parametrize(
    ("kind", "record", "message"),
    [
        ("caption", {"image": "c.png", "caption": "x"}, "1 of 2 images is missing under .*, first: c.png"),
        ("caption", {"image": "../a.png", "caption": "x"}, "part0.json: record 2: image '../a.png' leaves the data"),
        ("caption", {"image": "a.png"}, "record 2: 'caption' is null, not text"),
        ("caption", ["a.png", "x"], "record 2: is a list; expected a list of"),
        ("vqa", {"image": "a.png", "question": "q", "answer": []}, "record 2: 'answer' is an empty list, not text"),
        ("vqa", {"image": "a.png", "answer": ["x"]}, "record 2: 'question' is null, not text"),
    ],
)
def test_a_wrong_record_is_named(root: Path, kind: str, record: Any, message: str) -> None:
    sound = {"image": "a.png", "caption": "x", "question": "q", "answer": ["x"]}
    with pytest.raises(DataError, match=message):
        read(root, kind, [sound, record])
