"""Benchmarks: how each is run and scored. `build` binds a protocol to a model and data; `score` needs neither."""

from blipbench.config import TaskSpec
from blipbench.data.dataset import RetrievalDataset
from blipbench.inference.blip import BlipRunner
from blipbench.metrics.metric import Metrics
from blipbench.protocols import retrieval_score
from blipbench.protocols.base import Protocol, Samples
from blipbench.protocols.retrieval import build_retrieval

STAGES = {"retrieval": ("embed", "rerank")}
SCORERS = {"retrieval": retrieval_score.score}


def build(task: TaskSpec, model: BlipRunner, dataset: RetrievalDataset, workers: int) -> Protocol:
    settings = task.settings
    return build_retrieval(
        model,
        dataset,
        k_test=settings.k_test,
        max_tokens=settings.max_tokens,
        rerank=settings.rerank == "itm",
        workers=workers,
    )


def score(protocol: str, samples: Samples, seed: int) -> Metrics:
    """The metrics of a finished run from its samples."""
    return SCORERS[protocol](samples, seed)
