"""Conversion between layouts: what is kept is kept bit for bit, and nothing half written is left."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from safetensors import safe_open

from blipbench.errors import CheckpointError, UsageError
from blipbench.models import conversion
from blipbench.models.checkpoint import identity, load_checkpoint
from blipbench.models.checkpoint_files import Layout, read_tensors
from blipbench.models.config import ModelConfig
from blipbench.models.conversion import convert_checkpoint

GOLDEN = Path(__file__).parents[1] / "golden"
TINY = ModelConfig.model_validate(yaml.safe_load((GOLDEN / "tiny.yaml").read_text()))


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return set(a) == set(b) and all(a[name].dtype == b[name].dtype and torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("name", ["tiny_retrieval.pth", "tiny_pretrain.pth", "tiny_caption.pth", "tiny_vqa.pth"])
def test_official_and_safetensors_hold_the_same_momentum_and_queues_included(tmp_path: Path, name: str) -> None:
    convert_checkpoint(str(GOLDEN / name), tmp_path / "a.safetensors", "safetensors", config=TINY)
    convert_checkpoint(str(tmp_path / "a.safetensors"), tmp_path / "b.pth", "official")
    original = read_tensors(GOLDEN / name).tensors
    assert same(original, read_tensors(tmp_path / "a.safetensors").tensors)
    assert same(original, torch.load(tmp_path / "b.pth", weights_only=True)["model"])


def test_tensors_that_were_one_are_one_again(tmp_path: Path) -> None:
    convert_checkpoint(str(GOLDEN / "tiny_pretrain.pth"), tmp_path / "a.safetensors", "safetensors", config=TINY)
    convert_checkpoint(str(tmp_path / "a.safetensors"), tmp_path / "b.pth", "official")
    tensors = torch.load(tmp_path / "b.pth", weights_only=True)["model"]
    encoder = tensors["text_encoder.embeddings.word_embeddings.weight"]
    decoder = tensors["text_decoder.bert.embeddings.word_embeddings.weight"]
    assert identity(encoder) == identity(decoder)
    assert (tmp_path / "b.pth").stat().st_size < 1.05 * (GOLDEN / "tiny_pretrain.pth").stat().st_size


def test_a_safetensors_file_knows_its_head_counts(tmp_path: Path) -> None:
    convert_checkpoint(str(GOLDEN / "tiny_itm.pth"), tmp_path / "a.safetensors", "safetensors", config=TINY)
    with safe_open(tmp_path / "a.safetensors", framework="pt") as file:
        assert json.loads(file.metadata()["blipbench.model"])["vision"]["num_heads"] == 3
    assert load_checkpoint(str(tmp_path / "a.safetensors")).config == TINY


@pytest.mark.parametrize("layout", ["official", "safetensors"])
def test_a_transformers_folder_goes_back(tmp_path: Path, layout: Layout) -> None:
    convert_checkpoint(str(GOLDEN / "tiny_itm.pth"), tmp_path / "folder", "transformers", config=TINY)
    suffix = {"official": "pth", "safetensors": "safetensors"}[layout]
    convert_checkpoint(str(tmp_path / "folder"), tmp_path / f"back.{suffix}", layout)
    original = read_tensors(GOLDEN / "tiny_itm.pth").tensors
    del original["text_encoder.embeddings.position_ids"]
    assert same(original, read_tensors(tmp_path / f"back.{suffix}").tensors)


def test_what_is_left_out_is_said(tmp_path: Path) -> None:
    conversion = convert_checkpoint(str(GOLDEN / "tiny_retrieval.pth"), tmp_path / "out", "transformers", config=TINY)
    assert conversion.lines()[0] == f"{tmp_path / 'out'}: 118 tensors in the transformers layout"
    assert "  left out: image_queue" in conversion.lines()
    assert len(conversion.left_out) + conversion.num_tensors == 241


def test_training_state_beside_the_model_is_said_to_be_left_out(tmp_path: Path) -> None:
    shutil.copy(GOLDEN / "vocab.txt", tmp_path)
    model = torch.load(GOLDEN / "tiny_itm.pth", weights_only=True)["model"]
    torch.save({"model": model, "optimizer": {"lr": 1e-5}, "epoch": 5}, tmp_path / "trained.pth")
    conversion = convert_checkpoint(str(tmp_path / "trained.pth"), tmp_path / "out.pth", "official")
    assert conversion.left_out == ("optimizer (not a tensor of the model)", "epoch (not a tensor of the model)")


def test_a_safetensors_file_can_be_read_by_whoever_can_read_other_new_files(tmp_path: Path) -> None:
    convert_checkpoint(str(GOLDEN / "tiny_itm.pth"), tmp_path / "a.safetensors", "safetensors", config=TINY)
    (tmp_path / "other").touch()
    assert (tmp_path / "a.safetensors").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_a_vocabulary_of_the_checkpoints_own_goes_along(tmp_path: Path) -> None:
    for layout, out in (("official", "a/x.pth"), ("transformers", "b/folder")):
        convert_checkpoint(str(GOLDEN / "tiny_itm.pth"), tmp_path / out, layout, config=TINY)  # type: ignore[arg-type]
    expected = (GOLDEN / "vocab.txt").read_bytes()
    assert (tmp_path / "a" / "vocab.txt").read_bytes() == expected
    assert (tmp_path / "b" / "folder" / "vocab.txt").read_bytes() == expected


def test_a_file_can_be_converted_onto_itself(tmp_path: Path) -> None:
    shutil.copy(GOLDEN / "vocab.txt", tmp_path)
    path = Path(shutil.copy(GOLDEN / "tiny_itm.pth", tmp_path))
    convert_checkpoint(str(path), path, "official")
    assert same(read_tensors(path).tensors, read_tensors(GOLDEN / "tiny_itm.pth").tensors)


def test_a_folder_that_is_not_empty_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("keep")
    with pytest.raises(UsageError, match="out: is there already"):
        convert_checkpoint(str(GOLDEN / "tiny_itm.pth"), tmp_path / "out", "transformers", config=TINY)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(tensors: object, path: Path, metadata: object) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(conversion, "save_file", no_room)
    (tmp_path / "a.safetensors").write_bytes(b"old")
    with pytest.raises(CheckpointError, match=r"a.safetensors: cannot be written \(No space left on device\)"):
        convert_checkpoint(str(GOLDEN / "tiny_itm.pth"), tmp_path / "a.safetensors", "safetensors", config=TINY)
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]
    assert (tmp_path / "a.safetensors").read_bytes() == b"old"
