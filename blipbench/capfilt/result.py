"""The output of CapFilt: the judged texts, and the record of the run that `result.json` holds."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from blipbench.evaluation.result import DataRecord, Environment, FailureRecord, StageRecord


@dataclasses.dataclass(frozen=True)
class JudgedText:
    """`probability` of a match according to the filter, or None if there was no filter."""

    text: str
    synthetic: bool
    kept: bool
    probability: float | None = None


@dataclasses.dataclass(frozen=True)
class JudgedImage:
    """An image with its web texts, followed by its synthetic text if there is one. `name` is that of the annotation."""

    name: str
    path: Path
    texts: tuple[JudgedText, ...]

    def kept(self, *, synthetic: bool) -> bool:
        """Whether at least one text of this origin was kept."""
        return any(text.kept for text in self.texts if text.synthetic == synthetic)


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TextCounts(_Record):
    kept: int
    dropped: int


class CapfiltCounts(_Record):
    """`images` were judged; `without_text` of them have no text left. `failed` more images could not be read."""

    images: int
    without_text: int
    failed: int
    web: TextCounts
    synthetic: TextCounts


class ModelFile(_Record):
    file: str
    sha256: str
    size: str
    image_size: int


class CapfiltResult(_Record):
    """`settings` of the sampling and of the texts that the filter reads."""

    schema_version: Literal[1] = 1
    status: Literal["complete", "incomplete"]
    created: str
    out: str
    report: str
    counts: CapfiltCounts
    captioner: ModelFile | None
    filter: ModelFile | None
    settings: dict[str, Any]
    data: DataRecord
    failures: list[FailureRecord]
    stages: list[StageRecord]
    environment: Environment
    seed: int


def count(images: Sequence[JudgedImage], failed: int) -> CapfiltCounts:
    texts = [text for image in images for text in image.texts]

    def of(synthetic: bool) -> TextCounts:
        kept = [text.kept for text in texts if text.synthetic == synthetic]
        return TextCounts(kept=sum(kept), dropped=len(kept) - sum(kept))

    without_text = sum(not any(text.kept for text in image.texts) for image in images)
    return CapfiltCounts(
        images=len(images), without_text=without_text, failed=failed, web=of(False), synthetic=of(True)
    )
