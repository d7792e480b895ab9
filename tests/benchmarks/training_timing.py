"""How long a training step takes at the sizes of the reference's training, for the benchmarks on a CPU and on a GPU."""

import statistics
import time

import torch

from blipbench.config.models import load_model_config
from blipbench.models.config import ModelConfig
from blipbench.profiling.training_steps import Kind, Step

IMAGE_SIZE: dict[Kind, int] = {"pretrain": 224, "retrieval": 384}  # in pixels at base size, as in the reference


def config_of(kind: Kind, model: str) -> ModelConfig:
    """The sizes of a named model, at the image size of the reference's training."""
    config = load_model_config(model)
    size = IMAGE_SIZE[kind] if model == "base" else config.vision.image_size
    return config.model_copy(update={"vision": config.vision.model_copy(update={"image_size": size})})


def seconds_of(step: Step, device: torch.device, rounds: int) -> float:
    """The median over `rounds`, after one warm-up. Raises AssertionError if a loss is not finite."""
    times = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        loss = step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
        assert loss.isfinite()
    return statistics.median(times[1:])
