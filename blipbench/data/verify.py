"""`blipbench data verify`: everything that is wrong with a task's data, listed whole rather than up to the first.

In go a data folder and what the task says of its annotation, out comes a VerifyReport. The shallow check reads the
annotation and every image's header; the deep one decodes every image, in worker processes.
"""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

from blipbench.data.images import read_size
from blipbench.data.karpathy import find_annotation, find_images, parse_records, read_annotation
from blipbench.data.loader import load_pixels
from blipbench.data.text import normalise_caption
from blipbench.errors import DataError

Progress = Callable[[int, int], None]  # (images checked, images in all)

_DEEP_BATCH = 32
_DEEP_SIZE = 16  # pixels; the file is decoded whole whatever it is then resized to


@dataclasses.dataclass(frozen=True)
class VerifyReport:
    """What was checked and what is wrong with it; `images` and `texts` count the sound records."""

    name: str
    split: str
    annotation: Path | None  # None when there is none
    annotation_sha256: str | None  # None when it could not be read
    images: int
    texts: int
    empty_texts: int  # captions that are nothing but punctuation: allowed, the models embed the empty text
    deep: bool
    problems: list[str]

    @property
    def ok(self) -> bool:
        return not self.problems

    def lines(self) -> list[str]:
        """The report as text, for the terminal."""
        lines = [f"{self.name} ({self.split}): {self.images} images, {self.texts} texts"]
        if self.annotation_sha256:
            lines.append(f"annotation: {self.annotation} (sha256 {self.annotation_sha256})")
        if self.empty_texts:
            lines.append(f"note: {self.empty_texts} captions are empty after normalisation; they count as texts")
        if self.ok:
            depth = "every image decodes" if self.deep else "every image is there (--deep decodes them too)"
            return [*lines, f"ok: {depth}"]
        lines.append("1 problem:" if len(self.problems) == 1 else f"{len(self.problems)} problems:")
        return lines + [f"  {problem}" for problem in self.problems]


def verify_retrieval(
    root: Path,
    filename: str,
    *,
    name: str,
    split: str,
    max_words: int,
    deep: bool = False,
    workers: int = 0,
    progress: Progress | None = None,
) -> VerifyReport:
    """Check the annotation `filename` under `root`, and every image it names; `name` is the task's.

    `workers` is the number of decoding processes of the deep check. Faults of the data are in the report's `problems`,
    never raised; BlipbenchError is raised only when a decoding process dies.
    """
    annotation: Path | None = None
    try:
        annotation = find_annotation(root, filename, name)
        records, sha256 = read_annotation(annotation)
    except DataError as error:
        return VerifyReport(name, split, annotation, None, 0, 0, 0, deep, [str(error)])

    captioned, problems = parse_records(records, annotation)
    sources, missing = find_images(root, captioned)
    problems += [f"missing under {root}: {image}; run `blipbench data prepare {name}`" for image in missing]
    problems += _undecodable(sources, workers, progress) if deep else _unreadable_headers(sources, progress)
    captions = [normalise_caption(caption, max_words) for item in captioned for caption in item.captions]
    return VerifyReport(
        name=name,
        split=split,
        annotation=annotation,
        annotation_sha256=sha256,
        images=len(captioned),
        texts=len(captions),
        empty_texts=captions.count(""),
        deep=deep,
        problems=problems,
    )


def _unreadable_headers(sources: Sequence[Path], progress: Progress | None) -> list[str]:
    problems: list[str] = []
    for checked, source in enumerate(sources, start=1):
        try:
            read_size(source)
        except DataError as error:
            problems.append(str(error))
        if progress is not None:
            progress(checked, len(sources))
    return problems


def _undecodable(sources: Sequence[Path], workers: int, progress: Progress | None) -> list[str]:
    problems: list[str] = []
    checked = 0
    single = [(source,) for source in sources]
    for batch in load_pixels(single, image_size=_DEEP_SIZE, batch_size=_DEEP_BATCH, workers=workers):
        problems += [reason for _, reason in batch.failures]
        checked += len(batch.indices) + len(batch.failures)
        if progress is not None:
            progress(checked, len(sources))
    return problems
