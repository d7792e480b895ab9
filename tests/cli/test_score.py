"""`blipbench score` and `table` where the files of a run are damaged: the file is named, and nothing is made up."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from command_line import blipbench, golden_arguments, says

RUN = Path("retrieval_golden", "tiny_retrieval")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("finished")
    says(blipbench(*golden_arguments(runs, limit=4)), 0)
    return runs


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    """A finished run to damage."""
    return Path(shutil.copytree(finished, tmp_path / "runs")) / RUN


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


def overwrite(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[60:80] = bytes(20)
    file.write_bytes(content)


def take_anothers(file: Path) -> None:
    shutil.copy(file.with_name("embed.parquet"), file)


def drop_a_row(file: Path) -> None:
    pq.write_table(pq.read_table(file)[1:], file)


@pytest.mark.parametrize(
    "damage, message",
    [
        (cut, "is damaged"),
        (overwrite, "is damaged"),
        (Path.unlink, "is missing; run the task again with --resume"),
        (take_anothers, "is damaged (its columns are "),
    ],
)
def test_damaged_samples_are_named_and_the_result_stays(
    folder: Path, damage: Callable[[Path], object], message: str
) -> None:
    samples, result = folder / "samples" / "rerank.parquet", (folder / "result.json").read_bytes()
    damage(samples)
    says(blipbench("score", folder), 1, f"{samples} {message}")
    assert (folder / "result.json").read_bytes() == result


def test_samples_that_lack_a_unit_are_not_scored(folder: Path) -> None:
    drop_a_row(folder / "samples" / "rerank.parquet")
    says(blipbench("score", folder), 1, f"{folder / 'samples'} has samples of 8 units, but result.json says 9")


def test_a_result_with_an_unknown_stage_is_named(folder: Path) -> None:
    file = folder / "result.json"
    result = json.loads(file.read_text())
    result["timing"]["stages"][0]["name"] = "guess"
    file.write_text(json.dumps(result))
    says(blipbench("score", folder), 1, f"{file}: timing.stages", "'guess'", "known: embed, rerank")


def test_a_damaged_result_is_named(folder: Path) -> None:
    cut(file := folder / "result.json")
    says(blipbench("score", folder), 1, f"{file} is not a blipbench result")


@pytest.fixture
def one_damaged_of_two(folder: Path) -> Path:
    other = folder.parent / "other"
    shutil.copytree(folder, other)
    cut(other / "result.json")
    return folder.parents[1]


def test_a_damaged_run_is_named_and_the_others_are_tabulated(one_damaged_of_two: Path) -> None:
    done = blipbench("table", one_damaged_of_two)
    says(done, 1, f"error: {one_damaged_of_two / 'retrieval_golden' / 'other' / 'result.json'} is not a blipbench")
    assert "tiny_retrieval" in done.stdout and "error" not in done.stdout


def test_a_damaged_run_is_an_error_in_json(one_damaged_of_two: Path) -> None:
    done = blipbench("table", one_damaged_of_two, "--json")
    assert done.exit_code == 1
    *good, bad = json.loads(done.stdout)
    assert {record["model"] for record in good} == {"tiny_retrieval"}
    assert bad["file"].endswith("other/result.json") and "not a blipbench result" in bad["error"]


def test_a_plot_that_cannot_be_written_is_named_and_the_table_is_printed(folder: Path) -> None:
    done = blipbench("table", folder, "--plot", "/proc/nowhere/plot.png")
    says(done, 1, "error: /proc/nowhere/plot.png could not be written", "Choose another --plot")
    assert "tiny_retrieval" in done.stdout and "--resume" not in done.stderr


def test_a_plot_makes_its_folder(folder: Path, tmp_path: Path) -> None:
    says(blipbench("table", folder, "--plot", tmp_path / "new" / "plot.png"), 0)
    assert (tmp_path / "new" / "plot.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("columns", ["40", "60"])
def test_a_narrow_terminal_loses_no_name(folder: Path, monkeypatch: pytest.MonkeyPatch, columns: str) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    printed = blipbench("table", folder).stdout
    assert "…" not in printed
    assert all(len(line) <= int(columns) for line in printed.splitlines())
