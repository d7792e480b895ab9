"""`blipbench data verify`: everything that is wrong with a task's data, listed whole rather than up to the first.

In go a data folder and what the task says of its annotation (or the data set that its own reader makes of it), out
comes a VerifyReport. The shallow check reads the annotation and every image's header; the deep one decodes every image
or clip, in worker processes.
"""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

from blipbench.data.dataset import Clip, RetrievalDataset, Source
from blipbench.data.images import read_size
from blipbench.data.karpathy import find_annotation, find_images, parse_records, read_annotation
from blipbench.data.loader import Squares, load_pixels
from blipbench.data.text import normalise_caption
from blipbench.errors import DataError

Progress = Callable[[int, int], None]  # (images checked, images in all)

_DEEP = Squares(image_size=16, batch=32)  # the file is decoded whole whatever it is then resized to


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
    noun: str = "images"

    @property
    def ok(self) -> bool:
        return not self.problems

    def lines(self) -> list[str]:
        """The report as text, for the terminal."""
        lines = [f"{self.name} ({self.split}): {self.images} {self.noun}, {self.texts} texts"]
        if self.annotation_sha256:
            lines.append(f"annotation: {self.annotation} (sha256 {self.annotation_sha256})")
        if self.empty_texts:
            lines.append(f"note: {self.empty_texts} captions are empty after normalisation; they count as texts")
        if self.ok:
            depth = "decodes" if self.deep else "is there (--deep decodes them too)"
            return [*lines, f"ok: every {self.noun.removesuffix('s')} {depth}"]
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
    single = [(source,) for source in sources]
    problems += _undecodable(single, workers, progress) if deep else _unreadable_headers(single, progress)
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


def verify_dataset(
    dataset: RetrievalDataset, *, deep: bool = False, workers: int = 0, progress: Progress | None = None
) -> VerifyReport:
    """Check every image or clip of a data set whose reader has found its annotation sound and its files there.

    Of a video the shallow check sees no more than that. As `verify_retrieval` otherwise.
    """
    check = _undecodable(dataset.sources, workers, progress) if deep else _unreadable_headers(dataset.sources, progress)
    return VerifyReport(
        name=dataset.name,
        split=dataset.split,
        annotation=dataset.annotation,
        annotation_sha256=dataset.annotation_sha256,
        images=len(dataset.sources),
        texts=len(dataset.texts),
        empty_texts=dataset.texts.count(""),
        deep=deep,
        problems=check,
        noun="clips" if dataset.is_video else "images",
    )


def _unreadable_headers(sources: Sequence[Source], progress: Progress | None) -> list[str]:
    problems: list[str] = []
    for checked, source in enumerate(sources, start=1):
        try:
            for path in () if isinstance(source, Clip) else source:
                read_size(path)
        except DataError as error:
            problems.append(str(error))
        if progress is not None:
            progress(checked, len(sources))
    return problems


def _undecodable(sources: Sequence[Source], workers: int, progress: Progress | None) -> list[str]:
    problems: list[str] = []
    checked = 0
    for batch in load_pixels(sources, _DEEP, workers):
        problems += [reason for _, reason in batch.failures]
        checked += len(batch.indices) + len(batch.failures)
        if progress is not None:
            progress(checked, len(sources))
    return problems
