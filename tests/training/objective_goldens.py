"""The reference's training cases: its starting weights in our objectives, and its batches."""

from typing import Any, TypeVar

import pytest
import torch
from goldens import GOLDEN, Golden
from torch import Tensor, nn

from blipbench.config import load_model_config
from blipbench.inference.packing import pad
from blipbench.models.config import ModelConfig
from blipbench.models.tokenizer import Tokenizer, load_tokenizer
from blipbench.training.batches import NlvrBatch, PairBatch, VqaBatch

Objective = TypeVar("Objective", bound=nn.Module)


def tiny_config(name: str = "tiny") -> ModelConfig:
    return load_model_config(str(GOLDEN / f"{name}.yaml"))


def tiny_tokenizer() -> Tokenizer:
    return load_tokenizer(GOLDEN / "vocab.txt")


def official_state(kind: str) -> dict[str, Tensor]:
    state: dict[str, Tensor] = torch.load(GOLDEN / f"tiny_{kind}.pth", weights_only=True)["model"]
    return state


def started_from(objective: Objective, kind: str) -> Objective:
    objective.load_state_dict(official_state(kind), strict=True)
    return objective.train()


def texts(sentences: list[str], length: int | None = None, max_length: int = 40) -> tuple[Tensor, Tensor]:
    """Token ids and mask, padded to the longest or to `length`."""
    return pad(tiny_tokenizer().encode(sentences, length or max_length), tiny_tokenizer().pad_id, length)


def pair_batch(golden: Golden, told: Any, length: int | None = None) -> PairBatch:
    images = golden.tensors("images")["image"][told["images"]]
    ids = torch.tensor(told.get("idx", told["images"]))
    return PairBatch(images, *texts(told["captions"], length), ids)


def vqa_batch(golden: Golden, told: Any) -> VqaBatch:
    return VqaBatch(
        golden.tensors("images")["image"][told["loss_images"]],
        *texts(told["loss_questions"]),
        *texts(told["loss_answers"]),
        torch.tensor(told["loss_n"]),
        torch.tensor(told["loss_weights"]),
    )


def nlvr_batch(golden: Golden, told: Any) -> NlvrBatch:
    pool = golden.tensors("images")["image"]
    images = torch.stack([pool[told["images0"]], pool[told["images1"]]], dim=1)
    return NlvrBatch(images, *texts(told["sentences"]), golden.tensors("nlvr")["targets"].long())


def gradient_norms(objective: nn.Module) -> dict[str, float]:
    return {name: float(p.grad.norm()) for name, p in objective.named_parameters() if p.grad is not None}


def assert_gradient_norms(found: dict[str, float], expected: dict[str, float]) -> None:
    """Within 1e-4, or within the float32 noise of the largest gradient where one is ten thousand times smaller."""
    noise = 1e-8 * max(expected.values())
    for name, norm in expected.items():
        assert found[name] == pytest.approx(norm, rel=1e-4, abs=noise), name
