"""The small goldens that ship: what the reference computes on tiny checkpoints, to compare this machine with.

    goldens = Goldens(FOLDER)                             the folder that ships, blipbench/goldens
    goldens.cases["vqa"]["questions"]                     what the reference was given
    goldens.expected["nlvr_logits"]                       what it computed
    goldens.fill(BlipVqa, "vqa"), goldens.pixels(files)   its model and its pictures

Everything is an excerpt from the goldens of the tests, where a README describes how the reference was run.
"""

import dataclasses
import functools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from blipbench.config.paths import PACKAGE
from blipbench.data.images import decode_image
from blipbench.models.checkpoint import load_checkpoint, load_weights
from blipbench.models.config import ModelConfig
from blipbench.models.tokenizer import Tokenizer, load_tokenizer

FOLDER = PACKAGE / "goldens"
IMAGE_SIZE = 48

Model = TypeVar("Model", bound=nn.Module)


@dataclasses.dataclass(frozen=True)
class Goldens:
    folder: Path

    @functools.cached_property
    def cases(self) -> dict[str, dict[str, Any]]:
        cases: dict[str, dict[str, Any]] = json.loads((self.folder / "cases.json").read_text(encoding="utf-8"))
        return cases

    @functools.cached_property
    def expected(self) -> dict[str, Tensor]:
        expected: dict[str, Tensor] = load_file(self.folder / "expected.safetensors")
        return expected

    @functools.cached_property
    def tokenizer(self) -> Tokenizer:
        return load_tokenizer(self.folder / "vocab.txt")

    def pixels(self, files: Sequence[str]) -> Tensor:
        """uint8 [files, 3, 48, 48]"""
        return torch.stack([decode_image(self.folder / "images" / file, IMAGE_SIZE) for file in files])

    def fill(self, model_class: Callable[[ModelConfig], Model], name: str) -> Model:
        """A model with the weights of tiny_NAME.safetensors, whose header states the sizes."""
        loaded = load_checkpoint(str(self.folder / f"tiny_{name}.safetensors"))
        model = model_class(loaded.config)
        load_weights(model, loaded, name)
        return model
