"""Whatever an annotation, a table or the data section of a task holds, a reader reads it or refuses it with a message.

Examples are drawn the same way every time. `BLIPBENCH_FUZZ=1000 pytest tests/data/test_damaged.py` draws more.
"""

import copy
import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from damage import spoilt, spoilt_bytes
from hypothesis import HealthCheck, given, settings, strategies as st
from PIL import Image
from training_runs import spec

from blipbench.config.task import Task
from blipbench.config.tasks import load_task
from blipbench.data.web import read_web
from blipbench.errors import BlipbenchError
from blipbench.protocols.registry import PROTOCOLS
from blipbench.training.records import read_training_set

EXAMPLES = int(os.environ.get("BLIPBENCH_FUZZ", "60"))

fuzz = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)

GROUND_TRUTH = {"annotations": [{"question_id": 1, "answer_type": "other", "answers": [{"answer": "red"}]}]}
REFERENCES = {
    "images": [{"id": 1, "domain": "in-domain"}, {"id": 2}],
    "annotations": [{"image_id": 1, "caption": "A."}, {"image_id": 2, "caption": "B."}],
}
COLUMNS = {"columns": {"image": "file", "caption": ["text", "more"]}}
TABLE = [{"file": "a.png", "text": "A.", "more": ["B."]}, {"file": "b.png", "text": "C.", "more": None}]
SENTENCES = [{"raw": "A."}]

# name -> protocol, data section beyond the common keys, and the files by name; the first one is the annotation
CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "karpathy": (
        "retrieval",
        {},
        {"t.json": [{"image": "a.png", "caption": ["A."]}, {"image": "b.png", "caption": ["B"]}]},
    ),
    "karpathy of captions": (
        "captioning",
        {"reader": "karpathy"},
        {"t.json": [{"image": f"{n}.png", "caption": "A.", "image_id": n} for n in "aab"]},
    ),
    "karpathy_splits": (
        "retrieval",
        {},
        {
            "t.json": {
                "images": [
                    {"filename": "a.png", "filepath": ".", "split": "test", "sentences": SENTENCES, "cocoid": 3},
                    {"filename": "b.png", "split": "test", "sentences": SENTENCES},
                ]
            }
        },
    ),
    "coco_captions": (
        "captioning",
        {},
        {
            "t.json": {
                "images": [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "b.png"}],
                "annotations": REFERENCES["annotations"],
            }
        },
    ),
    "nocaps": (
        "captioning",
        {"references": {"test": "gt.json"}},
        {"t.json": [{"image": "a.png", "img_id": 1}, {"image": "b.png", "img_id": 2}], "gt.json": REFERENCES},
    ),
    "vqa": (
        "vqa",
        {"ground_truth": {"test": "gt.json"}, "answer_list": "list.json"},
        {
            "t.json": [{"image": "a.png", "question_id": 1, "question": "?", "answer": ["red"]}],
            "gt.json": GROUND_TRUTH,
            "list.json": ["red", "blue"],
        },
    ),
    "vqa of VQAv2": (
        "vqa",
        {"reader": "vqa", "public": ["test"], "answer_list": "list.json"},
        {
            "t.json": {"data_subtype": ".", "questions": [{"image_id": 1, "question_id": 1, "question": "?"}]},
            "v2_mscoco_test2015_annotations.json": GROUND_TRUTH,
            "list.json": ["red", "blue"],
        },
    ),
    "nlvr": ("nlvr", {}, {"t.json": [{"images": ["a.png", "b.png"], "sentence": "A.", "label": "True"}]}),
    "table": ("retrieval", COLUMNS, {"t.json": TABLE}),
    "table of JSON lines": ("captioning", {"reader": "table", **COLUMNS}, {"t.jsonl": TABLE}),
    "msrvtt": (
        "retrieval",
        {},
        {"t.jsonl": [{"clip_name": "a", "caption": "A."}, {"clip_name": "b", "caption": "B."}]},
    ),
}
SETTINGS = {"retrieval": {"k_test": 4}}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("a.png", "b.png", "COCO_._000000000001.jpg"):
        Image.new("RGB", (2, 2)).save(tmp_path / name)
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).write_bytes(b"a video")
    return tmp_path


def task_of(name: str, root: Path) -> Task:
    protocol, more, files = CASES[name]
    data = {"reader": name, "annotations": {"test": next(iter(files))}, "max_words": 5, **more}
    return write_task(root, protocol, data)


def write_task(root: Path, protocol: str, data: Any) -> Task:
    common = {"name": "mine", "title": "t", "main_metric": "m", "model": {"image_size": 32}}
    content = {**common, "protocol": protocol, "settings": SETTINGS.get(protocol, {}), "data": data}
    (root / "mine.yaml").write_text(yaml.safe_dump(content), encoding="utf-8", errors="surrogatepass")
    return load_task(str(root / "mine.yaml"))


def as_text(file: str, content: Any) -> bytes:
    if file.endswith(".jsonl") and isinstance(content, list):
        return "\n".join(map(json.dumps, content)).encode()
    return json.dumps(content).encode()


def read_or_refuse(task: Task, root: Path) -> bool:
    """Whether the task's data could be read. Texts that are read can be stored, and messages can be printed."""
    recipe = PROTOCOLS[task.protocol].recipe()
    try:
        dataset = recipe.read(task, root, "test", None)
    except BlipbenchError as error:
        str(error).encode()
        return False
    "".join(recipe.texts(dataset)).encode()
    assert dataset.sources and all(count >= 0 for count in dataset.counts.values())
    return True


@pytest.mark.parametrize("name", CASES)
def test_the_originals_are_read(name: str, root: Path) -> None:
    for file, content in CASES[name][2].items():
        (root / file).write_bytes(as_text(file, content))
    assert read_or_refuse(task_of(name, root), root)


@pytest.mark.parametrize("name, file", [(name, file) for name, case in CASES.items() for file in case[2]])
def test_annotations(name: str, file: str, root: Path) -> None:
    files = CASES[name][2]
    for other, content in files.items():
        (root / other).write_bytes(as_text(other, content))
    task = task_of(name, root)
    original = as_text(file, files[file])

    @fuzz
    @given(content=spoilt(files[file]).map(lambda value: as_text(file, value)) | spoilt_bytes(original))
    def check(content: bytes) -> None:
        (root / file).write_bytes(content)
        read_or_refuse(task, root)

    check()


@pytest.mark.parametrize("suffix, separator", [("csv", ","), ("csv", ";"), ("csv", "\t"), ("tsv", "\t")])
def test_tables_of_lines(suffix: str, separator: str, root: Path) -> None:
    rows = [["file", "text", "more"], ["a.png", '"A ""quoted"" text"', ""], ["b.png", "B.", "C."]]
    original = "\r\n".join(separator.join(row) for row in rows)
    data = {"reader": "table", "annotations": {"test": f"t.{suffix}"}, "max_words": 5, **COLUMNS}
    task = write_task(root, "retrieval", data)
    (root / f"t.{suffix}").write_text(original, newline="")
    assert read_or_refuse(task, root)
    pieces = st.lists(st.sampled_from([*'",;\t\r\n\0 \ufeffaé', "file", "text", "more", "a.png", '""']), max_size=40)
    encoded = pieces.flatmap(
        lambda drawn: st.sampled_from(["utf-8", "utf-16", "latin-1"]).map(
            lambda encoding: "".join(drawn).encode(encoding, "replace")
        )
    )

    @fuzz
    @given(content=spoilt_bytes(original.encode()) | spoilt_bytes(original.encode("utf-16")) | encoded)
    def check(content: bytes) -> None:
        (root / f"t.{suffix}").write_bytes(content)
        read_or_refuse(task, root)

    check()


@pytest.mark.parametrize("name", CASES)
def test_data_sections(name: str, root: Path) -> None:
    protocol, more, files = CASES[name]
    for file, content in files.items():
        (root / file).write_bytes(as_text(file, content))
    data = {"reader": name, "annotations": {"test": next(iter(files))}, "split": "test", "max_words": 5, **more}

    @fuzz
    @given(section=spoilt(copy.deepcopy(data)))
    def check(section: Any) -> None:
        try:
            task = write_task(root, protocol, section)
        except BlipbenchError as error:
            str(error).encode()
        else:
            read_or_refuse(task, root)

    check()


WEB = [{"image": "a.png", "caption": "A."}, {"image": "b.png", "caption": ["B.", "C."]}]
QUESTIONS = [
    {"image": "a.png", "question": "?", "answer": ["red", "blue"]},
    {"image": "b.png", "question": "?", "answer": "red"},
]
STATEMENTS = [{"images": ["a.png", "b.png"], "sentence": "A.", "label": "False"}]


@pytest.mark.parametrize("kind, content", [("caption", WEB), ("vqa", QUESTIONS), ("nlvr", STATEMENTS)])
def test_annotations_of_a_training(kind: str, content: Any, root: Path) -> None:
    training = spec(root / "config", kind, data={"annotations": ["t.json"], "max_words": 5, "max_tokens": 9})

    @fuzz
    @given(drawn=spoilt(content).map(lambda value: as_text("t.json", value)) | spoilt_bytes(as_text("", content)))
    def check(drawn: bytes) -> None:
        (root / "t.json").write_bytes(drawn)
        try:
            assert read_training_set(training, root).examples
        except BlipbenchError as error:
            str(error).encode()

    check()


def test_annotations_from_the_web(root: Path) -> None:
    @fuzz
    @given(drawn=spoilt(WEB).map(lambda value: as_text("t.json", value)) | spoilt_bytes(as_text("", WEB)))
    def check(drawn: bytes) -> None:
        (root / "t.json").write_bytes(drawn)
        try:
            "".join(
                caption for captions in read_web(root / "t.json", None, name="x").references for caption in captions
            )
        except BlipbenchError as error:
            str(error).encode()

    check()
