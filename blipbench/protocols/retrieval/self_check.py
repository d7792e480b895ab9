"""The self-check of a retrieval run: the plain model scores a seeded sample of pairs again."""

import dataclasses

import numpy as np
import numpy.typing as npt

from blipbench.data.dataset import RetrievalDataset
from blipbench.inference.capabilities import DualEncoder
from blipbench.protocols.base import Samples, SelfCheck
from blipbench.protocols.pixels import decode_again
from blipbench.protocols.retrieval import score as retrieval_score
from blipbench.protocols.retrieval.score import Embeddings, Pairs, Ranks, Scores

IMAGES = 4
PAIRS = 32


def check_sample(
    model: DualEncoder, dataset: RetrievalDataset, input_ids: list[list[int]], samples: Samples, seed: int
) -> SelfCheck:
    """Checks at least 32 pairs of at least four images, or all of them if there are fewer."""
    embeddings = retrieval_score.read_embeddings(samples["embed"])
    pairs = _scored_pairs(samples, embeddings, seed)
    at = _choose(pairs, seed)
    plain_itm, plain_itc = pairs.itm.copy(), pairs.itc.copy()
    for image in np.unique(pairs.image[at]):
        mine = at[pairs.image[at] == image]
        (pixels,) = decode_again([dataset.sources[embeddings.image_ids[image]]], model.vision, dataset.upright)
        itm, itc = model.plain_scores(pixels, [input_ids[embeddings.text_ids[t]] for t in pairs.text[mine]])
        plain_itc[mine] = itc.numpy()
        if itm is not None:
            plain_itm[mine] = itm.numpy()
    deviation = _deviation(pairs.itc[at], plain_itc[at])
    if "rerank" not in samples:
        return SelfCheck("pairs", len(at), deviation, "ranks", 0, 0)
    deviation = max(deviation, _deviation(pairs.itm[at], plain_itm[at]))
    # Ranks by ITC alone are the same in both, so those of the candidates suffice.
    fast = retrieval_score.candidate_ranks(embeddings, pairs)
    plain = retrieval_score.candidate_ranks(embeddings, dataclasses.replace(pairs, itm=plain_itm, itc=plain_itc))
    images, texts = np.unique(pairs.image[at]), np.unique(pairs.text[at])
    return SelfCheck("pairs", len(at), deviation, "ranks", _changed(fast, plain), len(images) + len(texts))


def _scored_pairs(samples: Samples, embeddings: Embeddings, seed: int) -> Pairs:
    """The pairs that rerank scored. Without rerank: each of a few random images with a few random texts."""
    if "rerank" in samples:
        return retrieval_score.read_pairs(samples["rerank"], embeddings)
    rng = np.random.default_rng(seed)
    images = rng.permutation(len(embeddings.image_ids))[:IMAGES]
    texts = rng.permutation(len(embeddings.text_ids))[: PAIRS // IMAGES]
    itc: Scores = (embeddings.images[images] @ embeddings.texts[texts].T).numpy().ravel()
    none = np.zeros(len(itc), bool)
    image, text = np.repeat(images, len(texts)).astype(np.int32), np.tile(texts, len(images)).astype(np.int32)
    return Pairs(image, text, np.zeros_like(itc), itc, none, none)


def _choose(pairs: Pairs, seed: int) -> npt.NDArray[np.int64]:
    """Random pairs of random images: as few images as are needed for enough pairs."""
    rng = np.random.default_rng(seed)
    chosen: list[npt.NDArray[np.int64]] = []
    for image in rng.permutation(np.unique(pairs.image)):
        mine = np.flatnonzero(pairs.image == image)
        chosen.append(rng.permutation(mine)[: PAIRS // IMAGES])
        if len(chosen) >= IMAGES and sum(map(len, chosen)) >= PAIRS:
            break
    return np.concatenate(chosen)


def _deviation(fast: Scores, plain: Scores) -> float:
    return float(np.abs(fast - plain).max() / np.abs(plain).max())


def _changed(fast: Ranks, plain: Ranks) -> int:
    return int((fast.text_rank != plain.text_rank).sum() + (fast.image_rank != plain.image_rank).sum())
