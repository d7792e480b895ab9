"""Dual encoders such as CLIP and SigLIP in place of BLIP: which tasks they can run, and with which settings.

A task's `image_size` and `max_tokens` are those of BLIP. A dual encoder has its own image size, preprocessing and text
length, which replace them. Captions are normalised as the task says, for every model.
"""

from blipbench.config.task import ModelInput, Task
from blipbench.errors import UsageError
from blipbench.models.catalog import load_catalog
from blipbench.models.clip import CAPABILITIES, ClipCheckpoint, Family
from blipbench.protocols.recipe import Recipe

_FAMILIES: dict[Family, str] = {"clip": "CLIP", "siglip": "SigLIP"}
_CAPABILITIES = {
    "match": "image-text matching",
    "caption": "captioning",
    "answer": "question answering",
    "reason": "reasoning over two images",
}


def refuse_lacking(task: Task, recipe: Recipe, family: Family) -> None:
    """Raise UsageError if the task requires something that dual encoders do not support."""
    for need, way_out in recipe.needed(task).items():
        if need not in CAPABILITIES:
            files = ", ".join(entry.file for entry in load_catalog() if task.name in entry.tasks)
            way_out = way_out or (f"official files that support it: {files}" if files else "use a BLIP checkpoint")
            raise UsageError(
                f"{task.name} requires {_CAPABILITIES[need]}, which {_FAMILIES[family]} does not support; {way_out}"
            )


def adapt_task(task: Task, recipe: Recipe, checkpoint: ClipCheckpoint) -> Task:
    """The task as the dual encoder runs it. Raises UsageError as `refuse_lacking` does."""
    refuse_lacking(task, recipe, checkpoint.kind)
    settings = task.settings.model_copy(update={"max_tokens": checkpoint.max_tokens})
    image_size = ModelInput(image_size=checkpoint.config.vision.image_size)
    return task.model_copy(update={"settings": settings, "model": image_size})
