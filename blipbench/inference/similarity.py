"""ITC candidates and ranks, computed in blocks: the whole queries x keys matrix is never in memory.

Embeddings are [n, embed_dim] float32 with unit norm. Equal similarities are ordered by ascending index.
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

BLOCK_BYTES = 2 * 2**20


def top_candidates(queries: Tensor, keys: Tensor, k: int) -> npt.NDArray[np.int32]:
    """The indices of the k most similar keys of each query, in ascending order: [queries, min(k, keys)]."""
    k = min(k, len(keys))
    picked = np.empty((len(queries), k), np.int32)  # first: an array between freed buffers would pin memory
    done = 0
    for block in _blocks(queries, keys):
        similarity = block @ keys.T  # [block, keys]
        threshold = similarity.topk(k, dim=1).values[:, -1:]
        above = similarity > threshold
        tied = similarity == threshold
        wanted = k - above.sum(1, keepdim=True)
        chosen = above | (tied & (tied.cumsum(1, dtype=torch.int32) <= wanted))
        picked[done : done + len(block)] = chosen.nonzero()[:, 1].view(-1, k).cpu().numpy()
        done += len(block)
    return picked


def rank_of(queries: Tensor, keys: Tensor, targets: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The rank (0 = most similar) of each query's target key among all keys: [queries]."""
    ranks = np.empty(len(queries), np.int64)
    positions = torch.arange(len(keys), device=keys.device)
    target = torch.from_numpy(targets).to(keys.device)
    done = 0
    for block in _blocks(queries, keys):
        similarity = block @ keys.T
        wanted = target[done : done + len(block), None]
        score = similarity.gather(1, wanted)
        ahead = (similarity > score) | ((similarity == score) & (positions < wanted))
        ranks[done : done + len(block)] = ahead.sum(1).cpu().numpy()
        done += len(block)
    return ranks


def best_rank(queries: Tensor, keys: Tensor, owner: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The best rank (0 = most similar) of any key that each query owns: [queries]. Key j is owned by query `owner[j]`.

    The rank of a query without keys is the largest integer.
    """
    ranks = np.empty(len(queries), np.int64)
    positions = torch.arange(len(keys), device=keys.device)
    owners = torch.from_numpy(owner).to(keys.device)
    done = 0
    for block in _blocks(queries, keys):
        similarity = block @ keys.T
        owned = owners == torch.arange(done, done + len(block), device=keys.device)[:, None]
        own = similarity.masked_fill(~owned, -torch.inf)
        score = own.amax(1, keepdim=True)
        wanted = (owned & (own == score)).int().argmax(1, keepdim=True)  # the first of equal ones
        ahead = (similarity > score) | ((similarity == score) & (positions < wanted))
        found = ahead.sum(1).masked_fill(~owned.any(1), torch.iinfo(torch.int64).max)
        ranks[done : done + len(block)] = found.cpu().numpy()
        done += len(block)
    return ranks


def _blocks(queries: Tensor, keys: Tensor) -> tuple[Tensor, ...]:
    rows = max(1, BLOCK_BYTES // (4 * max(1, len(keys))))
    return queries.split(rows) if len(queries) else ()
