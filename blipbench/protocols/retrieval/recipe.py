"""Binds retrieval to its data (Karpathy files, tables, MSRVTT's clips) and to a BLIP model with ITC and ITM heads."""

import functools
from pathlib import Path
from typing import cast

from blipbench.data.dataset import RetrievalDataset
from blipbench.data.files import find_annotation
from blipbench.data.msrvtt import read_msrvtt
from blipbench.data.retrieval import read_retrieval
from blipbench.device import Runtime
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
    annotation, data = find_annotation(root, annotation_of(task, split), task.name), task.data
    if data.reader == "msrvtt":
        return read_msrvtt(root, annotation, name=task.name, split=split, max_words=data.max_words, limit=limit)
    return read_retrieval(
        root,
        annotation,
        name=task.name,
        split=split,
        max_words=data.max_words,
        limit=limit,
        reader=data.reader,
        columns=data.columns,
    )


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
    return Protocol(
        stages, score, functools.partial(check_sample, model, dataset, input_ids), model.unknown_share(input_ids)
    )


def needs(task: RetrievalTask) -> dict[str, str]:
    match = {"match": "use --rerank none"} if task.settings.rerank == "itm" else {}
    return {"embed_images": "", "embed_texts": "", **match}


RETRIEVAL = Recipe(
    read,
    load,
    build,
    score,
    stages={"embed": EMBED_ROWS, "rerank": RERANK_ROWS},
    texts=lambda dataset: dataset.texts,
    needs=needs,
)
