"""The reference's outputs in tests/golden, and how floats are compared with them."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from blipbench.config.models import load_model_config
from blipbench.models.blip import BlipRetrieval
from blipbench.models.checkpoint import load_checkpoint, load_weights

GOLDEN = Path(__file__).parents[1] / "golden"


class Golden:
    """The reference's outputs: tensors and JSON of a case, by its name."""

    root = GOLDEN
    data = GOLDEN / "data"
    model = GOLDEN / "tiny.yaml"

    def tensors(self, case: str) -> dict[str, torch.Tensor]:
        return load_file(GOLDEN / f"{case}.safetensors")

    def json(self, case: str) -> Any:
        return json.loads((GOLDEN / f"{case}.json").read_text())

    def pictures(self) -> list[Path]:
        return [self.data / picture["file"] for picture in self.json("index")["pictures"]]

    def retrieval_model(self, checkpoint: str = "tiny_retrieval.pth", image_size: int = 48) -> BlipRetrieval:
        loaded = load_checkpoint(str(GOLDEN / checkpoint), config=load_model_config(str(self.model)))
        vision = loaded.config.vision.model_copy(update={"image_size": image_size})
        model = BlipRetrieval(loaded.config.model_copy(update={"vision": vision}))
        load_weights(model, loaded, "retrieval")
        return model.eval().requires_grad_(False)


def relative_error(actual: torch.Tensor, expected: torch.Tensor) -> float:
    """The largest deviation over the largest expected value."""
    return float(((actual - expected).abs().max() / expected.abs().max()).detach())
