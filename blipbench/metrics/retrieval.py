"""Recall of image-text retrieval from ranks: R@1, R@5 and R@10 in percent, in both directions, as in the reference.

Text retrieval uses, for each image, the best rank of its captions. Image retrieval uses, for each text, the rank of its
image. `txt_*` is image-to-text. `img_*` is text-to-image; for video clips it is `vid_*`, with the median rank.
"""

import numpy as np
import numpy.typing as npt

from blipbench.metrics import bootstrap
from blipbench.metrics.metric import Metric, Metrics

CUTOFFS = (1, 5, 10)

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def retrieval_metrics(text_rank: Ints, image_rank: Ints, image_of_text: Ints, is_video: bool, seed: int) -> Metrics:
    """text_rank: [images], image_rank: [texts], 0 = first. image_of_text: [texts], the index of each text's image."""
    images = len(text_rank)
    weights = bootstrap.draw_weights(images, seed)
    texts_per_image = np.bincount(image_of_text, minlength=images).astype(np.float64)
    visual = "vid" if is_video else "img"
    values: dict[str, Metric] = {}
    draws: dict[str, Floats] = {}

    def add(name: str, value: float, drawn: Floats) -> None:
        draws[name] = drawn
        values[name] = Metric(value, *bootstrap.interval(drawn))

    def add_direction(prefix: str, ranks: Ints, owner: Ints, counts: Floats) -> None:
        for cutoff in CUTOFFS:
            hits = (ranks < cutoff).astype(np.float64)
            per_image: Floats = np.bincount(owner, weights=hits, minlength=images).astype(np.float64)
            drawn = 100 * bootstrap.resampled_ratio(weights, per_image, counts)
            add(f"{prefix}_r{cutoff}", float(100 * hits.sum() / len(hits)), drawn)
        add_mean(f"{prefix}_r_mean", [f"{prefix}_r{cutoff}" for cutoff in CUTOFFS])

    def add_mean(name: str, parts: list[str]) -> None:
        add(name, sum(values[p].value for p in parts) / len(parts), np.mean([draws[p] for p in parts], axis=0))

    add_direction("txt", text_rank, np.arange(images), np.ones(images))
    add_direction(visual, image_rank, image_of_text, texts_per_image)
    if is_video:
        medians = [np.median(np.repeat(image_rank, row[image_of_text])) + 1 for row in weights]
        add("vid_mdR", float(np.median(image_rank) + 1), np.array(medians))
    add_mean("r_mean", ["txt_r_mean", f"{visual}_r_mean"])
    return Metrics(values, {"txt_rank": text_rank, f"{visual}_rank": image_rank, "image_of_text": image_of_text})
