"""What is written for pytest-benchmark has the figures that the tool itself would compute, and the tool compares it."""

import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from profiles import part_record, profile_of

from blipbench.profiling.pytest_benchmark import write_pytest_benchmark
from blipbench.profiling.record import Profile

SECONDS = [0.010, 0.011, 0.012, 0.013, 0.014, 0.012, 0.011, 0.090]


def written(path: Path, profile: Profile) -> dict[str, Any]:
    write_pytest_benchmark(profile, path)
    return json.loads(path.read_text())


def test_the_statistics_are_those_of_the_timings(tmp_path: Path) -> None:
    stats_of = pytest.importorskip("pytest_benchmark.stats").Stats()
    for value in SECONDS:
        stats_of.update(value)
    (found,) = written(tmp_path / "a.json", profile_of(part_record("vit", seconds=SECONDS)))["benchmarks"]
    assert set(found["stats"]) == {*stats_of.as_dict(), "data", "iterations"}
    for name in ("min", "max", "mean", "median", "stddev", "rounds", "ops", "total", "outliers", "ld15iqr", "hd15iqr"):
        assert found["stats"][name] == (
            stats_of.as_dict()[name] if name == "outliers" else pytest.approx(stats_of.as_dict()[name])
        )
    assert found["stats"]["data"] == SECONDS
    assert found["stats"]["q1"] < statistics.median(SECONDS) < found["stats"]["q3"]


def test_a_name_tells_the_whole_configuration(tmp_path: Path) -> None:
    part = part_record("itm", way="plain", precision="bf16", batch=4, attention="flash")
    (found,) = written(tmp_path / "a.json", profile_of(part))["benchmarks"]
    assert (found["group"], found["name"]) == ("itm", "itm[plain-bf16-4-flash]")
    assert found["fullname"] == "profile/made::itm[plain-bf16-4-flash]"
    assert found["params"] == {"way": "plain", "precision": "bf16", "batch": 4, "attention": "flash"}


def test_the_real_tool_finds_which_of_two_files_is_faster(tmp_path: Path) -> None:
    for name, seconds in (("0001_before", 0.020), ("0002_after", 0.010)):
        write_pytest_benchmark(profile_of(part_record("vit", seconds=[seconds] * 3)), tmp_path / f"{name}.json")
    tool = [str(Path(sys.executable).with_name("pytest-benchmark")), "compare", "--columns", "median,rounds"]
    files = ["0001_before.json", "0002_after.json"]
    done = subprocess.run([*tool, *files], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines() if line.startswith("vit[")]
    assert [(row[1][:5], *row[2:]) for row in rows] == [  # newer versions of the tool show more of the file's name
        ("(0002", "10.0000", "(1.0)", "3"),
        ("(0001", "20.0000", "(2.00)", "3"),
    ]
