"""The reference's VQA outputs, and our runner on the checkpoint and the questions that they come from."""

import dataclasses
from typing import Any

import numpy as np
import torch
from goldens import GOLDEN, Golden
from torch import Tensor

from blipbench.config.models import load_model_config
from blipbench.data.images import decode_image
from blipbench.device import make_runtime
from blipbench.inference.answering import BlipVqaRunner
from blipbench.models.blip import BlipVqa
from blipbench.models.checkpoint import load_checkpoint, load_weights
from blipbench.models.tokenizer import load_tokenizer

IMAGE_SIZE = 48
MAX_TOKENS = 35


@dataclasses.dataclass(frozen=True)
class VqaCase:
    """`told` and `tensors` are the reference's; picture i belongs to question i."""

    runner: BlipVqaRunner
    told: Any
    tensors: dict[str, Tensor]
    question_ids: list[list[int]]
    pixels: Tensor  # uint8 [questions, 3, 48, 48]

    @property
    def answer_list(self) -> list[str]:
        answers: list[str] = self.told["answer_list"]
        return answers

    @property
    def each(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Every question, and the image of each."""
        return np.arange(len(self.question_ids))

    def states(self) -> list[Tensor]:
        """The fast states of every question."""
        tokens = self.runner.encode_images(self.pixels)
        return self.runner.encode_questions(tokens, self.runner.bank(self.question_ids), self.each, self.each)


def golden_vqa_model(golden: Golden) -> BlipVqa:
    loaded = load_checkpoint(str(GOLDEN / "tiny_vqa.pth"), config=load_model_config(str(golden.model)))
    vision = loaded.config.vision.model_copy(update={"image_size": IMAGE_SIZE})
    model = BlipVqa(loaded.config.model_copy(update={"vision": vision}))
    load_weights(model, loaded, "vqa")
    return model.eval().requires_grad_(False)


def golden_vqa(golden: Golden, batch_tokens: int | None = None) -> VqaCase:
    runtime = make_runtime("cpu", "fp32", batch_tokens)
    runner = BlipVqaRunner(golden_vqa_model(golden), load_tokenizer(GOLDEN / "vocab.txt"), runtime)
    told, pictures = golden.json("vqa"), golden.pictures()
    return VqaCase(
        runner,
        told,
        golden.tensors("vqa"),
        runner.tokenize_questions(told["questions"], MAX_TOKENS),
        torch.stack([decode_image(pictures[image], IMAGE_SIZE) for image in told["images"]]),
    )
