"""Checks the data of any task: what `blipbench data verify` calls.

The data set is read as for a run. If its reader finds problems, it lists all of them, and the images that it found are
checked all the same.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from blipbench.config.task import Task
from blipbench.data.dataset import Dataset, Source, Video
from blipbench.data.problems import DataProblems
from blipbench.data.verify import Progress, check_images
from blipbench.errors import DataError
from blipbench.evaluation.result import MANY_UNKNOWN
from blipbench.models.tokenizer import load_tokenizer
from blipbench.protocols.registry import PROTOCOLS

_LONGEST = 512  # tokens


@dataclasses.dataclass(frozen=True)
class VerifyReport:
    """`dataset` is None if its reader found problems. `deep` says that images were decoded.

    `empty_texts` are texts without a word. Models embed the empty text, so they are no problem. `unknown_tokens` is the
    share of the texts' tokens that BLIP's vocabulary lacks, or None without texts.
    """

    name: str
    split: str
    deep: bool
    problems: list[str]
    dataset: Dataset | None = None
    empty_texts: int = 0
    unknown_tokens: float | None = None

    @property
    def ok(self) -> bool:
        return not self.problems

    def lines(self) -> list[str]:
        """The report as text, for the terminal."""
        lines = [f"{self.name} ({self.split})"]
        if self.dataset is not None:
            counts = ", ".join(f"{count} {noun}" for noun, count in self.dataset.counts.items())
            lines = [
                f"{lines[0]}: {counts}",
                f"annotation: {self.dataset.annotation} (sha256 {self.dataset.annotation_sha256})",
            ]
        if self.empty_texts:
            lines.append(f"note: {self.empty_texts} texts are empty after normalisation; they count as texts")
        if self.unknown_tokens is not None:
            kind = "warning" if self.unknown_tokens > MANY_UNKNOWN else "note"
            lines.append(f"{kind}: {self.unknown_tokens:.1%} of the texts' tokens are not in the vocabulary ([UNK])")
        if self.dataset is not None and self.ok:
            noun = "clip" if _has_videos(self.dataset.sources) else "image"
            depth = "can be decoded" if self.deep else "is there (--deep also decodes them)"
            return [*lines, f"ok: every {noun} {depth}"]
        lines.append("1 problem:" if len(self.problems) == 1 else f"{len(self.problems)} problems:")
        return lines + [f"  {problem}" for problem in self.problems]


def verify_task(
    task: Task, root: Path, split: str | None, *, deep: bool, workers: int, progress: Progress | None = None
) -> VerifyReport:
    """Check the annotations of a task's split, and every image that they name.

    `workers` is the number of decoding processes of the deep check. Problems of the data are in the report. Raises
    UsageError if the task has no such split, and BlipbenchError if a decoding process dies.
    """
    split = split or task.data.split
    recipe = PROTOCOLS[task.protocol].recipe()
    try:
        dataset = recipe.read(task, root, split, None)
    except DataProblems as error:
        images = check_images(error.sources, deep, workers, progress)
        return VerifyReport(task.name, split, deep, [*error.problems, *images])
    except DataError as error:
        return VerifyReport(task.name, split, deep, [str(error)])
    texts = recipe.texts(dataset)
    return VerifyReport(
        task.name,
        split,
        deep,
        check_images(dataset.sources, deep, workers, progress),
        dataset,
        empty_texts=texts.count(""),
        unknown_tokens=_unknown_share(texts, root) if texts else None,
    )


def _unknown_share(texts: Sequence[str], root: Path) -> float:
    vocab = root / "vocab.txt"  # generated data bring one
    tokenizer = load_tokenizer(vocab if vocab.is_file() else None)
    return tokenizer.unknown_share(tokenizer.encode(texts, _LONGEST))


def _has_videos(sources: Sequence[Source]) -> bool:
    return any(isinstance(source, Video) for source in sources)
