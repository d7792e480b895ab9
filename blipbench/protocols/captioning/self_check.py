"""The self-check of a captioning run: the plain model scores a few captions again and searches for some again."""

import numpy as np

from blipbench.protocols.base import Samples, SelfCheck
from blipbench.protocols.captioning.stages import CaptionImages
from blipbench.protocols.pixels import decode_again

CHECKED, SEARCHED_AGAIN = 8, 2  # images; one plain search takes as long as dozens of fast ones


def check_sample(stage: CaptionImages, samples: Samples, seed: int) -> SelfCheck:
    """The plain model scores `CHECKED` captions, and searches again for the first `SEARCHED_AGAIN` of them."""
    model, dataset = stage.model, stage.dataset
    rows = samples["caption"].to_pylist()
    image_of = {image_id: image for image, image_id in enumerate(dataset.image_ids)}
    chosen = [rows[i] for i in np.random.default_rng(seed).permutation(len(rows))[:CHECKED]]
    images = [image_of[row["image_id"]] for row in chosen]
    plain: list[float] = []
    changed = 0
    again = decode_again([dataset.sources[image] for image in images], model.vision, dataset.upright)
    for place, (row, image, pixels) in enumerate(zip(chosen, images, again, strict=True)):
        tokens = model.plain_tokens(pixels)
        plain.append(model.plain_log_prob(tokens, row["token_ids"], stage.prompt))
        if place < SEARCHED_AGAIN:
            caption = model.plain_caption(tokens, stage.prompt, stage.settings, stage.sampling_seed(image))
            changed += caption.text != row["caption"]
    fast = np.array([row["log_prob"] for row in chosen])
    deviation = float(np.abs(fast - plain).max() / np.abs(plain).max())
    return SelfCheck("captions", len(chosen), deviation, "captions", changed, min(len(chosen), SEARCHED_AGAIN))
