"""An objective's state dict is an official checkpoint: its names and shapes, what is tied, and `blipbench run`."""

from pathlib import Path

import pytest
import torch
from command_line import blipbench, golden_arguments, result_of
from goldens import GOLDEN
from objective_goldens import QUEUE_SIZE, official_state, started_from, tiny_config, tiny_tokenizer
from torch import nn

from blipbench.models.checkpoint import identity, load_checkpoint
from blipbench.models.conversion import save_checkpoint
from blipbench.training.build import regularised
from blipbench.training.contrastive import ContrastiveSettings
from blipbench.training.objectives import (
    CaptionObjective,
    NlvrObjective,
    PretrainObjective,
    RetrievalObjective,
    VqaObjective,
)

TOKENS = tiny_tokenizer()
KINDS = ("pretrain", "retrieval", "caption", "vqa", "nlvr")


def fresh(kind: str) -> nn.Module:
    """As constructed, with every rate on: dropout leaves no trace in a state."""
    enc_id, dec_id = TOKENS.enc_id, TOKENS.dec_id
    config = regularised(tiny_config("tiny_nlvr" if kind == "nlvr" else "tiny"), dropout=0.1, drop_path=0.1)
    match kind:
        case "pretrain":
            return PretrainObjective(config, ContrastiveSettings(enc_id, QUEUE_SIZE), dec_id=dec_id)
        case "retrieval":
            return RetrievalObjective(config, ContrastiveSettings(enc_id, QUEUE_SIZE))
        case "caption":
            return CaptionObjective(config, dec_id=dec_id, prompt_length=4)
        case "vqa":
            return VqaObjective(config, enc_id=enc_id, dec_id=dec_id)
        case _:
            return NlvrObjective(config, enc_id=enc_id)


@pytest.mark.parametrize("kind", KINDS)
def test_names_shapes_and_types_are_the_official_ones(kind: str) -> None:
    state, official = fresh(kind).state_dict(), official_state(kind)
    assert state.keys() == official.keys()
    for name, tensor in official.items():
        assert (state[name].shape, state[name].dtype) == (tensor.shape, tensor.dtype), name


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_names_share_a_weight(kind: str) -> None:
    def tied(state: dict[str, torch.Tensor]) -> set[frozenset[str]]:
        names: dict[tuple[object, ...], set[str]] = {}
        for name, tensor in state.items():
            if tensor.is_floating_point():
                names.setdefault(identity(tensor), set()).add(name)
        return {frozenset(group) for group in names.values() if len(group) > 1}

    assert tied(fresh(kind).state_dict()) == tied(official_state(kind))


@pytest.mark.parametrize("kind", KINDS)
def test_fresh_weights_are_berts_and_every_tensor_is_finite(kind: str) -> None:
    state = fresh(kind).state_dict()
    text = "text_decoder.bert" if kind == "caption" else "text_encoder"
    words = state[f"{text}.embeddings.word_embeddings.weight"]
    berts = 0.02 * (768 / words.shape[1]) ** 0.5  # BERT's at its own width; narrower models start wider
    assert words.std() == pytest.approx(berts, rel=0.1)
    assert state[f"{text}.encoder.layer.0.intermediate.dense.weight"].std() == pytest.approx(berts, rel=0.15)
    assert not state[f"{text}.encoder.layer.0.intermediate.dense.bias"].any()
    assert all(tensor.isfinite().all() for tensor in state.values())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_file_saved_from_it_loads_like_the_official_one(tmp_path: Path, kind: str, suffix: str) -> None:
    objective = started_from(fresh(kind), kind)
    saved = tmp_path / f"ours{suffix}"
    save_checkpoint(objective.state_dict(), objective.config, saved)
    (tmp_path / "vocab.txt").write_bytes((GOLDEN / "vocab.txt").read_bytes())
    ours, official = (
        load_checkpoint(str(path), config=objective.config) for path in (saved, GOLDEN / f"tiny_{kind}.pth")
    )
    assert (ours.kind, ours.heads, ours.num_parameters) == (official.kind, official.heads, official.num_parameters)
    assert ours.num_ignored == official.num_ignored
    assert ours.state_dict.keys() == official.state_dict.keys()
    assert all(torch.equal(ours.state_dict[name], tensor) for name, tensor in official.state_dict.items())


def test_blipbench_runs_a_file_saved_from_it(tmp_path: Path) -> None:
    objective = started_from(fresh("pretrain"), "pretrain")
    save_checkpoint(objective.state_dict(), objective.config, tmp_path / "ours.safetensors")
    (tmp_path / "vocab.txt").write_bytes((GOLDEN / "vocab.txt").read_bytes())
    for checkpoint in (tmp_path / "ours.safetensors", GOLDEN / "tiny_pretrain.pth"):
        run = blipbench(*golden_arguments(tmp_path / "runs", ckpt=checkpoint))
        assert run.exit_code == 0, run.output
    ours, official = (result_of(tmp_path / "runs", model=model) for model in ("ours", "tiny_pretrain"))
    assert ours["metrics"] == official["metrics"]
