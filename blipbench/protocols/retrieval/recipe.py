"""Binds retrieval to its data (Karpathy files, tables, MSRVTT's clips) and to a BLIP model with ITC and ITM heads."""

import functools
from pathlib import Path
from typing import cast

from blipbench.data.dataset import RetrievalDataset
from blipbench.data.karpathy import find_annotation, make_retrieval, read_retrieval
from blipbench.data.msrvtt import read_msrvtt
from blipbench.data.table import read_table
from blipbench.device import Runtime
from blipbench.errors import UsageError
from blipbench.inference.blip import BlipRunner
from blipbench.inference.capabilities import DualEncoder, MatchingEncoder
from blipbench.inference.token_cache import TokenCache
from blipbench.models.blip import BlipRetrieval
from blipbench.models.checkpoint import Checkpoint, load_weights
from blipbench.models.tokenizer import load_tokenizer
from blipbench.protocols.base import Protocol, Stage
from blipbench.protocols.recipe import Recipe, annotation_of, at_image_size
from blipbench.protocols.retrieval.score import score
from blipbench.protocols.retrieval.self_check import check_sample
from blipbench.protocols.retrieval.stages import EMBED_ROWS, RERANK_ROWS, Embed, Rerank
from blipbench.protocols.retrieval.task import RetrievalTask


def read(task: RetrievalTask, root: Path, split: str, limit: int | None) -> RetrievalDataset:
    annotation = find_annotation(root, annotation_of(task, split), task.name)
    max_words, columns = task.data.max_words, task.data.columns
    if columns is not None:
        captioned, sha256 = read_table(annotation, image=columns.image, captions=columns.captions)
        return make_retrieval(
            root, annotation, sha256, captioned, name=task.name, split=split, max_words=max_words, limit=limit
        )
    reader = {"karpathy": read_retrieval, "msrvtt": read_msrvtt}.get(task.data.reader)
    if reader is None:
        raise UsageError(
            f"{task.name}: data.reader: retrieval reads karpathy, table and msrvtt, not {task.data.reader!r}"
        )
    return reader(root, annotation, name=task.name, split=split, max_words=max_words, limit=limit)


def load(task: RetrievalTask, checkpoint: Checkpoint, runtime: Runtime) -> BlipRunner:
    model = BlipRetrieval(at_image_size(task, checkpoint.config))
    load_weights(model, checkpoint, task.name)
    return BlipRunner(model, load_tokenizer(checkpoint.vocab), runtime)


def build(task: RetrievalTask, model: DualEncoder, dataset: RetrievalDataset, workers: int) -> Protocol:
    settings = task.settings
    return build_retrieval(
        model,
        dataset,
        k_test=settings.k_test,
        max_tokens=settings.max_tokens,
        rerank=settings.rerank == "itm",
        workers=workers,
    )


def build_retrieval(
    model: DualEncoder, dataset: RetrievalDataset, *, k_test: int, max_tokens: int, rerank: bool, workers: int
) -> Protocol:
    """If `k_test` is larger than the collection, everything is a candidate."""
    input_ids = model.tokenize(dataset.texts, max_tokens)
    cache = TokenCache(model.runtime.cache_bytes // 2 if rerank else 0, len(dataset.sources))
    embed = Embed(model, dataset, input_ids, cache, workers)
    stages: list[Stage] = [embed]
    if rerank:
        matching = cast(MatchingEncoder, model)  # a model that cannot match was refused before
        stages.append(Rerank(matching, dataset, input_ids, cache, workers, k_test))
    return Protocol(stages, score, functools.partial(check_sample, model, dataset, input_ids))


def needs(task: RetrievalTask) -> dict[str, str]:
    match = {"match": "use --rerank none"} if task.settings.rerank == "itm" else {}
    return {"embed_images": "", "embed_texts": "", **match}


RETRIEVAL = Recipe(read, load, build, score, stages={"embed": EMBED_ROWS, "rerank": RERANK_ROWS}, needs=needs)
