"""Web files: captions as typed, several an image, and everything wrong with one is named."""

import json
from pathlib import Path
from typing import Any

import pytest
from goldens import Golden

from blipbench.data.web import read_web
from blipbench.errors import DataError, UsageError


@pytest.fixture
def web(golden: Golden, tmp_path: Path) -> Path:
    """A folder with two pictures and no annotation yet; returns the annotation's path."""
    for name, picture in zip(("a.png", "b.png"), golden.pictures(), strict=False):
        (tmp_path / name).write_bytes(picture.read_bytes())
    return tmp_path / "web.json"


def write(web: Path, records: Any) -> Path:
    web.write_text(records if isinstance(records, str) else json.dumps(records))
    return web


def test_captions_of_an_image_are_put_together_as_typed(web: Path) -> None:
    records = [
        {"image": "b.png", "caption": "BUY now!"},
        {"image": "a.png", "caption": ["one", "two"]},
        {"image": "./b.png", "caption": "shoes"},
    ]
    dataset = read_web(write(web, records), None, name="capfilt")
    assert dataset.names == ["b.png", "a.png"]
    assert dataset.references == [["BUY now!", "shoes"], ["one", "two"]]
    assert dataset.sources == [(web.parent / "b.png",), (web.parent / "a.png",)]


def test_images_may_lie_in_another_folder(web: Path, tmp_path: Path) -> None:
    elsewhere = write(tmp_path / "elsewhere.json", [{"image": "a.png", "caption": "x"}])
    (moved := tmp_path / "lists").mkdir()
    dataset = read_web(elsewhere.rename(moved / "web.json"), web.parent, name="capfilt")
    assert dataset.sources == [(web.parent / "a.png",)]


def test_limit_keeps_the_first_images_and_looks_for_no_others(web: Path) -> None:
    records = [{"image": "a.png", "caption": "x"}, {"image": "gone.png", "caption": "y"}]
    dataset = read_web(write(web, records), None, name="capfilt", limit=1)
    assert dataset.names == ["a.png"] and dataset.limited_from == 2


def test_a_missing_image_is_named_with_the_number_of_them(web: Path) -> None:
    records = [{"image": name, "caption": "x"} for name in ("a.png", "gone.png", "lost.png")]
    with pytest.raises(DataError, match=r"web\.json: 2 of 3 images are missing under .*first: gone\.png.*--images"):
        read_web(write(web, records), None, name="capfilt")


@pytest.mark.parametrize(
    "records, message",
    [
        ('[{"image": "a.png",', r"web\.json is not JSON: .*line 1"),
        ({"image": "a.png"}, "an object, not a list"),
        ([], "an empty list"),
        (["a.png"], "record 1: is a string"),
        ([{"image": "a.png"}], "record 1: has no 'caption'"),
        ([{"image": 3, "caption": "x"}], "record 1: 'image' is a number"),
        ([{"image": "a.png", "caption": None}], "record 1: 'caption' is null"),
        ([{"image": "a.png", "caption": []}], "an empty caption list"),
        ([{"image": "a.png", "caption": ["x", 1]}], "caption 2 is a number"),
        ([{"image": "a.png", "caption": "\ud800"}], "half a surrogate"),
        ([{"image": "../a.png", "caption": "x"}], "leaves the data folder"),
        ([{"image": "/a.png", "caption": "x"}], "is absolute"),
        ([{"image": "a.png"}, {"caption": "x"}], r"\(and 1 more\)"),
    ],
)
def test_what_is_wrong_with_a_file_is_named(web: Path, records: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_web(write(web, records), None, name="capfilt")


def test_a_folder_that_is_none_is_refused(web: Path) -> None:
    with pytest.raises(UsageError, match=r"--images .*nowhere is not a folder"):
        read_web(write(web, [{"image": "a.png", "caption": "x"}]), web.parent / "nowhere", name="capfilt")
