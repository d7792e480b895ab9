"""NLVR2 accuracy in percent. Its interval resamples image pairs, because the sentences about one pair are related.

The names follow the published tables: `dev_acc`, `test_p_acc`.
"""

import numpy as np
import numpy.typing as npt

from blipbench.metrics import bootstrap
from blipbench.metrics.metric import Metric, Metrics

_SPLITS = {"val": "dev", "test": "test_p"}  # NLVR2's names


def nlvr_metrics(correct: npt.NDArray[np.bool_], pair: npt.NDArray[np.int64], split: str, seed: int) -> Metrics:
    """correct, pair: [sentences], whether each prediction is correct, and the number of its image pair."""
    _, pair = np.unique(pair, return_inverse=True)
    sentences = np.bincount(pair).astype(np.float64)  # [pairs]
    right = np.bincount(pair, weights=correct).astype(np.float64)
    drawn = 100 * bootstrap.resampled_ratio(bootstrap.draw_weights(len(sentences), seed), right, sentences)
    accuracy = Metric(float(100 * correct.mean()), *bootstrap.interval(drawn))
    return Metrics({f"{_SPLITS.get(split, split)}_acc": accuracy}, {"correct": correct, "pair": pair})
