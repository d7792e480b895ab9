"""Binds captioning to its data (Karpathy or NoCaps files, or a table) and to a BLIP model with a text decoder."""

import functools
import os
from pathlib import Path

from blipbench.data.captions import CaptionDataset, read_captions
from blipbench.data.files import annotation_places, find_annotation
from blipbench.device import Runtime
from blipbench.inference.captioner import BlipCaptionRunner
from blipbench.inference.search import SearchSettings
from blipbench.models.blip import BlipCaptioner
from blipbench.models.checkpoint import Checkpoint, load_weights
from blipbench.models.tokenizer import load_tokenizer
from blipbench.protocols.base import Protocol
from blipbench.protocols.captioning.score import score
from blipbench.protocols.captioning.self_check import check_sample
from blipbench.protocols.captioning.stages import CAPTION_ROWS, CaptionImages
from blipbench.protocols.captioning.task import CaptioningTask
from blipbench.protocols.recipe import Recipe, annotation_of, at_image_size, file_of_split


def read(task: CaptioningTask, root: Path, split: str, limit: int | None) -> CaptionDataset:
    return read_captions(
        root,
        find_annotation(root, annotation_of(task, split), task.name),
        _references(task, root, split),
        name=task.name,
        split=split,
        limit=limit,
        reader=task.data.reader,
        columns=task.data.columns,
    )


def _references(task: CaptioningTask, root: Path, split: str) -> Path | None:
    """The file of the split's reference captions, or None if it is absent: a run can do without it."""
    filename = file_of_split(task.data.references, split)
    places = annotation_places(root, filename, task.name) if filename else ()
    return next((place for place in places if os.path.isfile(place)), None)


def load(task: CaptioningTask, checkpoint: Checkpoint, runtime: Runtime) -> BlipCaptionRunner:
    model = BlipCaptioner(at_image_size(task, checkpoint.config))
    load_weights(model, checkpoint, task.name)
    return BlipCaptionRunner(model, load_tokenizer(checkpoint.vocab), runtime)


def build(task: CaptioningTask, model: BlipCaptionRunner, dataset: CaptionDataset, workers: int) -> Protocol:
    settings = task.settings
    search = SearchSettings(**settings.model_dump(exclude={"prompt", "seed"}))
    return build_captioning(
        model, dataset, prompt=settings.prompt, settings=search, seed=settings.seed, workers=workers
    )


def build_captioning(
    model: BlipCaptionRunner, dataset: CaptionDataset, *, prompt: str, settings: SearchSettings, seed: int, workers: int
) -> Protocol:
    """`seed` is the seed of nucleus sampling. Raises UsageError if the prompt or the lengths do not fit the model."""
    model.check(prompt, settings)
    stage = CaptionImages(model, dataset, prompt, settings, seed, workers)
    return Protocol([stage], score, functools.partial(check_sample, stage))


CAPTIONING = Recipe(read, load, build, score, texts=lambda dataset: [], stages={"caption": CAPTION_ROWS})
