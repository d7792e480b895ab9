"""The folder of a run: its settings (run.json), the samples so far, and at the end the result.

    runs/<task>/<model>/
        run.json                    the fingerprint: a resume with another one is refused
        samples/<stage>/*.parquet   part files, each whole or absent; one writer a rank
        samples/<stage>.parquet     all samples of the stage in order, once the run is complete
        result.json                 exists only when the run is complete (or says that it is not)

A part is whole or absent (files.py). Every row names its unit.
"""

import os
import shutil
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from blipbench.errors import BlipbenchError, UsageError
from blipbench.evaluation.fingerprint import read_fingerprint, refuse_other
from blipbench.files import write_json, write_whole
from blipbench.protocols.base import Sample

FLUSH_SECONDS = 2.0


class RunFolder:
    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def result_file(self) -> Path:
        return self.path / "result.json"

    def begin(self, fingerprint: dict[str, Any], *, resume: bool, fresh: bool) -> None:
        """Claim the folder for this run, or check that it holds the same run. Only rank 0 calls this."""
        file = self.path / "run.json"
        if file.exists() and fresh:
            self._clear()
        elif file.exists() and not resume:
            state = "a finished run" if self.result_file.exists() else "an unfinished run"
            raise UsageError(
                f"{self.path} already holds {state}: add --resume to continue it, --fresh to start over, or --out for "
                "another folder"
            )
        elif file.exists():
            refuse_other(self.path, read_fingerprint(file), fingerprint)
        elif self.path.exists() and any(self.path.iterdir()):
            raise UsageError(f"{self.path} is not empty and was not made by blipbench; choose another --out")
        write_json(file, fingerprint)

    def _clear(self) -> None:
        for file in [*self.path.glob("samples/**/*.parquet*"), self.result_file, self.path / "run.json"]:
            file.unlink(missing_ok=True)

    def parts(self, stage: str) -> list[Path]:
        merged = self.path / "samples" / f"{stage}.parquet"
        return ([merged] if merged.exists() else []) + sorted((self.path / "samples" / stage).glob("[!.]*.parquet"))

    def read(self, stage: str, schema: pa.Schema, units: Collection[str]) -> pa.Table:
        """The journaled rows of these units; rows of a unit that two parts hold are taken once."""
        tables, seen = [full_schema(schema).empty_table()], set[str]()
        wanted = set(units)
        for part in self.parts(stage):
            table = read_part(part, schema)
            new = (set(table.column("unit").unique().to_pylist()) & wanted) - seen
            seen |= new
            keep = pc.is_in(table.column("unit"), value_set=pa.array(sorted(new), pa.string()))
            tables.append(table.filter(keep))
        return pa.concat_tables(tables)

    def merge(self, stage: str, table: pa.Table) -> None:
        """Replace a stage's parts by one file. Only rank 0 calls this, when all ranks are done."""
        folder = self.path / "samples" / stage
        _write_part(self.path / "samples" / f"{stage}.parquet", table)
        shutil.rmtree(folder, ignore_errors=True)


class JournalWriter:
    """Appends one rank's samples of one stage, a part file at a time. As a context manager it flushes on any exit."""

    def __init__(self, folder: RunFolder, stage: str, schema: pa.Schema, rank: int) -> None:
        self._folder = folder.path / "samples" / stage
        self._schema = full_schema(schema)
        self._rank = rank
        self._rows: list[dict[str, Any]] = []
        self._tables: list[pa.Table] = []
        self._flushed = time.monotonic()

    def __enter__(self) -> "JournalWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self.flush()

    def append(self, sample: Sample) -> None:
        self._rows.extend({"unit": sample.unit, **row} for row in sample.rows)
        if time.monotonic() - self._flushed > FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        if self._rows:
            table = pa.Table.from_pylist(self._rows, schema=self._schema)
            _write_part(self._folder / f"{time.time_ns()}-{os.getpid()}-rank{self._rank}.parquet", table)
            self._tables.append(table)
            self._rows = []
        self._flushed = time.monotonic()

    def table(self) -> pa.Table:
        """Everything appended so far."""
        self.flush()
        return pa.concat_tables([self._schema.empty_table(), *self._tables])


def full_schema(schema: pa.Schema) -> pa.Schema:
    return pa.schema([("unit", pa.string()), *schema])


def _write_part(path: Path, table: pa.Table) -> None:
    write_whole(path, lambda temporary: pq.write_table(table, temporary, write_page_checksum=True))


def read_part(path: Path, schema: pa.Schema) -> pa.Table:
    """The samples of a file, verified by its checksums. Raises BlipbenchError if it cannot be read."""
    try:
        columns, expected = pq.read_schema(path).names, full_schema(schema).names
        if columns != expected:  # pyarrow would fill those that are missing with nulls
            raise ValueError(f"its columns are {', '.join(columns)}, not {', '.join(expected)}")
        table = pq.read_table(path, schema=full_schema(schema), page_checksum_verification=True)
        table.validate(full=True)  # also that texts are UTF-8
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise BlipbenchError(
            f"{path} is damaged ({reason}); delete this file and run the task again with --resume"
        ) from error
    return table
