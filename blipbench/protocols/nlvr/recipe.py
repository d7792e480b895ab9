"""Binds NLVR2 to its annotation files and to a BLIP model with two cross-attentions."""

import functools
from pathlib import Path

from blipbench.data.files import find_annotation
from blipbench.data.nlvr import NlvrDataset, read_nlvr
from blipbench.device import Runtime
from blipbench.inference.reasoning import NlvrRunner
from blipbench.models.checkpoint import Checkpoint, load_weights
from blipbench.models.nlvr import BlipNlvr
from blipbench.models.tokenizer import load_tokenizer
from blipbench.protocols.base import Protocol
from blipbench.protocols.nlvr.score import score
from blipbench.protocols.nlvr.self_check import check_sample
from blipbench.protocols.nlvr.stages import REASON_ROWS, Reason
from blipbench.protocols.nlvr.task import NlvrTask
from blipbench.protocols.recipe import Recipe, annotation_of, at_image_size


def read(task: NlvrTask, root: Path, split: str, limit: int | None) -> NlvrDataset:
    annotation = find_annotation(root, annotation_of(task, split), task.name)
    return read_nlvr(root, annotation, name=task.name, split=split, max_words=task.data.max_words, limit=limit)


def load(task: NlvrTask, checkpoint: Checkpoint, runtime: Runtime) -> NlvrRunner:
    model = BlipNlvr(at_image_size(task, checkpoint.config))
    load_weights(model, checkpoint, task.name)
    return NlvrRunner(model, load_tokenizer(checkpoint.vocab), runtime)


def build(task: NlvrTask, model: NlvrRunner, dataset: NlvrDataset, workers: int) -> Protocol:
    return build_nlvr(model, dataset, workers)


def build_nlvr(model: NlvrRunner, dataset: NlvrDataset, workers: int) -> Protocol:
    input_ids = model.tokenize(dataset.sentences)
    stage = Reason(model, dataset, input_ids, workers)
    check = functools.partial(check_sample, model, dataset, input_ids)
    return Protocol([stage], score, check, model.tokenizer.unknown_share(input_ids))


NLVR = Recipe(read, load, build, score, texts=lambda dataset: dataset.sentences, stages={"reason": REASON_ROWS})
