"""The table of readers of captions: which formats a retrieval or captioning task can be read from.

A new format is a file like karpathy.py and a line here. The name is what `data.reader` of a task says.
"""

from collections.abc import Callable
from pathlib import Path

from blipbench.config.task import Columns
from blipbench.data.captioned import Captioned
from blipbench.data.coco import read_coco_captions
from blipbench.data.karpathy import read_karpathy
from blipbench.data.karpathy_splits import read_karpathy_splits
from blipbench.data.nocaps import read_nocaps
from blipbench.data.table import read_table
from blipbench.errors import UsageError

Reader = Callable[[Path, str, Columns | None], Captioned]  # annotation, split, columns of a table


def _read_table(annotation: Path, split: str, columns: Columns | None) -> Captioned:
    if columns is None:
        raise UsageError("data.columns: reader 'table' requires the names of the columns")
    return read_table(annotation, image=columns.image, captions=columns.captions)


CAPTION_READERS: dict[str, Reader] = {
    "karpathy": lambda annotation, split, columns: read_karpathy(annotation),
    "karpathy_splits": lambda annotation, split, columns: read_karpathy_splits(annotation, split),
    "coco_captions": lambda annotation, split, columns: read_coco_captions(annotation),
    "nocaps": lambda annotation, split, columns: read_nocaps(annotation),
    "table": _read_table,
}
