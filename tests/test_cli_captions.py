"""`blipbench run` of captioning tasks: the reference's captions, word for word, and their metrics."""

import json
from pathlib import Path

import pytest
from command_line import blipbench, golden_arguments, result_of
from goldens import Golden


@pytest.mark.parametrize(
    ("task", "case"), [("caption_golden", "caption_coco_settings"), ("nocaps_golden", "caption_nocaps")]
)
def test_the_golden_captions_come_out_of_the_command_line(golden: Golden, tmp_path: Path, task: str, case: str) -> None:
    done = blipbench(*golden_arguments(tmp_path, task, ckpt=golden.root / "tiny_caption.pth"))
    assert done.exit_code == 0, done.output
    written = json.loads((tmp_path / task / "tiny_caption" / "captions.json").read_text())
    expected = golden.json("protocols")[case]
    assert [row["caption"] for row in written] == [row["caption"] for row in expected]
    if task == "nocaps_golden":
        assert written == expected


def test_captions_are_scored_where_there_are_references(golden: Golden, tmp_path: Path) -> None:
    done = blipbench(*golden_arguments(tmp_path, "caption_golden", ckpt=golden.root / "tiny_caption.pth"))
    assert done.exit_code == 0, done.output
    result = result_of(tmp_path, "caption_golden", "tiny_caption")
    cider = result["metrics"]["CIDEr"]
    assert cider["low"] < cider["value"] < cider["high"]
    assert {"Bleu_1", "Bleu_4", "METEOR", "ROUGE_L"} <= result["metrics"].keys()
    assert any("SPICE" in note for note in result["notes"]) or "SPICE" in result["metrics"]
    assert result["self_check"]["deviation"] < 1e-5
    rescored = blipbench("score", tmp_path / "caption_golden" / "tiny_caption")
    assert rescored.exit_code == 0, rescored.output
    assert result_of(tmp_path, "caption_golden", "tiny_caption")["metrics"] == result["metrics"]


def test_without_references_the_captions_are_still_written(golden: Golden, tmp_path: Path) -> None:
    done = blipbench(*golden_arguments(tmp_path, "nocaps_golden", ckpt=golden.root / "tiny_caption.pth"))
    assert done.exit_code == 0, done.output
    result = result_of(tmp_path, "nocaps_golden", "tiny_caption")
    assert result["metrics"] == {}
    assert any("captions.json" in note for note in result["notes"])


def test_a_checkpoint_without_a_decoder_is_refused(golden: Golden, tmp_path: Path) -> None:
    done = blipbench(*golden_arguments(tmp_path, "caption_golden", ckpt=golden.root / "tiny_retrieval.pth"))
    assert done.exit_code == 2
    assert "text_decoder" in done.output
