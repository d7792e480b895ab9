"""What `blipbench data verify` reports: everything that is wrong with a task's data, not only the first problem.

`verify_retrieval` checks an annotation of captions and every image that it names. `verify_dataset` checks the images of
a data set whose reader has found the annotation sound. The shallow check reads the header of every image. The deep
check decodes every image or clip, in worker processes. `evaluation/verify.py` chooses between them.
"""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

from blipbench.config.task import Columns
from blipbench.data.dataset import Clip, Dataset, Source
from blipbench.data.files import find_annotation, find_files
from blipbench.data.images import read_size
from blipbench.data.loader import Squares, load_pixels
from blipbench.data.readers import CAPTION_READERS
from blipbench.data.text import normalise_caption
from blipbench.errors import DataError, DataProblems

Progress = Callable[[int, int], None]  # (images checked, images in all)

_DEEP = Squares(image_size=16, batch=32)  # the file is decoded whole whatever it is then resized to
MANY_UNKNOWN = 0.05  # a larger share of [UNK] tokens is worth a warning


@dataclasses.dataclass(frozen=True)
class VerifyReport:
    """What was checked, and the problems that were found. `images` and `texts` count the sound records."""

    name: str
    split: str
    annotation: Path | None  # None if it is missing
    annotation_sha256: str | None  # None if it could not be read
    images: int
    texts: int
    empty_texts: int  # texts that are only punctuation; they are allowed, the models embed the empty text
    deep: bool
    problems: list[str]
    noun: str = "images"
    unknown_tokens: float | None = None  # share of the texts' tokens that the vocabulary lacks; None if not counted

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
        if self.unknown_tokens is not None:
            kind = "warning" if self.unknown_tokens > MANY_UNKNOWN else "note"
            lines.append(f"{kind}: {self.unknown_tokens:.1%} of the texts' tokens are not in the vocabulary ([UNK])")
        if self.ok:
            depth = "can be decoded" if self.deep else "is there (--deep also decodes them)"
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
    reader: str = "karpathy",
    columns: Columns | None = None,
    deep: bool = False,
    workers: int = 0,
    progress: Progress | None = None,
    unknown: Callable[[list[str]], float] | None = None,
) -> VerifyReport:
    """Check the annotation `filename` under `root`, and every image that it names. `name` is the task's.

    `workers` is the number of decoding processes of the deep check. `unknown` gives the share of the texts' tokens that
    the vocabulary lacks. Problems of the data are in the report, never raised. BlipbenchError is raised only if a
    decoding process dies.
    """
    annotation: Path | None = None
    try:
        annotation = find_annotation(root, filename, name)
        captioned = CAPTION_READERS[reader](annotation, split, columns)
    except DataError as error:
        return failed(name, split, annotation, deep, error)
    files, missing = find_files(root, [(item.image, item.path) for item in captioned.images])
    problems = [*captioned.problems]
    problems += [f"missing under {root}: {image}; run `blipbench data prepare {name}`" for image in missing]
    problems += _check_images([(file,) for file in files], deep, workers, progress)
    texts = [normalise_caption(caption, max_words) for item in captioned.images for caption in item.captions]
    return VerifyReport(
        name=name,
        split=split,
        annotation=annotation,
        annotation_sha256=captioned.sha256,
        images=len(captioned.images),
        texts=len(texts),
        empty_texts=texts.count(""),
        deep=deep,
        problems=problems,
        unknown_tokens=unknown(texts) if unknown and texts else None,
    )


def verify_dataset(
    dataset: Dataset,
    name: str,
    texts: list[str],
    *,
    deep: bool = False,
    workers: int = 0,
    progress: Progress | None = None,
    unknown: Callable[[list[str]], float] | None = None,
) -> VerifyReport:
    """Check every image or clip of a data set that its reader could read. `texts` are those that a model reads.

    The shallow check does not open videos. Otherwise as `verify_retrieval`.
    """
    is_video = any(isinstance(source, Clip) for source in dataset.sources)
    return VerifyReport(
        name=name,
        split=dataset.split,
        annotation=dataset.annotation,
        annotation_sha256=dataset.annotation_sha256,
        images=len(dataset.sources),
        texts=len(texts),
        empty_texts=texts.count(""),
        deep=deep,
        problems=_check_images(dataset.sources, deep, workers, progress),
        noun="clips" if is_video else "images",
        unknown_tokens=unknown(texts) if unknown and texts else None,
    )


def failed(name: str, split: str, annotation: Path | None, deep: bool, error: DataError) -> VerifyReport:
    """The report if the data cannot be read."""
    problems = error.problems if isinstance(error, DataProblems) else [str(error)]
    return VerifyReport(name, split, annotation, None, 0, 0, 0, deep, problems)


def _check_images(sources: Sequence[Source], deep: bool, workers: int, progress: Progress | None) -> list[str]:
    return _undecodable(sources, workers, progress) if deep else _unreadable_headers(sources, progress)


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
