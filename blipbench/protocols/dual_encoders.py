"""CLIP and its kin in BLIP's place: which tasks they are refused, and what of a task gives way to the model's own.

A dual encoder takes images of its own size, prepared its own way, and texts of its own length; a task's `image_size`
and `max_tokens` are BLIP's. Captions are normalised as the task says for every model alike.
"""

from blipbench.config.task import ModelInput, Task
from blipbench.errors import UsageError
from blipbench.models.catalog import load_catalog
from blipbench.models.clip import CAPABILITIES, ClipCheckpoint, Family
from blipbench.protocols.recipe import Recipe


def refuse_lacking(task: Task, recipe: Recipe, family: Family) -> None:
    """Raise UsageError where the task needs what no dual encoder has, by name and with the way out."""
    for need, way_out in recipe.needed(task).items():
        if need not in CAPABILITIES:
            files = ", ".join(entry.file for entry in load_catalog() if task.name in entry.tasks)
            way_out = way_out or (f"official files that have it: {files}" if files else "give a BLIP checkpoint")
            raise UsageError(f"{task.name} needs {need}, which {family} has not; {way_out}")


def adapt_task(task: Task, recipe: Recipe, checkpoint: ClipCheckpoint) -> Task:
    """The task as the dual encoder runs it. Raises UsageError as `refuse_lacking` does."""
    refuse_lacking(task, recipe, checkpoint.kind)
    settings = task.settings.model_copy(update={"max_tokens": checkpoint.max_tokens})
    image_size = ModelInput(image_size=checkpoint.config.vision.image_size)
    return task.model_copy(update={"settings": settings, "model": image_size})
