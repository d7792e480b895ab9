"""What a protocol provides so that it can be run: its functions, its stages, and what it requires of a model."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from blipbench.config.task import Split, Task
from blipbench.data.dataset import Dataset
from blipbench.device import Runtime
from blipbench.errors import UsageError
from blipbench.metrics.metric import Metrics
from blipbench.models.checkpoint import Checkpoint
from blipbench.models.config import ModelConfig
from blipbench.protocols.base import Protocol, Samples


@dataclasses.dataclass(frozen=True)
class Recipe:
    """The functions of a protocol.

    `read(task, root, split, limit)` returns the data set. `load(task, checkpoint, runtime)` returns the model, ready to
    run. `build(task, model, dataset, workers)` binds the protocol to both. `score(samples, seed)` computes the metrics.
    `stages` are the names of the stages with the schema of their samples. `texts(dataset)` are the texts that a model
    reads.

    `needs(task)` returns the capabilities that the task requires of a model, each with advice for a user whose model
    does not support it ("" if there is none). By default, a task requires a capability of each stage's name.
    """

    read: Callable[[Any, Path, str, int | None], Dataset]
    load: Callable[[Any, Checkpoint, Runtime], Any]
    build: Callable[[Any, Any, Any, int], Protocol]
    score: Callable[[Samples, int], Metrics]
    stages: Mapping[str, pa.Schema]
    texts: Callable[[Any], list[str]]
    needs: Callable[[Any], Mapping[str, str]] | None = None

    def needed(self, task: Any) -> Mapping[str, str]:
        return dict.fromkeys(self.stages, "") if self.needs is None else self.needs(task)


def annotation_of(task: Task, split: str) -> str:
    """The file name of a split's annotation."""
    filename = file_of_split(task.data.annotations, split)
    if filename is None:
        raise UsageError(f"--split {split}: {task.name} has the splits {', '.join(task.data.annotations)}")
    return filename


def file_of_split(files: Mapping[Split, str], split: str) -> str | None:
    """The file name of a split that the user named, if there is one."""
    return next((filename for known, filename in files.items() if known == split), None)


def at_image_size(task: Task, config: ModelConfig) -> ModelConfig:
    """The checkpoint's sizes at the task's image size."""
    vision = config.vision.model_copy(update={"image_size": task.model.image_size})
    if vision.image_size % vision.patch_size:
        raise UsageError(
            f"{task.name}: model.image_size: {vision.image_size} is not a multiple of the patch, {vision.patch_size}"
        )
    return config.model_copy(update={"vision": vision})
