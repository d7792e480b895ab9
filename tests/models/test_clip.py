"""Reading CLIP and SigLIP folders: what they are, and what is said of those that are not whole."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_clip import IMAGE_SIZE, MAX_TOKENS, make_dual_encoder

from blipbench.errors import CheckpointError
from blipbench.models.clip import FAMILIES, family_of, load_clip


@pytest.fixture(params=FAMILIES)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return make_dual_encoder(request.param, tmp_path / request.param)


def test_the_family_is_what_config_json_says(folder: Path, tmp_path: Path) -> None:
    assert family_of(folder) == folder.name
    assert family_of(tmp_path) is None
    assert family_of(folder / "model.safetensors") is None


def test_blip_is_of_no_family(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "blip"}')
    assert family_of(tmp_path) is None


def test_a_folder_is_read_whole(folder: Path) -> None:
    checkpoint = load_clip(folder)
    assert (checkpoint.kind, checkpoint.config.vision.image_size) == (folder.name, IMAGE_SIZE)
    assert checkpoint.max_tokens == MAX_TOKENS[folder.name]
    assert checkpoint.num_parameters == sum(
        tensor.numel() for tensor in load_file(folder / "model.safetensors").values()
    )
    assert len(checkpoint.sha256) == 64
    assert next(checkpoint.model.parameters()).dtype == torch.float32


def test_half_precision_files_are_computed_in_float32(folder: Path) -> None:
    weights = {name: tensor.half() for name, tensor in load_file(folder / "model.safetensors").items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert next(load_clip(folder).model.parameters()).dtype == torch.float32


def test_missing_tensors_are_named(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    lost = next(name for name in weights if name.endswith("layers.1.mlp.fc1.weight"))
    del weights[lost]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=f"1 tensors of .* are missing: {lost}"):
        load_clip(folder)


def test_weights_that_are_not_numbers_are_named(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["vision_model.post_layernorm.bias"][0] = float("nan")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"vision_model\.post_layernorm\.bias: 1 of 32 weights are NaN"):
        load_clip(folder)


def test_truncated_weights(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:2000])
    with pytest.raises(CheckpointError, match="cannot be loaded as"):
        load_clip(folder)


def test_a_folder_without_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"no model\.safetensors"):
        load_clip(folder)


def test_a_folder_without_an_image_processor(folder: Path) -> None:
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(CheckpointError, match=r"its image processor \(preprocessor_config\.json\) cannot be loaded"):
        load_clip(folder)


def test_a_folder_without_a_tokenizer(folder: Path) -> None:
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (folder / file).unlink()
    with pytest.raises(CheckpointError, match=r"its tokenizer (cannot be loaded|does not tell)"):
        load_clip(folder)


def test_a_processor_of_another_image_size(folder: Path) -> None:
    file = folder / "preprocessor_config.json"
    settings = json.loads(file.read_text())
    square = {"height": 48, "width": 48}
    settings |= {"size": square, "crop_size": square}
    file.write_text(json.dumps(settings))
    with pytest.raises(CheckpointError, match=r"pixels of shape \[3, 48, 48\], but the model takes \[3, 32, 32\]"):
        load_clip(folder)


def test_a_folder_of_another_model(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(CheckpointError, match="does not say model_type clip or siglip"):
        load_clip(tmp_path)
