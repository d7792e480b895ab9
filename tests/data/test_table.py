"""A table of images and captions with named columns is read whatever its format, and refused by row and column."""

import json
import re
from pathlib import Path

import pytest

from blipbench.data.captioned import CaptionedImage
from blipbench.data.table import read_table
from blipbench.errors import DataError


def write(folder: Path, name: str, content: str) -> Path:
    path = folder / name
    path.write_text(content, encoding="utf-8")
    return path


def first_problem(table: Path) -> str:
    try:
        return read_table(table, image="file", captions=["text"]).problems[0]
    except DataError as error:
        return str(error)


EXPECTED = [CaptionedImage("a.jpg", "a.jpg", ["a dog, running", "a dog"]), CaptionedImage("b.jpg", "b.jpg", ["a cat"])]


@pytest.mark.parametrize(
    "name, content",
    [
        ("t.csv", 'file,text\na.jpg,"a dog, running"\nb.jpg,a cat\na.jpg,a dog\n'),
        ("t.csv", '\ufefffile,text,by\r\na.jpg,"a dog, running",me\r\n\r\nb.jpg,a cat,\r\na.jpg,a dog,\r\n'),
        ("t.csv", 'file;text\r\na.jpg;"a dog, running"\r\nb.jpg;a cat\r\na.jpg;a dog\r\n'),
        ("t.csv", '"file";"text";"by, when"\na.jpg;a dog, running;me\nb.jpg;a cat;\na.jpg;a dog;me\n'),
        ("t.csv", "file\ttext\na.jpg\ta dog, running\nb.jpg\ta cat\na.jpg\ta dog\n"),
        ("t.tsv", "text\tfile\na dog, running\ta.jpg\na cat\tb.jpg\na dog\ta.jpg\n"),
        ("t.jsonl", '{"file": "a.jpg", "text": ["a dog, running", "a dog"]}\n\n{"file": "b.jpg", "text": "a cat"}\n'),
        ("t.json", '[{"file": "a.jpg", "text": ["a dog, running", "a dog"]}, {"file": "./b.jpg", "text": "a cat"}]'),
    ],
)
def test_rows_of_one_image_are_put_together(tmp_path: Path, name: str, content: str) -> None:
    captioned = read_table(write(tmp_path, name, content), image="file", captions=["text"])
    images = [(item.path, item.captions) for item in captioned.images]
    assert images == [(item.path, item.captions) for item in EXPECTED]
    assert len(captioned.sha256) == 64 and captioned.own


def test_several_columns_hold_several_captions_and_an_empty_cell_none(tmp_path: Path) -> None:
    table = write(tmp_path, "t.csv", "file,one,two\na.jpg,a dog,\nb.jpg,a cat,two cats\n")
    images = read_table(table, image="file", captions=["one", "two"]).images
    assert [item.captions for item in images] == [["a dog"], ["a cat", "two cats"]]


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("t.csv", "image,text\na.jpg,x\n", "no column is called 'file'; there are image, text.*data.columns"),
        ("t.csv", "file,text\na.jpg,a dog, running\n", "line 2: 3 cells.*names 2 columns.*double quotes"),
        ("t.csv", 'file,text\na.jpg,"a\nb"\nb.jpg\n', "line 4: 1 cells"),
        ("t.csv", 'file,text\na.jpg,"a dog\n', "line 2: unexpected end"),
        ("t.csv", "file,file\na.jpg,x\n", "two columns have the same name"),
        ("t.csv", "file,text\n", "there are no rows"),
        ("t.csv", "", "there are no rows"),
        ("t.csv", "file,text\n../a.jpg,x\n", "line 2: file '../a.jpg' leaves the data folder"),
        ("t.csv", "file,text\n,x\n", "line 2: file '' is not a file name"),
        ("t.csv", "file,text\na.jpg,\n", "a.jpg has no caption in text"),
        ("t.jsonl", '{"file": "a.jpg", "text": "x"}\n{"file": ', "line 2: not JSON"),
        ("t.jsonl", '{"file": "a.jpg", "text": "x"}\n[]', "line 2: is a list, not an object"),
        (
            "t.jsonl",
            '{"file": "a.jpg", "text": "x"}\n{"text": "y"}',
            "line 2: there is no 'file'; its columns are text",
        ),
        ("t.jsonl", '{"file": "a.jpg", "text": [1]}', "line 1: 'text' is a number, not a string"),
        ("t.jsonl", '{"file": "a.jpg", "text": "\\ud800"}', "half a surrogate pair"),
        ("t.json", '{"file": "a.jpg"}', "holds an object, not a list"),
        ("t.json", '{"images": [], "annotations": []}', "which the reader coco_captions reads"),
        ("t.csv", "fi\0le,text\n", "byte 2 is NUL"),
        ("t.jsonl", '{"\\ud800": 1}', r"there are '\\ud800'"),
        ("t.txt", "file,text\n", "a table ends in .csv, .tsv, .jsonl or .json, not in '.txt'"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, name: str, content: str, message: str) -> None:
    table = write(tmp_path, name, content)
    problem = first_problem(table)
    assert re.search(message, problem)
    assert str(table) in problem


def test_a_file_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_bytes("file,text\na.jpg,caf\xe9\n".encode("latin-1"))
    with pytest.raises(DataError, match="byte 19 is not UTF-8"):
        read_table(table, image="file", captions=["text"])


def test_json_without_end_is_refused(tmp_path: Path) -> None:
    assert "line 1: not JSON: it is nested too deeply" in first_problem(write(tmp_path, "t.jsonl", "[" * 100_000))
    assert "not JSON" in first_problem(write(tmp_path, "t.json", json.dumps([1])[:-1]))


def test_unicode_text_of_a_spreadsheet_is_read(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_bytes("file\ttext\r\na.jpg\tein Hündchen\r\n".encode("utf-16"))
    (image,) = read_table(table, image="file", captions=["text"]).images
    assert image.captions == ["ein Hündchen"]


def test_a_header_with_two_separators_is_refused(tmp_path: Path) -> None:
    table = write(tmp_path, "t.csv", "file;text\tby\na.jpg;a dog\tme\n")
    with pytest.raises(DataError, match="both semicolons and tabs"):
        read_table(table, image="file", captions=["text"])
