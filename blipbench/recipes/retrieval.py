"""Retrieval plugged in: Karpathy files, a BLIP with ITC and ITM heads, embed and rerank."""

from pathlib import Path

from blipbench.config import RetrievalTask
from blipbench.data.dataset import RetrievalDataset
from blipbench.data.karpathy import find_annotation, read_retrieval
from blipbench.device import Runtime
from blipbench.inference.blip import BlipRunner
from blipbench.models.blip import BlipRetrieval
from blipbench.models.checkpoint import Checkpoint, load_weights
from blipbench.models.tokenizer import load_tokenizer
from blipbench.protocols import retrieval_score
from blipbench.protocols.retrieval import Retrieval, build_retrieval
from blipbench.recipes.recipe import Recipe, annotation_of, at_image_size


def read(task: RetrievalTask, root: Path, split: str, limit: int | None) -> RetrievalDataset:
    annotation = find_annotation(root, annotation_of(task, split), task.name)
    return read_retrieval(root, annotation, name=task.name, split=split, max_words=task.data.max_words, limit=limit)


def load(task: RetrievalTask, checkpoint: Checkpoint, runtime: Runtime) -> BlipRunner:
    model = BlipRetrieval(at_image_size(task, checkpoint.config))
    load_weights(model, checkpoint, task.name)
    return BlipRunner(model, load_tokenizer(checkpoint.vocab), runtime)


def build(task: RetrievalTask, model: BlipRunner, dataset: RetrievalDataset, workers: int) -> Retrieval:
    settings = task.settings
    return build_retrieval(
        model,
        dataset,
        k_test=settings.k_test,
        max_tokens=settings.max_tokens,
        rerank=settings.rerank == "itm",
        workers=workers,
    )


RETRIEVAL = Recipe(read, load, build, retrieval_score.score, stages=("embed", "rerank"))
