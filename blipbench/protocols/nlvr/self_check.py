"""The self-check of an NLVR2 run: the plain model judges all sentences of a few pairs again."""

import numpy as np
import pyarrow as pa

from blipbench.data.nlvr import NlvrDataset
from blipbench.inference.reasoning import NlvrRunner
from blipbench.protocols.base import Samples, SelfCheck
from blipbench.protocols.nlvr.score import judged_true, read_logits
from blipbench.protocols.pixels import decode_again

CHECKED_PAIRS = 4


def check_sample(
    model: NlvrRunner, dataset: NlvrDataset, input_ids: list[list[int]], samples: Samples, seed: int
) -> SelfCheck:
    """Compares the journaled logits of `CHECKED_PAIRS` random units with those of the plain model."""
    table = samples["reason"]
    units = table.column("unit").to_numpy(zero_copy_only=False)
    chosen = np.random.default_rng(seed).permutation(np.unique(units.astype(str)))[:CHECKED_PAIRS]
    fast, plain = [], []
    for unit in chosen:
        rows = table.filter(pa.array(units == unit))
        left, right = dataset.pairs[rows.column("pair")[0].as_py()]
        sources = [dataset.sources[left], dataset.sources[right]]
        left_pixels, right_pixels = decode_again(sources, model.vision, dataset.upright)  # [1, 3, S, S] each
        ids = [input_ids[sentence] for sentence in rows.column("index").to_pylist()]
        plain.append(model.plain_logits(left_pixels[0], right_pixels[0], ids).numpy())
        fast.append(read_logits(rows))
    journaled, recomputed = np.concatenate(fast), np.concatenate(plain)
    deviation = float(np.abs(journaled - recomputed).max() / np.abs(recomputed).max())
    changed = int((judged_true(journaled) != judged_true(recomputed)).sum())
    return SelfCheck("logits", journaled.size, deviation, "judgements", changed, len(journaled))
