"""NLVR2 annotations as published, and what is said of those that are not as they should be."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from goldens import Golden

from blipbench.data.nlvr import NlvrDataset, read_nlvr
from blipbench.errors import DataError, UsageError

Read = Callable[..., NlvrDataset]


def record(
    sentence: str = "There are two dogs.", label: Any = "True", images: Any = ("a.png", "b.png")
) -> dict[str, Any]:
    return {"sentence": sentence, "label": label, "images": list(images) if isinstance(images, tuple) else images}


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Writes records and reads them; a.png, b.png and c.png lie in the folder, d.png in its images/dev/."""
    for name in ("a.png", "b.png", "c.png", "images/dev/d.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"some bytes")

    def read_records(*records: Any, limit: int | None = None) -> NlvrDataset:
        annotation = tmp_path / "nlvr_dev.json"
        annotation.write_text(json.dumps(records))
        return read_nlvr(tmp_path, annotation, name="nlvr", split="val", max_words=40, limit=limit)

    return read_records


def test_the_golden_annotation(golden: Golden) -> None:
    data = read_nlvr(golden.data, golden.data / "nlvr_test.json", name="nlvr", split="test", max_words=40)
    assert data.counts == {"image pairs": 6, "sentences": 6, "images": 12}
    assert data.sentences == golden.json("nlvr")["sentences"]
    assert data.labels == [True, False, True, False, True, False]
    assert len(data.annotation_sha256) == 64


def test_sentences_about_the_same_images_share_a_pair(read: Read) -> None:
    data = read(record("One."), record("Two.", images=("a.png", "c.png")), record("Three.", "False"))
    assert (data.pairs, data.pair_of_sentence) == ([(0, 1), (0, 2)], [0, 1, 0])
    assert data.sentences == ["one", "two", "three"]


def test_swapped_images_are_another_pair_of_the_same_images(read: Read) -> None:
    data = read(record(), record(images=("b.png", "a.png")))
    assert (data.images, data.pairs) == (["a.png", "b.png"], [(0, 1), (1, 0)])


def test_both_images_may_be_the_same(read: Read) -> None:
    assert read(record(images=("a.png", "./a.png"))).pairs == [(0, 0)]


def test_images_are_also_looked_for_under_images(read: Read, tmp_path: Path) -> None:
    data = read(record(images=("a.png", "dev/d.png")))
    assert data.sources == [(tmp_path / "a.png",), (tmp_path / "images" / "dev" / "d.png",)]


def test_limit_keeps_the_first_pairs_with_all_their_sentences(read: Read) -> None:
    data = read(record("One."), record("Two.", images=("a.png", "lost.png")), record("Three."), limit=1)
    assert (data.sentences, data.limited_from) == (["one", "three"], 2)
    assert data.counts["images"] == 2


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (record(images=("a.png",)), "'images' holds 1 file names; a sentence is about two images"),
        (record(images=("a.png", "b.png", "c.png")), "'images' holds 3 file names"),
        (record(images="a.png"), "'images' is a string"),
        (record(images=("a.png", 3)), "an image is a number"),
        (record(label="true"), "'label' is 'true'; it must be the string \"True\" or \"False\""),
        (record(label=True), "'label' is True"),
        (record(label=None), "'label' is None"),
        (record(images=("a.png", "../b.png")), "leaves the data folder"),
        ({"sentence": "Two.", "label": "True"}, "has no 'images'"),
        ({"label": "True", "images": ["a.png", "b.png"]}, "has no 'sentence'"),
        (record(sentence=None), "'sentence' is null"),  # type: ignore[arg-type]
        (record(sentence="\ud83d"), "half a surrogate pair"),
        ("not a record", 'is a string; expected a list of {"sentence"'),
    ],
)
def test_a_malformed_record_is_named_by_its_number(read: Read, bad: Any, message: str) -> None:
    with pytest.raises(DataError) as caught:
        read(record(), bad)
    assert "nlvr_dev.json: record 2: " in str(caught.value) and message in str(caught.value)


def test_further_problems_are_counted(read: Read) -> None:
    with pytest.raises(DataError, match=r"record 1: .* \(and 1 more: `blipbench data verify nlvr` lists all\)"):
        read(record(label=1), record(label=0))


def test_missing_images_are_counted_and_the_first_is_named(read: Read) -> None:
    with pytest.raises(DataError, match=r"nlvr: 2 of 3 images are missing under .*, first: x\.png"):
        read(record(images=("a.png", "x.png")), record(images=("y.png", "x.png")))


def test_an_empty_list_says_what_was_expected(read: Read) -> None:
    with pytest.raises(DataError, match=r'empty list; expected a list of \{"sentence"'):
        read()


def test_limit_zero(read: Read) -> None:
    with pytest.raises(UsageError, match="--limit 0"):
        read(record(), limit=0)
