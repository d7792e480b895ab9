"""The plain encoders against the reference's feature extractor: images at three sizes, texts, texts with an image."""

import pytest
import torch
from goldens import GOLDEN, Golden, relative_error
from torch import nn

from blipbench.config.models import load_model_config
from blipbench.models.checkpoint import load_checkpoint, load_weights
from blipbench.models.config import ModelConfig
from blipbench.models.med import TextEncoder
from blipbench.models.tokenizer import load_tokenizer
from blipbench.models.vit import ImageEncoder

TOLERANCE = 1e-5


class FeatureExtractor(nn.Module):
    """All that tiny_base.pth holds: the two encoders, without a head."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.visual_encoder = ImageEncoder(config.vision)
        self.text_encoder = TextEncoder(config.text, context_width=config.vision.width)


def feature_extractor(image_size: int) -> FeatureExtractor:
    checkpoint = load_checkpoint(str(GOLDEN / "tiny_base.pth"), config=load_model_config(str(GOLDEN / "tiny.yaml")))
    vision = checkpoint.config.vision.model_copy(update={"image_size": image_size})
    model = FeatureExtractor(checkpoint.config.model_copy(update={"vision": vision}))
    load_weights(model, checkpoint, "features")
    return model.eval().requires_grad_(False)


def test_image_features(golden: Golden) -> None:
    images = golden.tensors("images")["image"][golden.json("features")["images"]]
    features = feature_extractor(image_size=48).visual_encoder(images)
    assert relative_error(features, golden.tensors("features")["image_features"]) < TOLERANCE


@pytest.mark.parametrize(("case", "image_size"), [("pos_embed_up", 80), ("pos_embed_down", 32)])
def test_image_features_at_another_size_than_the_checkpoints(golden: Golden, case: str, image_size: int) -> None:
    told = golden.tensors(case)
    encoder = feature_extractor(image_size).visual_encoder
    assert relative_error(encoder.state_dict()["pos_embed"], told["pos_embed"]) < TOLERANCE
    assert relative_error(encoder(told["image"]), told["image_features"]) < TOLERANCE


@pytest.mark.parametrize("caption", range(5))
def test_text_features_start_with_cls(golden: Golden, caption: int) -> None:
    ids = caption_ids(golden, caption)
    features = feature_extractor(image_size=48).text_encoder(ids, torch.ones_like(ids))
    assert relative_error(features, golden.tensors("features")[f"text_features_{caption}"]) < TOLERANCE


@pytest.mark.parametrize("caption", range(5))
def test_multimodal_features_start_with_enc_and_attend_to_the_image(golden: Golden, caption: int) -> None:
    ids = caption_ids(golden, caption)
    ids[:, 0] = load_tokenizer(GOLDEN / "vocab.txt").enc_id
    image = golden.tensors("images")["image"][golden.json("features")["images"][caption]][None]
    model = feature_extractor(image_size=48)
    features = model.text_encoder(ids, torch.ones_like(ids), model.visual_encoder(image))
    assert relative_error(features, golden.tensors("features")[f"multimodal_features_{caption}"]) < TOLERANCE


def caption_ids(golden: Golden, caption: int) -> torch.Tensor:
    """[1, tokens], [CLS] first."""
    text = golden.json("features")["captions"][caption]
    return torch.tensor(load_tokenizer(GOLDEN / "vocab.txt").encode([text], 35))
