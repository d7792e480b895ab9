"""Computes the metrics of a captioning run from its samples, and the file that benchmark servers take, `captions.json`.

If the references are not public, that file is the only output.
"""

import dataclasses

from blipbench.metrics.captions import caption_metrics
from blipbench.metrics.metric import Metrics
from blipbench.protocols.base import Samples

EXPORT = "captions.json"


def score(samples: Samples, seed: int) -> Metrics:
    rows = samples["caption"].to_pylist()
    captions = {row["image_id"]: row["caption"] for row in rows}
    export = [{"image_id": image_id, "caption": caption} for image_id, caption in captions.items()]
    references = {row["image_id"]: row["references"] for row in rows if row["references"]}
    if len(references) < len(captions):
        note = f"no reference captions of this split were at hand, so nothing is scored; {EXPORT} is for the server"
        return Metrics({}, {}, notes=(note,), exports={EXPORT: export})
    domains = {row["image_id"]: row["domain"] for row in rows if row["domain"] is not None}
    metrics = caption_metrics(captions, references, seed=seed, domains=domains or None)
    return dataclasses.replace(metrics, exports={**metrics.exports, EXPORT: export})
