"""Computes ranks and metrics from the samples of a retrieval run, without a model or pixels.

The candidates of a query are ordered by ITM logit + ITC similarity. Everything else comes after them, ordered by ITC
similarity. Equal scores are ordered by index. The candidates are the first k by ITC, so the rank of an item that is not
a candidate is its rank by ITC alone.
"""

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor

from blipbench.inference.similarity import best_rank, rank_of
from blipbench.metrics.metric import Metrics
from blipbench.metrics.retrieval import retrieval_metrics
from blipbench.protocols.base import Samples

Ints = npt.NDArray[np.int64]
Places = npt.NDArray[np.int32]
Scores = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


@dataclasses.dataclass(frozen=True)
class Embeddings:
    """The output of the embed stage.

    `image_ids` and `text_ids` are ascending indices into the data set. An item that failed is missing, and so are the
    texts of an image that failed. `owner[t]` is the place of the image of text t.
    """

    image_ids: Ints
    text_ids: Ints
    images: Tensor  # [images, embed_dim]
    texts: Tensor  # [texts, embed_dim]
    owner: Ints
    is_video: bool


@dataclasses.dataclass(frozen=True)
class Pairs:
    """Scored pairs by their places in `Embeddings`. The flags say in which direction a pair is a candidate.

    There may be many millions of pairs, so a pair takes 18 bytes. Scores are added in float64.
    """

    image: Places
    text: Places
    itm: Scores
    itc: Scores
    for_image: Flags
    for_text: Flags


@dataclasses.dataclass(frozen=True)
class Ranks:
    text_rank: Ints  # [images] best rank of an image's texts
    image_rank: Ints  # [texts]


def read_embeddings(table: pa.Table) -> Embeddings:
    kinds = table.column("kind").to_numpy(zero_copy_only=False)
    index = table.column("index").to_numpy().astype(np.int64)
    owner = table.column("image").to_numpy().astype(np.int64)
    flat = table.column("embedding").combine_chunks().flatten().to_numpy()
    embeddings = torch.from_numpy(flat.reshape(len(index), -1).copy())
    is_text = kinds == "text"
    image_rows = np.flatnonzero(~is_text)
    image_rows = image_rows[np.argsort(index[image_rows])]
    image_ids = index[image_rows]
    text_rows = np.flatnonzero(is_text & np.isin(owner, image_ids))
    text_rows = text_rows[np.argsort(index[text_rows])]
    return Embeddings(
        image_ids=image_ids,
        text_ids=index[text_rows],
        images=embeddings[torch.from_numpy(image_rows)],
        texts=embeddings[torch.from_numpy(text_rows)],
        owner=np.searchsorted(image_ids, owner[text_rows]),
        is_video=bool(np.any(kinds == "clip")),
    )


def read_pairs(table: pa.Table, embeddings: Embeddings) -> Pairs:
    """Pairs of images or texts that are not in `embeddings` are left out."""
    columns = {name: table.column(name).combine_chunks() for name in table.column_names if name != "unit"}
    counts = np.diff(columns["texts"].offsets.to_numpy())
    images = np.repeat(_places(embeddings.image_ids, columns["image"].to_numpy()), counts)
    texts = _places(embeddings.text_ids, columns["texts"].flatten().to_numpy())
    keep = (images >= 0) & (texts >= 0)

    def flat(name: str) -> npt.NDArray[Any]:
        values: npt.NDArray[Any] = columns[name].flatten().to_numpy(zero_copy_only=False)
        return values[keep]

    return Pairs(images[keep], texts[keep], flat("itm"), flat("itc"), flat("for_image"), flat("for_text"))


def _places(ids: Ints, asked: npt.NDArray[np.int32]) -> Places:
    """The place of each of `asked` in the ascending `ids`, or -1 if it is not there."""
    places = np.full(max(int(ids.max(initial=-1)), int(asked.max(initial=-1))) + 1, -1, np.int32)
    places[ids] = np.arange(len(ids))
    found: Places = places[asked]
    return found


def itc_ranks(embeddings: Embeddings) -> Ranks:
    return Ranks(
        best_rank(embeddings.images, embeddings.texts, embeddings.owner),
        rank_of(embeddings.texts, embeddings.images, embeddings.owner),
    )


def candidate_ranks(embeddings: Embeddings, pairs: Pairs) -> Ranks:
    """Ranks by score among the candidates of a query, or -1 if no true item is a candidate."""
    score = np.add(pairs.itm, pairs.itc, dtype=np.float64)
    return Ranks(
        _rank_candidates(pairs.image, pairs.text, score, pairs.for_image, embeddings, asking_images=True),
        _rank_candidates(pairs.text, pairs.image, score, pairs.for_text, embeddings, asking_images=False),
    )


def rerank(embeddings: Embeddings, pairs: Pairs) -> Ranks:
    """Ranks after reranking: by score among the candidates of a query, otherwise as by ITC."""
    by_itc, by_score = itc_ranks(embeddings), candidate_ranks(embeddings, pairs)
    return Ranks(
        np.where(by_score.text_rank < 0, by_itc.text_rank, by_score.text_rank),
        np.where(by_score.image_rank < 0, by_itc.image_rank, by_score.image_rank),
    )


def _rank_candidates(
    query: Places, item: Places, score: Floats, candidate: Flags, embeddings: Embeddings, asking_images: bool
) -> Ints:
    """For each query, the rank of its best true item among its candidates, or -1 if no true item is a candidate."""
    query, item, score = query[candidate], item[candidate], score[candidate]
    queries = len(embeddings.image_ids) if asking_images else len(embeddings.text_ids)
    true = embeddings.owner[item] == query if asking_images else embeddings.owner[query] == item
    best_score, best_item = np.full(queries, -np.inf), np.full(queries, -1)
    at = np.flatnonzero(true)
    # Ascending, so that the best is kept (the lowest index if scores are equal).
    at = at[np.lexsort((-item[at], score[at]))]
    best_score[query[at]], best_item[query[at]] = score[at], item[at]
    bar, place = best_score[query], best_item[query]
    ahead = (score > bar) | ((score == bar) & (item < place))
    return np.where(best_item < 0, -1, np.bincount(query[ahead], minlength=queries))


def rank_samples(samples: Samples) -> tuple[Embeddings, Ranks]:
    embeddings = read_embeddings(samples["embed"])
    if "rerank" in samples:
        return embeddings, rerank(embeddings, read_pairs(samples["rerank"], embeddings))
    return embeddings, itc_ranks(embeddings)


def score(samples: Samples, seed: int) -> Metrics:
    embeddings, ranks = rank_samples(samples)
    return retrieval_metrics(ranks.text_rank, ranks.image_rank, embeddings.owner, embeddings.is_video, seed)
