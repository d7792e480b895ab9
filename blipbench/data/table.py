"""Reads annotations that are a table with named columns: CSV, TSV, JSON lines, or a JSON list of objects.

Takes a file and the names of its columns, and returns images with their captions. Rows of one image are combined, in
the order in which images first appear. The suffix of the file says its format. A CSV file may separate its columns by
commas, semicolons or tabs. Messages name a row by its line, and in a JSON list by its number, from 1.
"""

import csv
import hashlib
import io
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from blipbench.data.captioned import Captioned, CaptionedImage
from blipbench.data.files import other_format
from blipbench.data.records import json_kind, path_inside, require_text
from blipbench.errors import DataError

_SUFFIXES = ".csv, .tsv, .jsonl or .json"


class Row(NamedTuple):
    """One row's cells by column. `where` names it in messages, e.g. "captions.csv: line 3"."""

    where: str
    cells: dict[str, Any]

    def text(self, column: str) -> str:
        """The cell as text. ValueError says why it is none."""
        if self.cells.get(column) is None:
            raise ValueError(f"there is no {column!r}; its columns are {_names(self.cells)}")
        text: str = self.cells[column]
        require_text(text, repr(column))
        return text


def read_table(annotation: Path, *, image: str, captions: Sequence[str]) -> Captioned:
    """The images that the column `image` names, with the captions in the columns `captions`.

    The cell of a caption holds a text or, in JSON, a list of texts. An empty cell is not a caption. Every image needs
    at least one caption. Raises DataError if the file has no such columns.
    """
    rows, problems, sha256 = read_rows(annotation)
    known = list(dict.fromkeys(column for row in rows for column in row.cells))
    for column in (image, *captions):
        if rows and column not in known:
            raise DataError(
                f"{annotation}: no column is called {column!r}; there are {_names(known)}; "
                "name yours under data.columns in the task"
            )
    by_path: dict[str, CaptionedImage] = {}
    for row in rows:
        try:
            name = row.text(image)
            try:
                path = path_inside(name)
            except ValueError as error:
                raise ValueError(f"{image} {name!r} {error}") from None
            found = by_path.setdefault(path, CaptionedImage(name, path, []))
            found.captions.extend(_captions(row, captions))
        except ValueError as error:
            problems.append(f"{row.where}: {error}")
    if not problems:  # else the caption may be in a faulty row
        problems += [
            f"{annotation}: {item.image} has no caption in {', '.join(captions)}; it needs one"
            for item in by_path.values()
            if not item.captions
        ]
    return Captioned(list(by_path.values()), sha256, problems, own=True)


def read_rows(path: Path) -> tuple[list[Row], list[str], str]:
    """The sound rows of a table, the problems of the others, and the file's sha256.

    Raises DataError if the file is not a table or has no rows.
    """
    parse = {".csv": _csv_rows, ".tsv": _csv_rows, ".jsonl": _json_lines, ".json": _json_list}.get(path.suffix.lower())
    if parse is None:
        raise DataError(f"{path}: a table ends in {_SUFFIXES}, not in {path.suffix or 'nothing'!r}")
    try:
        content = path.read_bytes()
        # Spreadsheets begin a file with a byte order mark, and save "Unicode text" as UTF-16.
        encoding = "UTF-16" if content.startswith((b"\xff\xfe", b"\xfe\xff")) else "UTF-8"
        text = content.decode("utf-16" if encoding == "UTF-16" else "utf-8-sig")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: byte {error.start} is not {encoding} text; save the file as UTF-8") from error
    if "\0" in text:
        raise DataError(f"{path}: byte {content.index(0)} is NUL, so the file is not {encoding} text; save it as UTF-8")
    problems: list[str] = []
    rows = list(parse(path, text, problems))
    if not rows and not problems:
        raise DataError(f"{path}: there are no rows in it")
    return rows, problems, hashlib.sha256(content).hexdigest()


def _captions(row: Row, columns: Sequence[str]) -> Iterator[str]:
    for column in columns:
        cell = row.cells.get(column)
        for value in cell if isinstance(cell, list) else [cell]:
            if value is not None and (text := Row(row.where, {column: value}).text(column)):
                yield text


def _names(columns: Iterable[str]) -> str:
    """The columns, readable in a message whatever their names contain."""
    return ", ".join(column if column.isprintable() else repr(column) for column in columns)


def _csv_rows(path: Path, text: str, problems: list[str]) -> Iterator[Row]:
    separator = "\t" if path.suffix.lower() == ".tsv" else _separator(path, text)
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        header = next(lines, [])
        if len(set(header)) < len(header):
            raise DataError(f"{path}: line 1: two columns have the same name: {_names(header)}")
        start = lines.line_num + 1
        for cells in lines:
            where, start = f"{path}: line {start}", lines.line_num + 1
            if cells and len(cells) != len(header):
                problems.append(
                    f"{where}: {len(cells)} cells, but the header names {len(header)} columns "
                    f"({_names(header)}); a text that contains the separator must be in double quotes"
                )
            elif cells:  # else an empty line
                yield Row(where, dict(zip(header, cells, strict=True)))
    except csv.Error as error:  # the end of the text in quotes is unknown, and so are the lines after it
        problems.append(f"{path}: line {lines.line_num}: {error}")


def _separator(path: Path, text: str) -> str:
    """The one that parts the header: a comma, or in its absence a semicolon or a tab. Raises DataError if both do."""
    header = re.sub(r'"[^"]*"', "", text.split("\n", 1)[0])  # names in quotes may contain any of them
    if "," in header:
        return ","
    found = [separator for separator in (";", "\t") if separator in header]
    if len(found) > 1:
        raise DataError(f"{path}: line 1: both semicolons and tabs separate its columns; save the file with commas")
    return found[0] if found else ","


def _json_lines(path: Path, text: str, problems: list[str]) -> Iterator[Row]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            where = f"{path}: line {number}"
            try:
                yield Row(where, _object(_parse_json(line)))
            except ValueError as error:
                problems.append(f"{where}: {error}")


def _json_list(path: Path, text: str, problems: list[str]) -> Iterator[Row]:
    try:
        records = _parse_json(text)
    except ValueError as error:
        raise DataError(f"{path}: {error}") from error
    if not isinstance(records, list):
        expected = "expected a list of objects, one for each row"
        raise DataError(f"{path} holds {json_kind(records)}, not a list; {other_format(records) or expected}")
    for number, record in enumerate(records, start=1):
        where = f"{path}: row {number}"
        try:
            yield Row(where, _object(record))
        except ValueError as error:
            problems.append(f"{where}: {error}")


def _parse_json(text: str) -> Any:
    """ValueError says why it is not JSON."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("not JSON: it is nested too deeply") from None
    except ValueError as error:  # also an integer of thousands of digits
        raise ValueError(f"not JSON: {error}") from error


def _object(record: Any) -> dict[str, Any]:
    if not isinstance(record, dict):
        raise ValueError(f"is {json_kind(record)}, not an object with a value for each column")
    return record
