"""Reads annotations that are a table with named columns: CSV, TSV, JSON lines, or a JSON list of objects.

Takes a file and the names of its columns, and returns images with their captions. Rows of one image are combined, in
the order in which images first appear. The suffix of the file says its format. A CSV file may separate its columns by
commas, semicolons or tabs. Messages name a row by its line, and in a JSON list by its number, from 1.
"""

import csv
import hashlib
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from blipbench.data.captioned import Captioned, CaptionedImage
from blipbench.data.records import has_half_surrogate, json_kind, path_inside
from blipbench.errors import DataError

_SUFFIXES = ".csv, .tsv, .jsonl or .json"


class Row(NamedTuple):
    """One row's cells by column; `where` names it in messages, e.g. "captions.csv: line 3"."""

    where: str
    cells: dict[str, Any]

    def text(self, column: str) -> str:
        """The cell as text. Raises DataError where there is none."""
        if column not in self.cells or self.cells[column] is None:
            raise DataError(f"{self.where}: there is no {column!r}; its columns are {', '.join(self.cells)}")
        value = self.cells[column]
        if not isinstance(value, str):
            raise DataError(f"{self.where}: {column!r} is {json_kind(value)}, not a string")
        if has_half_surrogate(value):
            raise DataError(f"{self.where}: {column!r} holds half a surrogate pair, which is not text: {value!a}")
        return value


def read_table(annotation: Path, *, image: str, captions: Sequence[str]) -> Captioned:
    """The images that the column `image` names, with the captions in the columns `captions`.

    The cell of a caption holds a text or, in JSON, a list of texts. An empty cell is not a caption. Every image needs
    at least one caption. Raises DataError naming the file, the row and the column.
    """
    rows, sha256 = read_rows(annotation)
    known = list(dict.fromkeys(column for row in rows for column in row.cells))
    for column in (image, *captions):
        if column not in known:
            raise DataError(
                f"{annotation}: no column is called {column!r}; there are {', '.join(map(str, known))}; "
                "name yours under data.columns in the task"
            )
    by_path: dict[str, CaptionedImage] = {}
    for row in rows:
        name = row.text(image)
        try:
            path = path_inside(name)
        except ValueError as error:
            raise DataError(f"{row.where}: {image} {name!r} {error}") from None
        by_path.setdefault(path, CaptionedImage(name, path, [])).captions.extend(_captions(row, captions))
    for item in by_path.values():
        if not item.captions:
            raise DataError(f"{annotation}: {item.image} has no caption in {', '.join(captions)}; it needs one")
    return Captioned(list(by_path.values()), sha256, own=True)


def read_rows(path: Path) -> tuple[list[Row], str]:
    """The rows of a table and the file's sha256. Raises DataError with the line where the file is malformed."""
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
    rows = list(parse(path, text))
    if not rows:
        raise DataError(f"{path}: there are no rows in it")
    return rows, hashlib.sha256(content).hexdigest()


def _captions(row: Row, columns: Sequence[str]) -> Iterator[str]:
    for column in columns:
        cell = row.cells.get(column)
        for value in cell if isinstance(cell, list) else [cell]:
            if value is not None and (text := Row(row.where, {column: value}).text(column)):
                yield text


def _csv_rows(path: Path, text: str) -> Iterator[Row]:
    separator = "\t" if path.suffix.lower() == ".tsv" else _separator(path, text)
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        header = next(lines, [])
        if len(set(header)) < len(header):
            raise DataError(f"{path}: line 1: two columns have the same name: {', '.join(header)}")
        start = lines.line_num + 1
        for cells in lines:
            where, start = f"{path}: line {start}", lines.line_num + 1
            if cells and len(cells) != len(header):
                raise DataError(
                    f"{where}: {len(cells)} cells, but the header names {len(header)} columns "
                    f"({', '.join(header)}); a text that contains the separator must be in double quotes"
                )
            if cells:  # else an empty line
                yield Row(where, dict(zip(header, cells, strict=True)))
    except csv.Error as error:
        raise DataError(f"{path}: line {lines.line_num}: {error}") from error


def _separator(path: Path, text: str) -> str:
    """The one that parts the header: a comma, or in its absence a semicolon or a tab. Raises DataError if both do."""
    header = text.split("\n", 1)[0]
    if "," in header:
        return ","
    found = [separator for separator in (";", "\t") if separator in header]
    if len(found) > 1:
        raise DataError(f"{path}: line 1: both semicolons and tabs separate its columns; save the file with commas")
    return found[0] if found else ","


def _json_lines(path: Path, text: str) -> Iterator[Row]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            where = f"{path}: line {number}"
            yield _object(where, _parse_json(where, line))


def _json_list(path: Path, text: str) -> Iterator[Row]:
    records = _parse_json(str(path), text)
    if not isinstance(records, list):
        raise DataError(f"{path} holds {json_kind(records)}, not a list of objects, one for each row")
    for number, record in enumerate(records, start=1):
        yield _object(f"{path}: row {number}", record)


def _parse_json(where: str, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:  # also an integer of thousands of digits, and endless nesting
        raise DataError(f"{where}: not JSON: {error}") from error


def _object(where: str, record: Any) -> Row:
    if not isinstance(record, dict):
        raise DataError(f"{where}: is {json_kind(record)}, not an object with a column each")
    return Row(where, record)
