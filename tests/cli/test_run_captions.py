"""`blipbench run` of captioning tasks: the reference's captions, word for word, and their metrics."""

import json
from pathlib import Path
from typing import Any

import pytest
from command_line import blipbench, golden_arguments, result_of, says
from goldens import Golden


@pytest.fixture(scope="module")
def captioned(golden: Golden, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the golden run with COCO's settings lies; the Java tools that score it take seconds to start."""
    out = tmp_path_factory.mktemp("captioned")
    says(blipbench(*golden_arguments(out, "caption_golden", ckpt=golden.root / "tiny_caption.pth")), 0, "CIDEr")
    return out


@pytest.fixture
def nocaps(golden: Golden, tmp_path: Path) -> Path:
    says(blipbench(*golden_arguments(tmp_path, "nocaps_golden", ckpt=golden.root / "tiny_caption.pth")), 0)
    return tmp_path


def written(out: Path, task: str) -> Any:
    return json.loads((out / task / "tiny_caption" / "captions.json").read_text())


def test_the_golden_captions_come_out_of_the_command_line(golden: Golden, captioned: Path) -> None:
    expected = golden.json("protocols")["caption_coco_settings"]
    assert [row["caption"] for row in written(captioned, "caption_golden")] == [row["caption"] for row in expected]


def test_the_file_for_nocaps_server_is_the_reference_s(golden: Golden, nocaps: Path) -> None:
    assert written(nocaps, "nocaps_golden") == golden.json("protocols")["caption_nocaps"]


def test_captions_are_scored_where_there_are_references(captioned: Path) -> None:
    result = result_of(captioned, "caption_golden", "tiny_caption")
    cider = result["metrics"]["CIDEr"]
    assert cider["low"] < cider["value"] < cider["high"]
    assert {"Bleu_1", "Bleu_4", "METEOR", "ROUGE_L"} <= result["metrics"].keys()
    assert any("SPICE" in note for note in result["notes"]) or "SPICE" in result["metrics"]
    assert result["self_check"]["deviation"] < 1e-5


def test_score_computes_the_same_metrics_again(captioned: Path) -> None:
    before = result_of(captioned, "caption_golden", "tiny_caption")["metrics"]
    says(blipbench("score", captioned / "caption_golden" / "tiny_caption"), 0, "CIDEr")
    assert result_of(captioned, "caption_golden", "tiny_caption")["metrics"] == before


def test_without_references_the_captions_are_still_written(nocaps: Path) -> None:
    result = result_of(nocaps, "nocaps_golden", "tiny_caption")
    assert result["metrics"] == {}
    assert any("captions.json" in note for note in result["notes"])
