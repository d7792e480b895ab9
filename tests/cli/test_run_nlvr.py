"""`blipbench run` of NLVR2 as a user meets it: the golden figure, and what is said when something is wrong."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from command_line import blipbench, edit, golden_arguments, result_of, says
from goldens import GOLDEN, Golden


@pytest.fixture
def data(golden: Golden, tmp_path: Path) -> Path:
    shutil.copytree(golden.data, tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
def run(data: Path, tmp_path: Path) -> Callable[..., Result]:
    def with_changes(*flags: str, **changes: object) -> Result:
        sizes = {"ckpt": GOLDEN / "tiny_nlvr.pth", "model": GOLDEN / "tiny_nlvr.yaml", "data": data}
        changes = {**sizes, "on_error": "continue", **changes}
        return blipbench(*golden_arguments(tmp_path / "runs", "nlvr_golden", **changes), *flags)

    return with_changes


def result(tmp_path: Path) -> dict[str, Any]:
    return result_of(tmp_path / "runs", "nlvr_golden", "tiny_nlvr")


def test_the_golden_accuracy_comes_out_of_the_command_line(
    golden: Golden, run: Callable[..., Result], tmp_path: Path
) -> None:
    says(run(), 0, "test_p_acc", "33.33", "6 image pairs, 6 sentences")
    accuracy = result(tmp_path)["metrics"]["test_p_acc"]["value"]
    assert f"{accuracy / 100:.4f}" == golden.json("protocols")["nlvr"]["acc"]
    assert result(tmp_path)["self_check"]["deviation"] < 1e-5


def test_score_needs_neither_model_nor_data(run: Callable[..., Result], data: Path, tmp_path: Path) -> None:
    run()
    before = result(tmp_path)
    shutil.rmtree(data)
    says(blipbench("score", tmp_path / "runs" / "nlvr_golden" / "tiny_nlvr"), 0, "33.33")
    assert result(tmp_path) == before


def test_a_record_with_one_image(run: Callable[..., Result], data: Path) -> None:
    edit(data / "nlvr_test.json", lambda records: records[1]["images"].pop())
    says(run(), 1, "nlvr_test.json: record 2: 'images' holds 1 file names", "two images")


def test_a_label_that_is_neither_true_nor_false(run: Callable[..., Result], data: Path) -> None:
    edit(data / "nlvr_test.json", lambda records: records[0].update(label="Perhaps"))
    says(run(), 1, "record 1: 'label' is 'Perhaps'", '"True" or "False"')


def test_a_split_without_an_annotation(run: Callable[..., Result]) -> None:
    says(run(split="val"), 2, "--split val: nlvr_golden has the splits test")


def test_a_setting_of_another_protocol(run: Callable[..., Result]) -> None:
    says(run(k_test=5), 2, "--k-test: nlvr_golden (nlvr) has no such setting")


def test_limit_counts_image_pairs(run: Callable[..., Result], tmp_path: Path) -> None:
    says(run(limit=2), 0, "limited to 2 of 6")
    assert result(tmp_path)["data"]["counts"] == {"image pairs": 2, "sentences": 2, "images": 4}
