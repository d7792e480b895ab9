"""First weights: what fits is taken, what does not is refused with its keys."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from goldens import GOLDEN
from objective_goldens import tiny_config, tiny_tokenizer
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from training_runs import spec

from blipbench.errors import CheckpointError
from blipbench.models.checkpoint import load_checkpoint
from blipbench.models.conversion import save_checkpoint
from blipbench.training.build import build_objective
from blipbench.training.warmstart import Start, warm_start


def started(tmp_path: Path, kind: str, start: Start, **sizes: int) -> tuple[nn.Module, nn.Module]:
    """The objective before and after."""
    run, config = spec(tmp_path / "config", kind), tiny_config()
    vision = config.vision.model_copy(update=sizes)
    config = config.model_copy(update={"vision": vision})
    torch.manual_seed(0)
    before = build_objective(run, config, tiny_tokenizer())
    torch.manual_seed(0)
    after = build_objective(run, config, tiny_tokenizer())
    warm_start(run, after, config, start, speak=False)
    return before, after


def changed(before: nn.Module, after: nn.Module) -> set[str]:
    old = before.state_dict()
    return {name for name, tensor in after.state_dict().items() if not torch.equal(tensor, old[name])}


def golden(kind: str) -> str:
    return str(GOLDEN / f"tiny_{kind}.pth")


@pytest.mark.parametrize("kind", ["retrieval", "caption", "vqa", "pretrain"])
def test_finetuning_starts_from_the_pretrained_weights_and_so_do_momentum_copies(tmp_path: Path, kind: str) -> None:
    _, after = started(tmp_path, kind, Start(init=golden("pretrain")))
    given, state = load_checkpoint(golden("pretrain"), config=tiny_config()).state_dict, after.state_dict()
    trained = [name for name in state if name in given and not name.endswith(("temp", "pos_embed"))]
    random = [name for name in trained if not torch.equal(state[name], given[name])]
    assert trained and all(kind == "vqa" and "crossattention.self" in name for name in random)
    for name in [name for name in state if name.split(".")[0].endswith("_m")]:
        assert torch.equal(state[name], state[name.replace("_m.", ".", 1)])


def test_nlvr_starts_both_cross_attentions_from_the_one(tmp_path: Path) -> None:
    before, after = started(tmp_path, "nlvr", Start(init=golden("pretrain")))
    state = after.state_dict()
    query = "text_encoder.encoder.layer.0.crossattention.self{}.query.weight"
    assert torch.equal(state[query.format(0)], state[query.format(1)])
    random = {name for name in state if name not in changed(before, after)}
    assert {name for name in random if name.startswith("cls_head")}
    assert not {name for name in random if name.startswith("visual_encoder.blocks")}


def test_pretraining_goes_on_from_a_captioner_whose_decoder_becomes_the_encoder_too(tmp_path: Path) -> None:
    before, after = started(tmp_path, "pretrain", Start(init=golden("caption")))
    given, state = load_checkpoint(golden("caption"), config=tiny_config()).state_dict, after.state_dict()
    for name in [name for name in given if name.startswith("text_decoder.bert.")]:
        assert torch.equal(state[name], given[name])
        assert torch.equal(state[name.replace("text_decoder.bert.", "text_encoder.")], given[name])
    random = {name.split(".")[0] for name in state if name not in changed(before, after)}
    assert {"vision_proj", "text_proj", "itm_head"} <= random


def test_questions_are_learnt_from_a_captioner_whose_decoder_becomes_the_encoder_too(tmp_path: Path) -> None:
    before, after = started(tmp_path, "vqa", Start(init=golden("caption")))
    given, state = load_checkpoint(golden("caption"), config=tiny_config()).state_dict, after.state_dict()
    for name in [name for name in given if name.startswith("text_decoder.bert.")]:
        assert torch.equal(state[name.replace("text_decoder.bert.", "text_encoder.")], given[name])
    random = {name for name in state if name not in changed(before, after)}
    reads_text_now = {name for name in state if ".crossattention.self." in name and name.startswith("text_decoder.")}
    assert {name for name in random if name.endswith("weight")} <= reads_text_now


def test_positions_of_another_image_size_are_resized(tmp_path: Path) -> None:
    _, after = started(tmp_path, "caption", Start(init=golden("pretrain")), image_size=64)
    assert after.state_dict()["visual_encoder.pos_embed"].shape[1] == (64 // tiny_config().vision.patch_size) ** 2 + 1


@pytest.mark.parametrize(
    ("kind", "init", "message"),
    [
        (
            "retrieval",
            "caption",
            r"a caption checkpoint that does not fit tiny \(retrieval\).*text_encoder.*\(missing\)",
        ),
        ("caption", "retrieval", r"text_decoder.*\(missing\)"),
        ("pretrain", "itm", r"text_decoder.*\(missing\)"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused_with_its_keys(
    tmp_path: Path, kind: str, init: str, message: str
) -> None:
    with pytest.raises(CheckpointError, match=message):
        started(tmp_path, kind, Start(init=golden(init)))


def test_another_size_is_refused_with_both_shapes(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"proj.weight \(\[24, 3, 16, 16\] instead of \[24, 3, 8, 8\]\)"):
        started(tmp_path, "caption", Start(init=golden("pretrain")), patch_size=8)


def test_another_number_of_heads_is_refused_where_the_file_states_it(tmp_path: Path) -> None:
    state = load_checkpoint(golden("pretrain"), config=tiny_config()).state_dict
    save_checkpoint(state, tiny_config(), tmp_path / "stated.safetensors")
    heads = tiny_config().vision.num_heads
    with pytest.raises(CheckpointError, match=rf"vision.num_heads is {heads} .*, but 1 in this model"):
        started(tmp_path, "caption", Start(init=str(tmp_path / "stated.safetensors")), num_heads=1)


def bert_folder(folder: Path, **changes: Any) -> Path:
    """transformers' BERT of the tiny size, without BLIP's two tokens."""
    text = tiny_config().text
    sizes = {
        "vocab_size": text.vocab_size - 2,
        "hidden_size": text.width,
        "num_hidden_layers": text.depth,
        "num_attention_heads": text.num_heads,
        "intermediate_size": text.intermediate_size,
        "max_position_embeddings": text.max_positions,
        **changes,
    }
    transformers.BertForMaskedLM(transformers.BertConfig(**sizes)).save_pretrained(folder)
    return folder


def test_pretraining_starts_from_bert_and_a_vit(tmp_path: Path) -> None:
    bert = bert_folder(tmp_path / "bert")
    vision = tiny_config().vision
    vit = VisionTransformer(
        img_size=2 * vision.image_size,
        patch_size=vision.patch_size,
        embed_dim=vision.width,
        depth=vision.depth,
        num_heads=vision.num_heads,
    )
    torch.save({"model": vit.state_dict()}, tmp_path / "vit.pth")
    _, after = started(tmp_path, "pretrain", Start(bert=bert, vit=tmp_path / "vit.pth"))
    state, source = after.state_dict(), transformers.BertForMaskedLM.from_pretrained(bert).state_dict()

    words = source["bert.embeddings.word_embeddings.weight"]
    for part in ("text_encoder", "text_decoder.bert", "text_encoder_m"):
        assert torch.equal(state[f"{part}.embeddings.word_embeddings.weight"][: len(words)], words)
        name = "encoder.layer.1.attention.self.query.weight"
        assert torch.equal(state[f"{part}.{name}"], source[f"bert.{name}"])
    head = "cls.predictions.transform.dense.weight"
    assert torch.equal(state[f"text_decoder.{head}"], source[head])
    block = "blocks.0.attn.qkv.weight"
    assert torch.equal(state[f"visual_encoder.{block}"], vit.state_dict()[block])


def test_the_image_encoder_of_a_blip_checkpoint_may_be_taken_alone(tmp_path: Path) -> None:
    before, after = started(tmp_path, "pretrain", Start(vit=Path(golden("caption"))))
    given = load_checkpoint(golden("caption"), config=tiny_config()).state_dict
    taken = changed(before, after)
    assert {name.split(".")[0] for name in taken} == {"visual_encoder", "visual_encoder_m"}
    assert all(torch.equal(after.state_dict()[name], given[name]) for name in taken if "_m." not in name)


def test_a_bert_of_another_size_and_a_vit_that_is_none_are_refused(tmp_path: Path) -> None:
    width = tiny_config().text.width
    bert = bert_folder(tmp_path / "bert", hidden_size=2 * width)
    with pytest.raises(CheckpointError, match=rf"--bert .*word_embeddings.weight is \[\d+, {2 * width}\]"):
        started(tmp_path, "pretrain", Start(bert=bert))
    torch.save({"model": {"weight": torch.zeros(2)}}, tmp_path / "none.pth")
    with pytest.raises(CheckpointError, match=r"--vit .*does not fit: visual_encoder.cls_token \(missing\)"):
        started(tmp_path, "pretrain", Start(vit=tmp_path / "none.pth"))
    with pytest.raises(CheckpointError, match="not a transformers folder"):
        started(tmp_path, "pretrain", Start(bert=tmp_path))
