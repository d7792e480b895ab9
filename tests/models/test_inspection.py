"""What `ckpt inspect` says."""

import hashlib
import shutil
from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file
from tiny_clip import make_dual_encoder

from blipbench.errors import UsageError
from blipbench.models.config import ModelConfig
from blipbench.models.inspection import CheckpointSummary, inspect_checkpoint

GOLDEN = Path(__file__).parents[1] / "golden"
TINY = ModelConfig.model_validate(yaml.safe_load((GOLDEN / "tiny.yaml").read_text()))


def test_a_summary_tells_kind_sizes_heads_parameters_and_hash() -> None:
    path = GOLDEN / "tiny_retrieval.pth"
    lines = inspect_checkpoint(str(path), config=TINY).lines()
    assert lines[0] == str(path)
    facts = {line[:26].strip(): line[26:] for line in lines[1:]}
    assert facts["kind"] == "retrieval (visual_encoder, text_encoder, vision_proj, text_proj, itm_head)"
    assert facts["vision"] == "ViT 24 wide, 2 deep, patch size 16, 3 heads"
    assert facts["image size"] == "48 px"
    assert facts["text"] == "32 wide, 3 deep, 4 heads, 248 tokens"
    assert facts["not evaluated"] == "4 queues, 1 position ids, 117 momentum copies"
    assert facts["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert facts["layout"] == "official"


def test_head_counts_that_nothing_tells_are_an_open_question_not_an_error() -> None:
    summary = inspect_checkpoint(str(GOLDEN / "tiny_itm.pth"))
    assert isinstance(summary, CheckpointSummary) and summary.config is None
    assert any("pass --model FILE.yaml" in line for line in summary.lines())


def test_an_official_file_shows_its_published_rows_and_caveats(tmp_path: Path) -> None:
    path = shutil.copy(GOLDEN / "tiny_retrieval.pth", tmp_path / "model_base_retrieval_coco.pth")
    lines = inspect_checkpoint(str(path), config=TINY).lines()
    assert "  official file           model_base_retrieval_coco.pth: retrieval, finetuned on COCO, ViT-B" in lines
    assert "  row of retrieval_coco   BLIP ViT-B, Karpathy test 5K, finetuned on COCO" in lines


def test_an_official_name_on_another_kind_of_file_is_pointed_out(tmp_path: Path) -> None:
    path = shutil.copy(GOLDEN / "tiny_vqa.pth", tmp_path / "model_base_retrieval_coco.pth")
    lines = inspect_checkpoint(str(path), config=TINY).lines()
    assert any("that one is of kind retrieval" in line for line in lines)


def test_a_configuration_of_another_model_is_refused() -> None:
    wrong = TINY.model_copy(update={"embed_dim": 64})
    with pytest.raises(UsageError, match="embed_dim is 32 in the file, but 64"):
        inspect_checkpoint(str(GOLDEN / "tiny_itm.pth"), config=wrong)


@pytest.mark.parametrize(
    "family, text, processor",
    [
        ("clip", "24 wide, 2 deep, 2 heads, 83 tokens, at most 20 a text", "CLIPImageProcessor"),
        ("siglip", "32 wide, 2 deep, 2 heads, 14 tokens, at most 12 a text", "SiglipImageProcessor"),
    ],
)
def test_a_dual_encoder_tells_the_same_of_both_towers(tmp_path: Path, family: str, text: str, processor: str) -> None:
    folder = make_dual_encoder(family, tmp_path / family)
    summary = inspect_checkpoint(str(folder))
    lines = summary.lines()
    facts = {line[:26].strip(): line[26:] for line in lines[1:]}
    assert lines[0] == str(folder)
    assert facts["kind"].startswith(f"{family}, a dual encoder")
    assert facts["vision"] == "32 wide, 2 deep, 4 heads, patch size 8"
    assert facts["image size"].startswith(f"32 px, by its own {processor}")
    assert facts["text"] == text
    assert facts["sha256"] == hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    weights = load_file(folder / "model.safetensors")
    assert summary.num_parameters == sum(tensor.numel() for tensor in weights.values())


def test_a_dual_encoder_takes_no_sizes_of_a_blip(tmp_path: Path) -> None:
    folder = make_dual_encoder("clip", tmp_path / "clip")
    with pytest.raises(UsageError, match="is a clip model and states its own sizes; leave --model out"):
        inspect_checkpoint(str(folder), config=TINY)
