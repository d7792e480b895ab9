"""CapFilt: texts of better quality for noisy images from the web (BLIP, arXiv:2201.12086, section 3.3).

A captioner writes one synthetic text T_s for each image by nucleus sampling. A filter drops the web texts T_w and the
synthetic texts that do not match according to its ITM head. The remaining texts train a new model. There are two stages
for `run_stages`:

    caption     the stage of protocols/captioning, applied to the images of the web
    filter      the ITM head, applied to every text of an image

Either stage can be left out (Table 1 of the paper). Without a filter, every text is kept. Without a captioner, there
are only web texts. `judge` turns the samples into the texts of each image, kept or dropped.
"""

import dataclasses
import math
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from blipbench.capfilt.result import JudgedImage, JudgedText
from blipbench.data.captions import CaptionDataset
from blipbench.data.dataset import Source, Video
from blipbench.data.text import normalise_caption
from blipbench.data.web import WEB_WORDS
from blipbench.inference.capabilities import MatchingEncoder
from blipbench.inference.captioner import BlipCaptionRunner
from blipbench.inference.search import SearchSettings
from blipbench.protocols.base import Outcome, Sample, Samples, Stage, Unit
from blipbench.protocols.captioning.stages import CaptionImages
from blipbench.protocols.pixels import Decoded, decode_units

MAX_TOKENS = 35  # of a text that the filter reads; as in retrieval, for which the filter was finetuned

FILTER_ROWS = pa.schema(
    [
        ("image_id", pa.int64()),
        ("file", pa.string()),
        ("text", pa.string()),  # as in the annotation, or as the captioner wrote it
        ("synthetic", pa.bool_()),
        ("no_match", pa.float32()),  # the ITM head's two logits
        ("match", pa.float32()),
        ("kept", pa.bool_()),  # the logit of 'match' is the larger one
    ]
)


def build_stages(
    dataset: CaptionDataset,
    captioner: BlipCaptionRunner | None,
    matching: MatchingEncoder | None,
    settings: SearchSettings,
    *,
    prompt: str,
    seed: int,
    workers: int,
) -> list[Stage]:
    """Every synthetic caption begins with `prompt`, which is then removed. Each image is sampled with its own seed,
    derived from `seed`. Raises UsageError if the lengths do not fit the captioner."""
    stages: list[Stage] = []
    if captioner is not None:
        captioner.check(prompt, settings)
        stages.append(CaptionImages(captioner, dataset, prompt, settings, seed, workers))
    if matching is not None:
        stages.append(FilterTexts(matching, dataset, workers))
    return stages


@dataclasses.dataclass(frozen=True)
class ImageTexts:
    """All texts of an image, web texts first. `synthetic` says of each whether the captioner wrote it."""

    image: int
    texts: list[str]
    synthetic: list[bool]

    def digest(self) -> str:
        """Identifies the texts, so that a resumed run judges an image again if its texts have changed."""
        return f"{zlib.crc32(repr((self.texts, self.synthetic)).encode()):08x}"


def texts_of_images(dataset: CaptionDataset, samples: Samples) -> Iterator[ImageTexts]:
    """The web texts of each image and, after a caption stage, its synthetic text. Leaves out images that could not be
    captioned."""
    if "caption" not in samples:
        for image, texts in enumerate(dataset.references):
            yield ImageTexts(image, texts, [False] * len(texts))
        return
    for row in samples["caption"].select(["image_id", "caption"]).to_pylist():
        web = dataset.references[row["image_id"]]
        yield ImageTexts(row["image_id"], [*web, row["caption"]], [*[False] * len(web), True])


@dataclasses.dataclass(frozen=True)
class FilterTexts:
    """Both ITM logits of every text. A unit is one image with its texts."""

    model: MatchingEncoder
    dataset: CaptionDataset
    workers: int
    name: str = "filter"
    noun: str = "texts"
    schema: pa.Schema = FILTER_ROWS

    def units(self, earlier: Samples) -> list[Unit]:
        of_image = self.model.image_flops(1) + self.model.context_flops(1)
        of_text = self.model.match_flops(np.arange(MAX_TOKENS + 1), 1)
        units = []
        for texts in texts_of_images(self.dataset, earlier):
            tokens = [min(text.count(" ") + 3, MAX_TOKENS) for text in texts.texts]  # an estimate: one token a word
            cost = of_image + float(of_text[tokens].sum())
            units.append(Unit(f"image-{texts.image}-{texts.digest()}", cost, len(tokens), texts))
        return units

    def run(self, units: Sequence[Unit]) -> Iterator[Outcome]:
        sources = [self.dataset.sources[unit.payload.image] for unit in units]
        for batch in decode_units(units, sources, self.model.vision, self.workers, self.dataset.upright):
            if not isinstance(batch, Decoded):
                yield batch
                continue
            _, tokens = self.model.embed_images(batch.pixels)
            present = batch.units
            normalised = [normalise_caption(text, WEB_WORDS) for unit in present for text in unit.payload.texts]
            matcher = self.model.matcher(self.model.tokenize(normalised, MAX_TOKENS))
            owner = np.repeat(np.arange(len(present)), [unit.items for unit in present])
            logits = matcher.submit(tokens, np.arange(len(owner)), owner).logits()  # [texts of the batch, 2]
            for unit, of_unit in zip(present, logits.split([unit.items for unit in present]), strict=True):
                yield Sample(unit.id, self._rows(unit.payload, of_unit.tolist()))

    def _rows(self, texts: ImageTexts, logits: list[list[float]]) -> list[dict[str, object]]:
        return [
            {
                "image_id": texts.image,
                "file": self.dataset.names[texts.image],
                "text": text,
                "synthetic": synthetic,
                "no_match": no_match,
                "match": match,
                "kept": match > no_match,
            }
            for text, synthetic, (no_match, match) in zip(texts.texts, texts.synthetic, logits, strict=True)
        ]


def judge(dataset: CaptionDataset, samples: Samples) -> list[JudgedImage]:
    """Every image that no stage failed for, with its texts, in the order of the data."""
    by_image: dict[int, list[JudgedText]] = {}
    if "filter" in samples:
        for row in samples["filter"].to_pylist():
            text = JudgedText(row["text"], row["synthetic"], row["kept"], _probability(row["no_match"], row["match"]))
            by_image.setdefault(row["image_id"], []).append(text)
    else:
        for item in texts_of_images(dataset, samples):
            texts = zip(item.texts, item.synthetic, strict=True)
            by_image[item.image] = [JudgedText(text, synthetic, kept=True) for text, synthetic in texts]
    return [
        JudgedImage(dataset.names[image], _file(dataset.sources[image]), tuple(texts))
        for image, texts in by_image.items()
    ]


def _file(source: Source) -> Path:
    return source.path if isinstance(source, Video) else source[0]


def _probability(no_match: float, match: float) -> float:
    """The probability of a match: the softmax of the two logits."""
    return 0.5 * (1 + math.tanh((match - no_match) / 2))
