"""Neither picking candidates nor ranking by ITC ever holds an array of all images x all texts."""

import tracemalloc
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: PLC2701 (torch documents it under this name alone)

from blipbench.inference import similarity
from blipbench.protocols.retrieval.candidates import find_candidates
from blipbench.protocols.retrieval.score import Embeddings, itc_ranks

IMAGES, TEXTS, EMBED_DIM, K_TEST = 2_000, 10_000, 16, 8
BLOCK_BYTES = 2**20


class LargestTensor(TorchDispatchMode):
    """Notes the bytes of the largest tensor that any operation returns; tracemalloc sees only numpy's arrays."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.nbytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        made = out if isinstance(out, tuple | list) else [out]
        self.nbytes = max([self.nbytes, *(x.nbytes for x in made if isinstance(x, torch.Tensor))])
        return out


@pytest.fixture
def embeddings(monkeypatch: pytest.MonkeyPatch) -> Embeddings:
    """Random ones, to be gone through in blocks of a megabyte."""
    monkeypatch.setattr(similarity, "BLOCK_BYTES", BLOCK_BYTES)
    generator = torch.Generator().manual_seed(0)
    images = torch.nn.functional.normalize(torch.randn(IMAGES, EMBED_DIM, generator=generator), dim=-1)
    texts = torch.nn.functional.normalize(torch.randn(TEXTS, EMBED_DIM, generator=generator), dim=-1)
    owner = np.repeat(np.arange(IMAGES), TEXTS // IMAGES)
    return Embeddings(np.arange(IMAGES), np.arange(TEXTS), images, texts, owner, is_video=False)


def test_candidates_are_found_block_by_block(embeddings: Embeddings) -> None:
    tracemalloc.start()
    try:
        with LargestTensor() as largest:
            pairs = sum(len(c.texts) for c in find_candidates(embeddings, K_TEST, torch.device("cpu")))
        numpy_peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (TEXTS * K_TEST) < pairs <= (IMAGES + TEXTS) * K_TEST
    assert largest.nbytes <= 2 * BLOCK_BYTES  # a block's running count of ties is int64, its similarities float32
    assert numpy_peak < IMAGES * TEXTS / 2  # bytes: less than half of what one bool a pair would take


def test_ranks_are_found_block_by_block(embeddings: Embeddings) -> None:
    with LargestTensor() as largest:
        ranks = itc_ranks(embeddings)
    assert len(ranks.text_rank) == IMAGES and len(ranks.image_rank) == TEXTS
    assert largest.nbytes <= BLOCK_BYTES
