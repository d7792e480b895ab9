"""Captioning: a sentence for each image, compared with what people wrote (BLIP, section 5.2).

There is one stage, `caption`. A unit is an image. The run also writes `captions.json` in the format of the benchmarks'
servers. If the references are not public, that file is the only output.
"""

import dataclasses
import zlib
from collections.abc import Iterator, Sequence

import pyarrow as pa
import torch
from torch import Tensor

from blipbench.data.captions import CaptionDataset
from blipbench.inference.captioner import BlipCaptionRunner
from blipbench.inference.search import SearchSettings
from blipbench.protocols.base import Outcome, Sample, Samples, Unit
from blipbench.protocols.pixels import Decoded, decode_units

CAPTION_ROWS = pa.schema(
    [
        ("image_id", pa.int64()),
        ("file", pa.string()),
        ("caption", pa.string()),
        ("token_ids", pa.list_(pa.int32())),  # [DEC] and the prompt first
        ("log_prob", pa.float64()),  # of the tokens after the prompt, without penalties
        ("references", pa.list_(pa.string())),
        ("domain", pa.string()),
    ]
)


@dataclasses.dataclass(frozen=True)
class CaptionImages:
    """Captions: a unit is one image. The decoder captions several images at once."""

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

    def run(self, units: Sequence[Unit]) -> Iterator[Outcome]:
        size = self.model.batch(self.settings)
        waiting: list[tuple[Unit, Tensor]] = []  # encoded images, until there are enough for the decoder
        sources = [self.dataset.sources[unit.payload] for unit in units]
        for batch in decode_units(units, sources, self.model.vision, self.workers, self.dataset.upright):
            if not isinstance(batch, Decoded):
                yield batch
                continue
            waiting += zip(batch.units, self.model.encode_images(batch.pixels), strict=True)
            while len(waiting) >= size:
                yield from self._caption(waiting[:size])
                waiting = waiting[size:]
        if waiting:
            yield from self._caption(waiting)

    def sampling_seed(self, image: int) -> int:
        """Depends on the image alone, so that batches, ranks and resumes do not change what is sampled for it."""
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
