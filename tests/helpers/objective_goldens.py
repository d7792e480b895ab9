"""The reference's training cases: its starting weights in our objectives, and its batches."""

from typing import Any, TypeVar

import pytest
import torch
from goldens import GOLDEN, Golden
from torch import Tensor, nn

from blipbench.config.models import load_model_config
from blipbench.inference.packing import pad
from blipbench.models.config import ModelConfig
from blipbench.models.tokenizer import Tokenizer, load_tokenizer
from blipbench.training.batches import NlvrBatch, PairBatch, VqaBatch
from blipbench.training.contrastive import ContrastiveSettings
from blipbench.training.matching import Pick
from blipbench.training.objectives import (
    CaptionObjective,
    NlvrObjective,
    PretrainObjective,
    RetrievalObjective,
    VqaObjective,
)

QUEUE_SIZE = 48
KINDS = {"caption": "lm", "vqa": "vqa", "nlvr": "nlvr"}  # and the name of its loss
Case = tuple[nn.Module, PairBatch | VqaBatch | NlvrBatch]

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
        torch.arange(len(told["loss_images"])),
        *texts(told["loss_questions"]),
        *texts(told["loss_answers"]),
        torch.tensor(told["loss_n"]),
        torch.tensor(told["loss_weights"]),
    )


def nlvr_batch(golden: Golden, told: Any) -> NlvrBatch:
    image_of = torch.tensor([told["images0"], told["images1"]]).T
    return NlvrBatch(
        golden.tensors("images")["image"], image_of, *texts(told["sentences"]), golden.tensors("nlvr")["targets"].long()
    )


def gradient_norms(objective: nn.Module) -> dict[str, float]:
    return {name: float(p.grad.norm()) for name, p in objective.named_parameters() if p.grad is not None}


def assert_gradient_norms(found: dict[str, float], expected: dict[str, float]) -> None:
    """Within 1e-4, or within the float32 noise of the largest gradient where one is a thousand times smaller."""
    noise = 1e-7 * max(expected.values())
    for name, norm in expected.items():
        assert found[name] == pytest.approx(norm, rel=1e-4, abs=noise), name


class Picks:
    """Picks as the reference's golden runs did, the likeliest, and remembers what it was asked."""

    def __init__(self) -> None:
        self.weights: list[Tensor] = []
        self.picked: list[Tensor] = []

    def __call__(self, weights: Tensor) -> Tensor:
        self.weights.append(weights)
        self.picked.append(weights.argmax(1))
        return self.picked[-1]


def retrieval_objective(
    pick: Pick, negative_all_rank: bool = False, gradient_checkpointing: bool = False
) -> RetrievalObjective:
    objective = RetrievalObjective(
        tiny_config(),
        ContrastiveSettings(
            tiny_tokenizer().enc_id, QUEUE_SIZE, pick=pick, gradient_checkpointing=gradient_checkpointing
        ),
        negative_all_rank=negative_all_rank,
    )
    return started_from(objective, "retrieval")


def pretrain_objective(pick: Pick, gradient_checkpointing: bool = False) -> PretrainObjective:
    tokens = tiny_tokenizer()
    objective = PretrainObjective(
        tiny_config(),
        ContrastiveSettings(tokens.enc_id, QUEUE_SIZE, pick=pick, gradient_checkpointing=gradient_checkpointing),
        dec_id=tokens.dec_id,
    )
    return started_from(objective, "pretrain")


def finetuning_case(kind: str, golden: Golden, gradient_checkpointing: bool = False) -> Case:
    """An objective with the reference's starting weights, and its batch."""
    told, tokens = golden.json(f"train_{kind}"), tiny_tokenizer()
    if kind == "caption":
        prompt_length = len(tokens.encode(["a picture of "], 40)[0]) - 1
        caption = CaptionObjective(
            tiny_config(),
            dec_id=tokens.dec_id,
            prompt_length=prompt_length,
            gradient_checkpointing=gradient_checkpointing,
        )
        return started_from(caption, kind), pair_batch(golden, told)
    if kind == "vqa":
        vqa = VqaObjective(
            tiny_config(),
            enc_id=tokens.enc_id,
            dec_id=tokens.dec_id,
            gradient_checkpointing=gradient_checkpointing,
        )
        return started_from(vqa, kind), vqa_batch(golden, told)
    nlvr = NlvrObjective(tiny_config("tiny_nlvr"), enc_id=tokens.enc_id, gradient_checkpointing=gradient_checkpointing)
    return started_from(nlvr, kind), nlvr_batch(golden, told)


def total(losses: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(losses.values())).sum()
