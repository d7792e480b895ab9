"""The golden captioner ready to run, and the cases that the reference decoded with it."""

import dataclasses
from typing import Any

import torch
from goldens import GOLDEN, Golden

from blipbench.config.models import load_model_config
from blipbench.device import make_runtime
from blipbench.inference.captioner import BlipCaptionRunner
from blipbench.inference.search import SearchSettings
from blipbench.models.blip import BlipCaptioner
from blipbench.models.checkpoint import load_checkpoint, load_weights
from blipbench.models.tokenizer import load_tokenizer

CASES = 8


@dataclasses.dataclass(frozen=True)
class CaptionCase:
    """`context` are the image tokens of the eight pictures, `told` the reference's outputs."""

    runner: BlipCaptionRunner
    context: torch.Tensor  # [8, T, image_width]
    told: dict[str, Any]
    tensors: dict[str, torch.Tensor]

    @property
    def prompt(self) -> str:
        return str(self.told["prompt"])

    @property
    def prompt_ids(self) -> list[int]:
        return self.runner.prompt_ids(self.prompt)


def golden_captioner(golden: Golden) -> CaptionCase:
    loaded = load_checkpoint(str(GOLDEN / "tiny_caption.pth"), config=load_model_config(str(golden.model)))
    model = BlipCaptioner(loaded.config)
    load_weights(model, loaded, "caption_coco")
    runner = BlipCaptionRunner(model, load_tokenizer(GOLDEN / "vocab.txt"), make_runtime("cpu", "fp32"))
    pixels = golden.tensors("images")["image"][golden.json("caption")["images"]]
    with torch.inference_mode():
        context = runner.plain.visual_encoder(pixels)
    return CaptionCase(runner, context, golden.json("caption"), golden.tensors("caption"))


def settings_of(case: dict[str, Any]) -> SearchSettings:
    names = ("num_beams", "max_length", "min_length", "repetition_penalty")
    return SearchSettings(**{name: case[name] for name in names})
