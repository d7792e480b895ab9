"""Captioning: a sentence for each image, compared with what people wrote (BLIP, section 5.2).

One stage, `caption`; a unit is an image. Beside the metrics, the run writes `captions.json` as the benchmarks' servers
take it. Where references are not public that file is all there is.
"""

import dataclasses
import zlib
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from blipbench.data.captions import CaptionDataset
from blipbench.data.loader import load_pixels
from blipbench.errors import DataError
from blipbench.inference.captioner import BlipCaptionRunner
from blipbench.inference.search import SearchSettings
from blipbench.metrics.captions import caption_metrics
from blipbench.metrics.metric import Metrics
from blipbench.protocols.base import Sample, Samples, SelfCheck, Stage, Unit

EXPORT = "captions.json"
CHECKED, SEARCHED_AGAIN = 8, 2  # images of the self-check; a plain search takes as long as dozens of fast ones

CAPTION_ROWS = pa.schema(
    [
        ("image_id", pa.int64()),
        ("file", pa.string()),
        ("caption", pa.string()),
        ("token_ids", pa.list_(pa.int32())),  # [DEC] and the prompt first
        ("log_prob", pa.float64()),  # of the tokens after the prompt, by the model without penalties
        ("references", pa.list_(pa.string())),
        ("domain", pa.string()),
    ]
)


@dataclasses.dataclass(frozen=True)
class Captioning:
    """One captioning run."""

    caption: "CaptionImages"

    @property
    def stages(self) -> Sequence[Stage]:
        return [self.caption]

    def score(self, samples: Samples, seed: int) -> Metrics:
        return score(samples, seed)

    def self_check(self, samples: Samples, seed: int) -> SelfCheck:
        return check_sample(self.caption, samples, seed)


def build_captioning(
    model: BlipCaptionRunner, dataset: CaptionDataset, *, prompt: str, settings: SearchSettings, seed: int, workers: int
) -> Captioning:
    """`seed` is that of nucleus sampling. Raises UsageError where prompt and lengths do not fit the model."""
    model.check(prompt, settings)
    return Captioning(CaptionImages(model, dataset, prompt, settings, seed, workers))


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


@dataclasses.dataclass(frozen=True)
class CaptionImages:
    """Captions: a unit is one image. As many images as suit the decoder are captioned together."""

    model: BlipCaptionRunner
    dataset: CaptionDataset
    prompt: str
    settings: SearchSettings
    seed: int
    workers: int
    name: str = "caption"
    noun: str = "images"
    schema: pa.Schema = CAPTION_ROWS

    def units(self, earlier: Samples) -> list[Unit]:
        cost = self.model.caption_flops(self.prompt, self.settings)
        return [Unit(f"image-{i}", cost, 1, i) for i in range(len(self.dataset.sources))]

    def run(self, units: Sequence[Unit]) -> Iterator[Sample]:
        size = self.model.batch(self.settings)
        waiting: list[tuple[Unit, Tensor]] = []  # encoded, until there are enough for the decoder
        sources = [self.dataset.sources[unit.payload] for unit in units]
        vision = self.model.vision
        for batch in load_pixels(sources, image_size=vision.image_size, batch_size=vision.batch, workers=self.workers):
            yield from (Sample(units[at].id, error=reason) for at, reason in batch.failures)
            if batch.indices:
                encoded = self.model.encode_images(batch.pixels)
                waiting += [(units[at], tokens) for at, tokens in zip(batch.indices, encoded, strict=True)]
            while len(waiting) >= size:
                yield from self._caption(waiting[:size])
                waiting = waiting[size:]
        if waiting:
            yield from self._caption(waiting)

    def sampling_seed(self, image: int) -> int:
        """Of the image alone, so that no batch, rank or resume changes what is drawn for it."""
        return zlib.crc32(f"{self.seed} {self.dataset.image_ids[image]}".encode())

    def _caption(self, encoded: Sequence[tuple[Unit, Tensor]]) -> Iterator[Sample]:
        images = [unit.payload for unit, _ in encoded]
        tokens = torch.stack([tokens for _, tokens in encoded])  # [n, T, image_width]
        seeds = [self.sampling_seed(image) for image in images]
        captions = self.model.caption(tokens, self.prompt, self.settings, seeds)
        data = self.dataset
        for (unit, _), image, caption in zip(encoded, images, captions, strict=True):
            row = {
                "image_id": data.image_ids[image],
                "file": data.names[image],
                "caption": caption.text,
                "token_ids": caption.ids,
                "log_prob": caption.log_prob,
                "references": data.references[image],
                "domain": data.domains[image],
            }
            yield Sample(unit.id, [row])


def check_sample(stage: CaptionImages, samples: Samples, seed: int) -> SelfCheck:
    """A few captions read again as a whole by the plain model, and the first of them searched again the plain way."""
    model, dataset = stage.model, stage.dataset
    rows = samples["caption"].to_pylist()
    image_of = {image_id: image for image, image_id in enumerate(dataset.image_ids)}
    chosen = [rows[i] for i in np.random.default_rng(seed).permutation(len(rows))[:CHECKED]]
    images = [image_of[row["image_id"]] for row in chosen]
    plain: list[float] = []
    changed = 0
    sources = [dataset.sources[image] for image in images]
    batches = load_pixels(sources, image_size=model.vision.image_size, batch_size=1, workers=0)
    for place, (row, image, batch) in enumerate(zip(chosen, images, batches, strict=True)):
        if batch.failures:
            raise DataError(f"self-check: {batch.failures[0][1]}; it could be read before, so the data has changed")
        tokens = model.plain_tokens(batch.pixels)
        plain.append(model.plain_log_prob(tokens, row["token_ids"], stage.prompt))
        if place < SEARCHED_AGAIN:
            again = model.plain_caption(tokens, stage.prompt, stage.settings, stage.sampling_seed(image))
            changed += again.text != row["caption"]
    fast = np.array([row["log_prob"] for row in chosen])
    deviation = float(np.abs(fast - plain).max() / np.abs(plain).max())
    return SelfCheck("captions", len(chosen), deviation, "captions", changed, min(len(chosen), SEARCHED_AGAIN))
