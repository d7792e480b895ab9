"""Computes the accuracy of an NLVR2 run from its samples."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from blipbench.metrics.metric import Metrics
from blipbench.metrics.nlvr import nlvr_metrics
from blipbench.models.nlvr import TRUE
from blipbench.protocols.base import Samples


def score(samples: Samples, seed: int) -> Metrics:
    table = samples["reason"].sort_by("index")
    label = table.column("label").to_numpy(zero_copy_only=False).astype(bool)
    pair = table.column("pair").to_numpy().astype(np.int64)
    return nlvr_metrics(judged_true(read_logits(table)) == label, pair, table.column("split")[0].as_py(), seed)


def read_logits(table: pa.Table) -> npt.NDArray[np.float32]:
    """The logits of each sentence, [sentences, 2]: false, true."""
    flat: npt.NDArray[np.float32] = table.column("logits").combine_chunks().flatten().to_numpy()
    return flat.reshape(-1, 2)


def judged_true(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    judged: npt.NDArray[np.bool_] = logits.argmax(1) == TRUE
    return judged
