"""The self-check of a question answering run: the plain model answers the questions of a few images again."""

import numpy as np
import pyarrow as pa

from blipbench.data.vqa import VqaDataset
from blipbench.inference.answering import Answerer, BlipVqaRunner
from blipbench.protocols.base import Samples, SelfCheck
from blipbench.protocols.pixels import decode_again

CHECKED_SCORES = 32
QUESTIONS_PER_IMAGE = 4


def check_sample(
    model: BlipVqaRunner, dataset: VqaDataset, answerer: Answerer, samples: Samples, seed: int
) -> SelfCheck:
    """Answers the questions of random images again, until `CHECKED_SCORES` scores are compared."""
    table = samples["answer"]
    images = table.column("image").to_numpy()
    fast: list[float] = []
    plain: list[float] = []
    changed = checked = 0
    for image in np.random.default_rng(seed).permutation(np.unique(images)):
        if len(fast) >= CHECKED_SCORES:
            break
        (pixels,) = decode_again([dataset.sources[image]], model.vision, dataset.upright)
        rows = table.filter(pa.array(images == image)).to_pylist()[:QUESTIONS_PER_IMAGE]
        again = answerer.plain_answers(pixels, [row["index"] for row in rows])
        for row, answer in zip(rows, again, strict=True):
            scores = dict(zip(answer.candidates, answer.scores, strict=True))
            for candidate, value in zip(row["candidates"], row["scores"], strict=True):
                if candidate in scores:  # if two scores are nearly equal, the last candidate may differ
                    fast.append(value)
                    plain.append(scores[candidate])
            changed += answer.text != row["answer"]
        checked += len(rows)
    deviation = float(np.abs(np.subtract(fast, plain)).max() / np.abs(plain).max()) if fast else float("inf")
    return SelfCheck("scores", len(fast), deviation, "answers", changed, checked)
