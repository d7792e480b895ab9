"""Computes the metrics of a question answering run from its samples, and the file that the benchmark's server takes.

If the answers are not public, that file is the only output.
"""

import dataclasses

import numpy as np

from blipbench.metrics.metric import Metrics
from blipbench.metrics.vqa import vqa_metrics
from blipbench.protocols.base import Samples

SERVER_FILE = "vqa_result.json"


def score(samples: Samples, seed: int) -> Metrics:
    """The metrics, if the samples hold ground truth, and always the file for the server."""
    rows = samples["answer"].sort_by("index").to_pylist()
    server_file = [{"question_id": row["question_id"], "answer": row["answer"]} for row in rows]
    if rows[0]["answers"] is None:
        note = f"this split has no public answers: submit {SERVER_FILE} to the benchmark's server to learn the accuracy"
        return Metrics({}, {}, (note,), {SERVER_FILE: server_file})
    metrics = vqa_metrics(
        [row["answer"] for row in rows],
        [row["answers"] for row in rows],
        [row["answer_type"] for row in rows],
        np.array([row["image"] for row in rows]),
        seed=seed,
    )
    return dataclasses.replace(metrics, exports={**metrics.exports, SERVER_FILE: server_file})
