"""The models that a profile needs, built when the first part asks: from a checkpoint, or with random weights.

Every precision has its own fast copy. The plain float32 model is shared.
"""

import copy
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from blipbench.device import Runtime
from blipbench.inference.answering import BlipVqaRunner
from blipbench.inference.blip import BlipRunner
from blipbench.inference.captioner import BlipCaptionRunner
from blipbench.inference.reasoning import NlvrRunner
from blipbench.models.blip import BlipCaptioner, BlipRetrieval, BlipVqa
from blipbench.models.checkpoint import Checkpoint, load_weights
from blipbench.models.config import ModelConfig
from blipbench.models.layouts import to_transformers, transformers_config
from blipbench.models.nlvr import BlipNlvr
from blipbench.models.tokenizer import load_tokenizer

Model = TypeVar("Model", bound=nn.Module)


class Models:
    """Raises CheckpointError if the checkpoint does not have the weights that a part requires."""

    def __init__(self, config: ModelConfig, checkpoint: Checkpoint | None, image_size: int) -> None:
        self.checkpoint = checkpoint
        self.tokenizer = load_tokenizer(checkpoint.vocab if checkpoint else None)
        vision = config.vision.model_copy(update={"image_size": image_size})
        text = config.text.model_copy(update={"vocab_size": self.tokenizer.vocab_size})
        self.config = config.model_copy(update={"vision": vision, "text": text})
        self._runners: dict[tuple[str, str], Any] = {}

    def retrieval(self, runtime: Runtime) -> BlipRunner:
        return self._runner(runtime, lambda: BlipRunner(self._retrieval, self.tokenizer, runtime), "retrieval")

    def block(self, runtime: Runtime) -> Any:
        """The first block of the fast image encoder."""
        return self.retrieval(runtime).vision.encoder.blocks[0]

    def captioner(self, runtime: Runtime) -> BlipCaptionRunner:
        return self._runner(runtime, lambda: BlipCaptionRunner(self._captioner, self.tokenizer, runtime), "caption")

    def vqa(self, runtime: Runtime) -> BlipVqaRunner:
        return self._runner(runtime, lambda: BlipVqaRunner(self._vqa, self.tokenizer, runtime), "vqa")

    def nlvr(self, runtime: Runtime) -> NlvrRunner:
        return self._runner(runtime, lambda: NlvrRunner(self._nlvr, self.tokenizer, runtime), "nlvr")

    def plain(self, runtime: Runtime) -> BlipRetrieval:
        """The plain padded model in the run's precision."""
        return self._runner(runtime, lambda: copy.deepcopy(self._retrieval).to(runtime.device, runtime.dtype), "plain")

    def transformers(self, runtime: Runtime) -> Any:
        """transformers' BlipForImageTextRetrieval with the same weights, in the run's precision."""
        return self._runner(runtime, lambda: self._transformers().to(runtime.device, runtime.dtype), "transformers")

    def _runner(self, runtime: Runtime, make: Callable[[], Any], kind: str) -> Any:
        key = kind, runtime.precision
        if key not in self._runners:
            self._runners[key] = make()
        return self._runners[key]

    @functools.cached_property
    def _retrieval(self) -> BlipRetrieval:
        return self._loaded(BlipRetrieval)

    @functools.cached_property
    def _captioner(self) -> BlipCaptioner:
        return self._loaded(BlipCaptioner)

    @functools.cached_property
    def _vqa(self) -> BlipVqa:
        return self._loaded(BlipVqa)

    @functools.cached_property
    def _nlvr(self) -> BlipNlvr:
        return self._loaded(BlipNlvr)

    def _loaded(self, kind: Callable[[ModelConfig], Model]) -> Model:
        torch.manual_seed(0)
        model = kind(self.config)
        if self.checkpoint is not None:
            load_weights(model, self.checkpoint, "profile")
        return model.eval().requires_grad_(False)

    def _transformers(self) -> Any:
        from transformers import BlipConfig, BlipForImageTextRetrieval

        vision = self.config.vision
        sizes = transformers_config(self.config, "itm", self.tokenizer, 4 * vision.width)
        model = BlipForImageTextRetrieval(BlipConfig.from_dict(sizes))
        weights, _ = to_transformers(Path("the model"), self._retrieval.state_dict(), "itm")
        model.load_state_dict(weights, strict=False)  # transformers has buffers besides
        return model.eval().requires_grad_(False)
