"""Loading: what a checkpoint is read to be, which weights reach a model, and how each bad file is refused."""

import dataclasses
import hashlib
import json
import pickle
import shutil
from pathlib import Path

import huggingface_hub
import pytest
import torch
import yaml
from make_checkpoint import make_checkpoint
from safetensors.torch import load_file, save_file
from torch import Tensor

from blipbench.errors import BlipbenchError, CheckpointError, UsageError
from blipbench.models.blip import BlipRetrieval
from blipbench.models.checkpoint import Checkpoint, load_checkpoint, load_weights, resize_position_embedding
from blipbench.models.config import ModelConfig, TextConfig, VisionConfig
from blipbench.models.random_weights import random_state_dict

GOLDEN = Path(__file__).parents[1] / "golden"
TINY = ModelConfig.model_validate(yaml.safe_load((GOLDEN / "tiny.yaml").read_text()))

# A model of 64-wide heads over the bundled vocabulary, so that a file needs nothing beside it.
SMALL = ModelConfig(
    name="small",
    vision=VisionConfig(width=128, depth=1, num_heads=2, image_size=32),
    text=TextConfig(width=64, depth=1, num_heads=1, intermediate_size=64, max_positions=16),
    embed_dim=8,
)


def load_tiny(name: str) -> Checkpoint:
    return load_checkpoint(str(GOLDEN / name), config=TINY)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return make_checkpoint(SMALL, tmp_path / "small.pth", seed=0)


@pytest.mark.parametrize(
    ("name", "kind", "heads"),
    [
        ("tiny_base.pth", "features", "visual_encoder text_encoder"),
        ("tiny_itm.pth", "itm", "visual_encoder text_encoder vision_proj text_proj itm_head"),
        ("tiny_retrieval.pth", "retrieval", "visual_encoder text_encoder vision_proj text_proj itm_head"),
        ("tiny_pretrain.pth", "pretrain", "visual_encoder text_encoder vision_proj text_proj itm_head text_decoder"),
        ("tiny_caption.pth", "caption", "visual_encoder text_decoder"),
        ("tiny_vqa.pth", "vqa", "visual_encoder text_encoder text_decoder"),
    ],
)
def test_kind_and_heads_are_read_off_the_tensors(name: str, kind: str, heads: str) -> None:
    checkpoint = load_tiny(name)
    assert (checkpoint.kind, " ".join(checkpoint.heads)) == (kind, heads)


def test_an_nlvr_checkpoint_is_one() -> None:
    config = TINY.model_copy(update={"text": TINY.text.model_copy(update={"depth": 8})})
    assert load_checkpoint(str(GOLDEN / "tiny_nlvr.pth"), config=config).kind == "nlvr"


def test_every_size_is_read_off_the_tensors(small: Path) -> None:
    config = load_checkpoint(str(small)).config
    assert config.model_copy(update={"name": "small"}) == SMALL


def test_weights_are_float32_under_official_names_without_what_no_evaluation_reads() -> None:
    checkpoint = load_tiny("tiny_retrieval.pth")
    stored = torch.load(GOLDEN / "tiny_retrieval.pth", weights_only=True)["model"]
    assert set(checkpoint.state_dict) < set(stored)
    assert not [name for name in checkpoint.state_dict if "_m." in name or "queue" in name or "position_ids" in name]
    assert {tensor.dtype for tensor in checkpoint.state_dict.values()} == {torch.float32}
    assert checkpoint.num_ignored == len(stored) - len(checkpoint.state_dict)


def test_parameters_are_counted_once_and_momentum_copies_not(tmp_path: Path) -> None:
    plain = make_checkpoint(SMALL, tmp_path / "plain.pth", seed=0)
    trained = make_checkpoint(SMALL, tmp_path / "trained.pth", seed=0, momentum=True)
    expected = sum(tensor.numel() for tensor in random_state_dict(SMALL, 0).values())
    assert load_checkpoint(str(plain)).num_parameters == expected
    assert load_checkpoint(str(trained)).num_parameters == expected


def test_tensors_that_the_decoder_shares_count_once() -> None:
    checkpoint = load_tiny("tiny_caption.pth")
    tied = checkpoint.state_dict["text_decoder.cls.predictions.decoder.weight"]
    names = sum(tensor.numel() for tensor in checkpoint.state_dict.values())
    assert checkpoint.num_parameters == names - tied.numel() - tied.shape[0]


def test_the_hash_is_the_files(small: Path) -> None:
    assert load_checkpoint(str(small)).sha256 == hashlib.sha256(small.read_bytes()).hexdigest()


def test_a_bare_state_dict_loads_like_one_under_model(small: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare.pth"
    torch.save(torch.load(small, weights_only=True)["model"], bare)
    ours, theirs = load_checkpoint(str(bare)).state_dict, load_checkpoint(str(small)).state_dict
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_half_precision_weights_load_as_float32(small: Path, tmp_path: Path) -> None:
    half = tmp_path / "half.pth"
    stored = torch.load(small, weights_only=True)["model"]
    torch.save({"model": {name: tensor.half() for name, tensor in stored.items()}}, half)
    assert load_checkpoint(str(half)).state_dict["vision_proj.weight"].dtype == torch.float32


def test_a_file_in_torchs_old_format_loads(small: Path, tmp_path: Path) -> None:
    old = tmp_path / "old.pth"
    torch.save(torch.load(small, weights_only=True), old, _use_new_zipfile_serialization=False)
    assert load_checkpoint(str(old)).kind == "retrieval"


def test_the_vocabulary_beside_a_checkpoint_is_found_when_its_size_fits(small: Path) -> None:
    assert load_tiny("tiny_retrieval.pth").vocab == GOLDEN / "vocab.txt"
    shutil.copy(GOLDEN / "vocab.txt", small.parent)
    assert load_checkpoint(str(small)).vocab is None


def test_a_checkpoint_whose_vocabulary_is_not_there_is_refused(tmp_path: Path) -> None:
    path = shutil.copy(GOLDEN / "tiny_itm.pth", tmp_path)
    with pytest.raises(CheckpointError, match=r"tiny_itm.pth: it has 248 token embeddings .* put the vocab.txt"):
        load_checkpoint(str(path), config=TINY)


# Head counts


def test_head_counts_come_from_a_known_model_of_the_same_shape() -> None:
    other = TINY.model_copy(update={"name": "other", "embed_dim": 16})
    config = load_checkpoint(str(GOLDEN / "tiny_itm.pth"), configs=[SMALL, other]).config
    assert (config.name, config.vision.num_heads, config.text.num_heads) == ("other", 3, 4)
    assert config.embed_dim == 32


def test_head_counts_that_nothing_tells_are_asked_for() -> None:
    with pytest.raises(
        CheckpointError, match=r"vision.num_heads cannot be read off .* 24 wide; pass --model FILE.yaml"
    ):
        load_checkpoint(str(GOLDEN / "tiny_itm.pth"))


def test_a_configuration_of_another_model_is_refused_by_field() -> None:
    wrong = TINY.model_copy(update={"text": TINY.text.model_copy(update={"intermediate_size": 128})})
    with pytest.raises(UsageError, match=r"text.intermediate_size is 64 in the file, but 128 in .* 'golden-tiny'"):
        load_checkpoint(str(GOLDEN / "tiny_itm.pth"), config=wrong)


def test_a_configuration_of_another_image_size_is_not() -> None:
    larger = TINY.model_copy(update={"vision": TINY.vision.model_copy(update={"image_size": 384})})
    assert load_checkpoint(str(GOLDEN / "tiny_itm.pth"), config=larger).config.vision.image_size == 48


def test_head_counts_must_divide_the_width() -> None:
    wrong = TINY.model_copy(update={"vision": TINY.vision.model_copy(update={"num_heads": 5})})
    with pytest.raises(CheckpointError, match=r"vision.num_heads: --model says 5, which does not divide the width 24"):
        load_checkpoint(str(GOLDEN / "tiny_itm.pth"), config=wrong)


# Weights into a model


@pytest.mark.parametrize("name", ["tiny_itm.pth", "tiny_retrieval.pth", "tiny_pretrain.pth"])
def test_a_retrieval_model_takes_its_weights_from_any_checkpoint_that_has_its_heads(name: str) -> None:
    model = BlipRetrieval(TINY)
    checkpoint = load_tiny(name)
    load_weights(model, checkpoint, "retrieval_coco")
    assert all(torch.equal(weight, checkpoint.state_dict[key]) for key, weight in model.state_dict().items())


def test_a_checkpoint_of_another_task_is_refused_with_the_files_that_fit() -> None:
    with pytest.raises(UsageError) as refusal:
        load_weights(BlipRetrieval(TINY), load_tiny("tiny_vqa.pth"), "retrieval_coco")
    message = str(refusal.value)
    assert "tiny_vqa.pth is a VQA checkpoint" in message
    assert "no vision_proj, no text_proj, no itm_head" in message
    assert "retrieval_coco needs visual_encoder, text_encoder, vision_proj, text_proj, itm_head" in message
    assert "that have them: model_base_retrieval_coco.pth, model_large_retrieval_coco.pth" in message


def test_a_task_of_ones_own_is_told_every_official_file_that_has_the_heads() -> None:
    with pytest.raises(UsageError, match=r"model_base_14M.pth, .*model_large_retrieval_flickr.pth"):
        load_weights(BlipRetrieval(TINY), load_tiny("tiny_caption.pth"), "retrieval_shapes")


def without(checkpoint: Checkpoint, *names: str) -> Checkpoint:
    kept = {name: tensor for name, tensor in checkpoint.state_dict.items() if name not in names}
    return dataclasses.replace(checkpoint, state_dict=kept)


def test_single_missing_tensors_are_listed_by_module() -> None:
    checkpoint = without(load_tiny("tiny_itm.pth"), "itm_head.bias", "visual_encoder.norm.weight")
    with pytest.raises(
        CheckpointError, match=r"2 tensors .* \(visual_encoder: .*norm.weight; itm_head: itm_head.bias\)"
    ):
        load_weights(BlipRetrieval(TINY), checkpoint, "retrieval_coco")


def test_unknown_tensors_are_refused() -> None:
    checkpoint = load_tiny("tiny_itm.pth")
    checkpoint.state_dict["text_encoder.pooler.dense.weight"] = torch.zeros(32, 32)
    with pytest.raises(
        CheckpointError, match=r"1 tensors have no place .*: text_encoder.pooler.dense.weight; the file"
    ):
        load_weights(BlipRetrieval(TINY), checkpoint, "retrieval_coco")


def test_a_shape_that_differs_is_named_with_both_shapes() -> None:
    checkpoint = load_tiny("tiny_itm.pth")
    checkpoint.state_dict["vision_proj.weight"] = torch.zeros(16, 24)
    with pytest.raises(CheckpointError, match=r"vision_proj.weight has shape \[16, 24\], but .* has \[32, 24\]"):
        load_weights(BlipRetrieval(TINY), checkpoint, "retrieval_coco")


@pytest.mark.parametrize(("case", "pixels"), [("pos_embed_up", 80), ("pos_embed_down", 32)])
def test_position_embeddings_are_resized_as_in_the_reference(case: str, pixels: int) -> None:
    expected = load_file(GOLDEN / f"{case}.safetensors")["pos_embed"]
    stored = load_tiny("tiny_base.pth").state_dict["visual_encoder.pos_embed"]
    assert_close(resize_position_embedding(stored, pixels // 16), expected)


def test_loading_into_another_image_size_resizes_the_position_embeddings() -> None:
    larger = TINY.model_copy(update={"vision": TINY.vision.model_copy(update={"image_size": 80})})
    model, checkpoint = BlipRetrieval(larger), load_tiny("tiny_itm.pth")
    load_weights(model, checkpoint, "retrieval_coco")
    expected = resize_position_embedding(checkpoint.state_dict["visual_encoder.pos_embed"], 5)
    assert torch.equal(model.visual_encoder.pos_embed, expected)


def assert_close(actual: Tensor, expected: Tensor) -> None:
    assert actual.shape == expected.shape
    assert (actual - expected).abs().max() <= 1e-5 * expected.abs().max()


# Bad files


class Harmful:
    """Pickles to a call."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("this must not be printed",)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")  # torch's, of the file made to be strange
@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "the file is empty; download it again"),
        (b"<!DOCTYPE html><html>403 Forbidden</html>", "a web page or error message"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "a web page or error message"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00", "a git-lfs pointer"),
        (b"PK\x03\x04 not much of a zip file", "truncated, or not a checkpoint"),
        (b"hello", "truncated, or not a checkpoint"),
        (
            pickle.dumps({"model": Harmful()}, protocol=4),
            "a pickle of another kind than torch saves, which may hold code and was not run",
        ),
        (pickle.dumps({"model": Harmful()}, protocol=2), r"holds code \(.*print\), not only tensors, and was not run"),
    ],
    ids=["empty", "html", "xml", "lfs", "zip", "text", "pickle", "code"],
)
def test_a_file_that_is_no_checkpoint_is_refused(
    tmp_path: Path, content: bytes, complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "model.pth"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"model.pth: {complaint}"):
        load_checkpoint(str(path))
    assert capsys.readouterr().out == ""


def test_code_in_a_zip_checkpoint_is_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"model": {}, "config": Harmful()}, tmp_path / "model.pth")
    with pytest.raises(CheckpointError, match=r"holds code \(.*print\)"):
        load_checkpoint(str(tmp_path / "model.pth"))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("share", [0.1, 0.5, 0.999])
def test_a_truncated_file_is_refused(small: Path, share: float) -> None:
    whole = small.read_bytes()
    small.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(CheckpointError, match=r"small.pth: truncated, or not a checkpoint .*; download it again"):
        load_checkpoint(str(small))


def test_a_truncated_safetensors_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file(random_state_dict(SMALL, 0), path)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(CheckpointError, match=r"model.safetensors: damaged or not a safetensors file"):
        load_checkpoint(str(path))


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ([torch.zeros(1)], "holds a list, expected a state dict"),
        ({"model": {"epoch": 3}}, "'model' is a dict, expected a dense tensor"),
        ({"model": {"weight": torch.zeros(1)}}, "not a BLIP checkpoint; .* found weight"),
        (
            {"visual_encoder.a": torch.zeros(1), "text_encoder.b": torch.zeros(1)},
            "no such tensor, expected 4 dimensions",
        ),
    ],
)
def test_something_else_that_torch_saved_is_refused(tmp_path: Path, content: object, complaint: str) -> None:
    torch.save(content, tmp_path / "model.pth")
    with pytest.raises(CheckpointError, match=rf"model.pth: .*{complaint}"):
        load_checkpoint(str(tmp_path / "model.pth"))


def test_nan_weights_are_refused_naming_the_first_tensor(tmp_path: Path) -> None:
    path = make_checkpoint(SMALL, tmp_path / "nan.pth", seed=0, nan=True)
    with pytest.raises(CheckpointError, match=r"layer.0.output.dense.weight: 1 of 4096 weights are NaN or infinite"):
        load_checkpoint(str(path))


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("model_base_retreival_coco.pth", "no such checkpoint file; did you mean model_base_retrieval_coco.pth"),
        ("nowhere/my.pth", "no such checkpoint file; give a path, the name of a bundled or official file, or a hub id"),
    ],
)
def test_a_source_that_is_nowhere_is_refused(source: str, complaint: str) -> None:
    with pytest.raises(CheckpointError, match=rf"{source}: there is {complaint}"):
        load_checkpoint(source)


def test_a_hub_id_without_a_network_is_refused_clearly(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(CheckpointError, match=r"somebody/blip: there is no such path, and it cannot be downloaded"):
        load_checkpoint("somebody/blip")


def test_an_official_name_is_taken_from_the_cache(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = small.parent / "cache"
    (cache / "checkpoints").mkdir(parents=True)
    shutil.copy(small, cache / "checkpoints" / "model_base_retrieval_coco.pth")
    monkeypatch.setenv("BLIPBENCH_CACHE", str(cache))
    assert load_checkpoint("model_base_retrieval_coco").path == cache / "checkpoints" / "model_base_retrieval_coco.pth"


# transformers folders


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        ({}, "a transformers folder needs config.json"),
        ({"config.json": "{"}, "a transformers folder needs config.json, which cannot be read"),
        ({"config.json": "{}"}, "no model.safetensors, pytorch_model.bin or index of shards"),
        ({"config.json": "{}", "model.safetensors.index.json": "{}"}, "weight_map: expected tensor names"),
        (
            {
                "config.json": "{}",
                "model.safetensors.index.json": json.dumps({"weight_map": {"a": "model-1.safetensors"}}),
            },
            "1 of 1 shards are missing: model-1.safetensors",
        ),
    ],
)
def test_an_incomplete_folder_is_refused(tmp_path: Path, files: dict[str, str], complaint: str) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(BlipbenchError, match=complaint):
        load_checkpoint(str(tmp_path))
