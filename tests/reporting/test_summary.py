"""Several results in one table and one picture."""

import copy
import io
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from PIL import Image
from profiles import part_record, profile_of
from rich.console import Console
from sample_result import RECORD

from blipbench.cli.main import main
from blipbench.errors import UsageError
from blipbench.evaluation.result import Result, write_result
from blipbench.profiling.record import write_profile
from blipbench.reporting.summary import figures, find_results, plot_figures, print_figures


def result(**changes: Any) -> Result:
    return Result.model_validate(copy.deepcopy(RECORD) | changes)


def written(folder: Path, *results: Result) -> Path:
    for number, one in enumerate(results):
        write_result(folder / one.task.name / f"model_{number}" / "result.json", one)
    return folder


def printed(*results: Result) -> str:
    console = Console(file=io.StringIO(), width=100)
    print_figures(figures(results), console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_task_is_read_by_its_headline_metrics_with_interval_and_published_figure() -> None:
    lines = printed(result()).splitlines()
    assert any(all(part in line for part in ("retrieval_coco", "txt_r1", "81.94", "80.90 .. 83.00")) for line in lines)
    assert any("img_r1" in line and "retrieval_coco" not in line for line in lines)
    assert "r_mean" not in printed(result())
    assert any("txt_r1" in line and line.rstrip().endswith("81.9") for line in lines)


def test_a_changed_setting_is_named_and_not_held_against_the_published_figure() -> None:
    task = RECORD["task"] | {"settings": RECORD["task"]["settings"] | {"rerank": "none"}}
    assert {line.setting for line in figures([result(task=task)])} == {"rerank none instead of itm"}
    assert "published" in printed(result()) and "published" not in printed(result(task=task))


def test_a_task_that_nobody_knows_shows_its_main_metric() -> None:
    text = printed(result(task=RECORD["task"] | {"name": "somebodys_own"}))
    assert "somebodys_own" in text and "r_mean" in text and "txt_r1" not in text


def test_an_incomplete_result_is_pointed_out() -> None:
    assert "retrieval_coco is not complete" in printed(result(status="incomplete"))


def test_runs_are_found_below_a_folder(tmp_path: Path) -> None:
    folder = written(tmp_path, result(), result())
    assert len(find_results([folder])) == 2
    assert len(find_results([folder / "retrieval_coco" / "model_1"])) == 1


def test_a_folder_without_results_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"found no result\.json in this folder or below"):
        find_results([tmp_path])


def test_the_picture_is_a_png_with_a_bar_a_figure(tmp_path: Path) -> None:
    few, many = tmp_path / "few.png", tmp_path / "many.png"
    plot_figures(figures([result()]), few)
    plot_figures(figures([result()] * 10), many)
    assert Image.open(few).format == "PNG"
    assert Image.open(many).height > Image.open(few).height


def test_the_command_prints_the_table_and_draws_the_picture(tmp_path: Path) -> None:
    picture = tmp_path / "plots" / "all.png"
    done = CliRunner().invoke(main, ["table", str(written(tmp_path / "runs", result())), "--plot", str(picture)])
    assert done.exit_code == 0, done.output
    assert "81.94" in done.stdout and picture.exists()


def test_the_command_prints_json(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["table", str(written(tmp_path, result())), "--json"])
    first = json.loads(done.stdout)[0]
    assert (first["task"], first["metric"], first["value"], first["low"]) == ("retrieval_coco", "txt_r1", 81.94, 80.9)


def profiled(folder: Path) -> Path:
    parts = part_record("vit"), part_record("itm", precision="bf16", noun="pairs", items=64, seconds=[0.005] * 3)
    write_profile(folder / "quick" / "profile.json", profile_of(*parts, name="quick"))
    return folder


def test_profiles_stand_in_a_table_of_their_own_below_the_results(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["table", str(written(tmp_path, result())), str(profiled(tmp_path / "profile"))])
    assert done.exit_code == 0, done.output
    results, profiles = done.stdout.split("per second")
    assert "81.94" in results and "12,800 pairs" not in results
    assert "81.94" not in profiles
    line = next(line for line in profiles.splitlines() if "itm" in line)
    assert line.split()[-7:] == ["bf16", "1", "5", "ms", "12,800", "pairs", "50%"]
    assert profiles.count("vit") == 1  # though it is below both folders


def test_a_folder_with_only_profiles_is_shown(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["table", str(profiled(tmp_path)), "--plot", str(tmp_path / "x.png")])
    assert done.exit_code == 0, done.output
    assert "quick" in done.stdout and "task" not in done.stdout
    assert "x.png: not drawn" in done.stderr and not (tmp_path / "x.png").exists()


def test_an_empty_folder_beside_profiles_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = CliRunner().invoke(main, ["table", str(profiled(tmp_path / "profile")), str(tmp_path / "empty")])
    assert done.exit_code == 2
    assert "empty: found no result.json" in done.stderr


def test_profiles_are_in_the_json(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["table", str(profiled(written(tmp_path, result()))), "--json"])
    *_, last = json.loads(done.stdout)
    assert (last["profile"], last["part"], last["precision"], last["batch"]) == ("quick", "itm", "bf16", 1)
    assert (last["p50_seconds"], last["items_per_second"], last["share_of_peak"]) == (0.005, 12_800, 0.5)


def test_a_damaged_profile_is_reported_and_the_others_are_shown(tmp_path: Path) -> None:
    profiled(tmp_path)
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "profile.json").write_text("{")
    done = CliRunner().invoke(main, ["table", str(tmp_path)])
    assert done.exit_code == 1
    assert "itm" in done.stdout
    assert "damaged/profile.json is not a profile of schema 1" in done.stderr
