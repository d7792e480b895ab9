"""Checks the data of any task: what `blipbench data verify` calls.

Captions are checked by their reader, which lists every faulty record. The data of other tasks are read as for a run,
and then every image is checked.
"""

from collections.abc import Sequence
from pathlib import Path

from blipbench.config.task import CaptionData, Task
from blipbench.data.readers import CAPTION_READERS
from blipbench.data.verify import Progress, VerifyReport, failed, verify_dataset, verify_retrieval
from blipbench.errors import DataError
from blipbench.models.tokenizer import load_tokenizer
from blipbench.protocols.recipe import annotation_of
from blipbench.protocols.registry import PROTOCOLS

_LONGEST = 512  # tokens


def verify_task(
    task: Task, root: Path, split: str | None, *, deep: bool, workers: int, progress: Progress
) -> VerifyReport:
    """Problems of the data are in the report. Raises UsageError if the task has no such split."""
    split = split or task.data.split
    filename = annotation_of(task, split)
    vocab = root / "vocab.txt"  # generated data bring one
    tokenizer = load_tokenizer(vocab if vocab.is_file() else None)

    def unknown(texts: Sequence[str]) -> float:
        return tokenizer.unknown_share(tokenizer.encode(texts, _LONGEST))

    if isinstance(task.data, CaptionData) and task.data.reader in CAPTION_READERS:
        return verify_retrieval(
            root,
            filename,
            name=task.name,
            split=split,
            max_words=task.data.max_words,
            reader=task.data.reader,
            columns=task.data.columns,
            deep=deep,
            workers=workers,
            progress=progress,
            unknown=unknown,
        )
    recipe = PROTOCOLS[task.protocol].recipe()
    try:
        dataset = recipe.read(task, root, split, None)
    except DataError as error:
        return failed(task.name, split, None, deep, error)
    texts = recipe.texts(dataset)
    return verify_dataset(dataset, task.name, texts, deep=deep, workers=workers, progress=progress, unknown=unknown)
