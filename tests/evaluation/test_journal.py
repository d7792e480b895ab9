"""A run's folder: claimed once, resumed only by the same run, its parts whole or absent."""

import contextlib
import json
import resource
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from blipbench.errors import BlipbenchError, UsageError
from blipbench.evaluation.journal import JournalWriter, RunFolder, full_schema
from blipbench.protocols.base import Sample

SCHEMA = pa.schema([("value", pa.int64())])
FINGERPRINT = {"task": "t", "checkpoint_sha256": "abc"}


def write(folder: RunFolder, *units: str, rank: int = 0) -> None:
    with JournalWriter(folder, "stage", SCHEMA, rank) as journal:
        for unit in units:
            journal.append(Sample(unit, [{"value": len(unit)}]))


def test_a_folder_is_not_taken_twice_without_being_told(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.begin(FINGERPRINT, resume=False, fresh=False)
    with pytest.raises(UsageError, match=r"already holds an unfinished run.*--resume.*--fresh.*--out"):
        folder.begin(FINGERPRINT, resume=False, fresh=False)


def test_resume_under_another_setting_is_refused_and_says_which(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.begin(FINGERPRINT, resume=False, fresh=False)
    with pytest.raises(UsageError, match="checkpoint_sha256 was 'abc', is 'def'") as refusal:
        folder.begin({**FINGERPRINT, "checkpoint_sha256": "def"}, resume=True, fresh=False)
    assert refusal.value.exit_code == 2


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(UsageError, match="was not made by blipbench"):
        RunFolder(tmp_path).begin(FINGERPRINT, resume=False, fresh=True)


def test_fresh_discards_what_was_there(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.begin(FINGERPRINT, resume=False, fresh=False)
    write(folder, "a")
    folder.begin({"task": "other"}, resume=False, fresh=True)
    assert folder.parts("stage") == []
    assert json.loads((tmp_path / "run.json").read_text()) == {"task": "other"}


def test_rows_are_read_back_once_though_two_parts_hold_a_unit(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    write(folder, "a", "bb", rank=0)
    write(folder, "bb", "ccc", rank=1)
    table = folder.read("stage", SCHEMA, ["a", "bb", "ccc"])
    assert sorted(table.to_pylist(), key=str) == sorted(
        [{"unit": "a", "value": 1}, {"unit": "bb", "value": 2}, {"unit": "ccc", "value": 3}], key=str
    )


def test_rows_of_units_that_are_not_asked_for_are_left_out(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    write(folder, "stale", "a")
    assert folder.read("stage", SCHEMA, ["a", "new"]).column("unit").to_pylist() == ["a"]


def test_what_was_appended_survives_an_exception(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    with contextlib.suppress(KeyboardInterrupt), JournalWriter(folder, "stage", SCHEMA, 0) as journal:
        journal.append(Sample("a", [{"value": 1}]))
        raise KeyboardInterrupt
    assert folder.read("stage", SCHEMA, ["a"]).num_rows == 1


def test_merging_replaces_the_parts_by_one_file(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    write(folder, "a")
    write(folder, "bb")
    folder.merge("stage", folder.read("stage", SCHEMA, ["a", "bb"]))
    assert folder.parts("stage") == [tmp_path / "samples" / "stage.parquet"]
    assert folder.read("stage", SCHEMA, ["a", "bb"]).num_rows == 2


def test_half_a_part_that_a_kill_left_is_no_part(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    write(folder, "a")
    (part,) = folder.parts("stage")
    part.with_name(f".tmp-{part.name}").write_bytes(part.read_bytes()[:40])
    assert folder.parts("stage") == [part]


def test_a_damaged_part_is_named(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    write(folder, "a")
    (part,) = folder.parts("stage")
    part.write_bytes(part.read_bytes()[:40])
    with pytest.raises(BlipbenchError, match=f"{part.name}.*delete this file and run the task again with --resume"):
        folder.read("stage", SCHEMA, ["a"])


def test_a_full_disk_is_said_and_leaves_earlier_parts_whole(tmp_path: Path) -> None:
    """A process that may write no file over 64 KiB meets its limit as it would meet a full disk."""
    script = """
import sys
from pathlib import Path
import sys; sys.path.insert(0, sys.argv[2])
from test_journal import SCHEMA, RunFolder, write
from blipbench.errors import BlipbenchError
folder = RunFolder(Path(sys.argv[1]))
write(folder, "small")
try:
    write(folder, *(f"unit {i} {i * 7919 % 104729}" for i in range(40000)))
except BlipbenchError as error:
    print(error)
    raise SystemExit(error.exit_code)
"""

    def limit_file_size() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))

    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path), str(Path(__file__).parent)],
        capture_output=True,
        text=True,
        preexec_fn=limit_file_size,
    )
    assert done.returncode == 1, done.stderr
    assert "no space is left" in done.stdout and "--resume" in done.stdout and str(tmp_path) in done.stdout
    assert RunFolder(tmp_path).read("stage", SCHEMA, ["small"]).num_rows == 1
    assert not list(tmp_path.rglob(".tmp-*"))


def test_the_schema_names_the_unit_first() -> None:
    assert full_schema(SCHEMA).names == ["unit", "value"]
