"""Names and configuration against transformers' own classes, freshly built."""

import json
from pathlib import Path

import pytest
import torch
import transformers
import yaml
from make_checkpoint import make_checkpoint

from blipbench.errors import CheckpointError, UsageError
from blipbench.models.blip import BlipRetrieval
from blipbench.models.checkpoint import load_checkpoint, load_weights
from blipbench.models.checkpoint_files import read_tensors
from blipbench.models.config import ModelConfig
from blipbench.models.conversion import convert_checkpoint
from blipbench.models.layouts import to_official, to_transformers

GOLDEN = Path(__file__).parents[1] / "golden"
TINY = ModelConfig.model_validate(yaml.safe_load((GOLDEN / "tiny.yaml").read_text()))


def golden(name: str) -> dict[str, torch.Tensor]:
    return read_tensors(GOLDEN / name).tensors


@pytest.mark.parametrize(
    ("checkpoint", "architecture"),
    [
        ("tiny_itm.pth", "BlipForImageTextRetrieval"),
        ("tiny_retrieval.pth", "BlipForImageTextRetrieval"),
        ("tiny_caption.pth", "BlipForConditionalGeneration"),
    ],
)
def test_transformers_loads_every_weight_of_a_converted_checkpoint(
    tmp_path: Path, checkpoint: str, architecture: str
) -> None:
    convert_checkpoint(str(GOLDEN / checkpoint), tmp_path / "out", "transformers", config=TINY)
    model, info = getattr(transformers, architecture).from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(info[problem] for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert json.loads((tmp_path / "out" / "config.json").read_text())["architectures"] == [architecture]
    assert {m.eps for m in model.vision_model.modules() if isinstance(m, torch.nn.LayerNorm)} == {1e-6}


def test_transformers_computes_the_same_match_logits_from_the_converted_checkpoint(tmp_path: Path) -> None:
    convert_checkpoint(str(GOLDEN / "tiny_itm.pth"), tmp_path / "out", "transformers", config=TINY)
    theirs = transformers.BlipForImageTextRetrieval.from_pretrained(tmp_path / "out").eval()
    ours = BlipRetrieval(TINY).eval()
    load_weights(ours, load_checkpoint(str(tmp_path / "out")), "retrieval_coco")
    pixels = torch.randn(2, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    ids = torch.tensor([[247, 30, 42, 9], [247, 31, 9, 0]])
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
    with torch.inference_mode():
        expected = theirs(input_ids=ids, attention_mask=mask, pixel_values=pixels).itm_score
        logits = ours.match_logits(ids, mask, ours.encode_images(pixels))
    assert (logits - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_a_vqa_models_names_are_transformers_when_its_widths_allow(tmp_path: Path) -> None:
    tensors = golden("tiny_vqa.pth")
    wide = {
        name: tensor.new_zeros(tensor.shape[0], 24)
        if "text_decoder" in name
        and name.endswith(("crossattention.self.key.weight", "crossattention.self.value.weight"))
        else tensor
        for name, tensor in tensors.items()
    }
    kept, left_out = to_transformers(Path("a.pth"), wide, "vqa")
    text = {"vocab_size": 248, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3}
    vision = {"hidden_size": 24, "intermediate_size": 96, "num_hidden_layers": 2, "image_size": 48}
    config = transformers.BlipConfig(
        text_config={**text, "num_attention_heads": 4, "max_position_embeddings": 64, "bos_token_id": 246},
        vision_config={**vision, "num_attention_heads": 3},
    )
    model = transformers.BlipForQuestionAnswering(config)
    missing, unexpected = model.load_state_dict(kept, strict=False)
    assert sorted(missing) == [f"text_decoder.cls.predictions.decoder.{part}" for part in ("bias", "weight")]  # tied
    assert unexpected == []
    assert set(left_out) == {"text_encoder.embeddings.position_ids", "text_decoder.bert.embeddings.position_ids"}


def test_a_vqa_decoder_of_another_width_than_the_vits_has_no_transformers_layout() -> None:
    with pytest.raises(UsageError, match=r"attends to 32 wide states, but transformers .* 24; this model has no"):
        to_transformers(Path("a.pth"), golden("tiny_vqa.pth"), "vqa")


def test_nlvr_has_no_transformers_layout() -> None:
    with pytest.raises(UsageError, match="transformers has no class for a nlvr checkpoint"):
        to_transformers(Path("a.pth"), golden("tiny_nlvr.pth"), "nlvr")


def test_an_untied_decoder_is_not_silently_tied() -> None:
    tensors = golden("tiny_caption.pth")
    name = "text_decoder.cls.predictions.decoder.weight"
    with pytest.raises(CheckpointError, match=rf"{name} is not text_decoder.bert.embeddings.word_embeddings.weight"):
        to_transformers(Path("a.pth"), {**tensors, name: tensors[name] + 1}, "caption")


@pytest.mark.parametrize(("name", "kind"), [("tiny_retrieval.pth", "retrieval"), ("tiny_caption.pth", "caption")])
def test_there_and_back_is_bit_exact(name: str, kind: str) -> None:
    tensors = golden(name)
    kept, left_out = to_transformers(Path("a.pth"), tensors, kind)
    back = to_official(kept)
    assert set(back) == set(tensors) - set(left_out)
    assert all(torch.equal(back[key], tensors[key]) for key in back)


def test_a_folder_that_transformers_wrote_loads_under_official_names(tmp_path: Path) -> None:
    convert_checkpoint(str(GOLDEN / "tiny_itm.pth"), tmp_path / "ours", "transformers", config=TINY)
    model = transformers.BlipForImageTextRetrieval.from_pretrained(tmp_path / "ours")
    model.save_pretrained(tmp_path / "theirs", max_shard_size="100KB")
    (tmp_path / "theirs" / "vocab.txt").write_bytes((GOLDEN / "vocab.txt").read_bytes())
    assert (tmp_path / "theirs" / "model.safetensors.index.json").is_file()
    checkpoint = load_checkpoint(str(tmp_path / "theirs"))
    expected = load_checkpoint(str(GOLDEN / "tiny_itm.pth"), config=TINY)
    assert checkpoint.layout == "transformers"
    assert checkpoint.config.model_copy(update={"name": TINY.name}) == TINY
    assert set(checkpoint.state_dict) == set(expected.state_dict)
    assert all(torch.equal(checkpoint.state_dict[key], weight) for key, weight in expected.state_dict.items())


def test_a_folder_in_torchs_format_loads(tmp_path: Path) -> None:
    convert_checkpoint(str(GOLDEN / "tiny_itm.pth"), tmp_path / "out", "transformers", config=TINY)
    kept, _ = to_transformers(Path("a.pth"), golden("tiny_itm.pth"), "itm")
    (tmp_path / "out" / "model.safetensors").unlink()
    torch.save(kept, tmp_path / "out" / "pytorch_model.bin")
    assert load_checkpoint(str(tmp_path / "out")).kind == "itm"


def test_config_json_without_head_counts_is_not_filled_with_transformers_defaults(tmp_path: Path) -> None:
    convert_checkpoint(str(GOLDEN / "tiny_itm.pth"), tmp_path / "out", "transformers", config=TINY)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    del config["text_config"]["num_attention_heads"]
    (tmp_path / "out" / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"vision.num_heads cannot be read off"):
        load_checkpoint(str(tmp_path / "out"))


def test_random_weights_load_into_transformers_with_the_bundled_vocabulary(tmp_path: Path) -> None:
    text = TINY.text.model_copy(update={"vocab_size": 30524})
    config = TINY.model_copy(update={"text": text})
    path = make_checkpoint(config, tmp_path / "random.pth", seed=3, momentum=True)
    conversion = convert_checkpoint(str(path), tmp_path / "out", "transformers", config=config)
    _, info = transformers.BlipForImageTextRetrieval.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert {"temp", "image_queue", "text_encoder_m.embeddings.LayerNorm.bias"} <= set(conversion.left_out)
