"""Finds the published figures for a result in leaderboards/published.json.

An official checkpoint has its own row, which configs/checkpoints.yaml names. For any other file, the row is the paper's
model of the same ViT size, pre-trained on 129M images and finetuned on the task. Its label says so.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

from blipbench.config.paths import data_file
from blipbench.models.catalog import find_entry

_PAPER_MODELS = {"base": "BLIP ViT-B", "large": "BLIP ViT-L"}
_OUR_PREFIX = {"t2v": "vid"}  # published.json names text-to-video; blipbench names what is retrieved


@dataclasses.dataclass(frozen=True)
class PublishedRow:
    """Published figures of one model on one task, in the units of blipbench's metrics.

    `is_own` is false if the row belongs to a different checkpoint than the evaluated one.
    """

    model: str
    task: str
    split: str
    metrics: dict[str, float]
    source: str
    note: str
    caveats: tuple[str, ...] = ()
    is_own: bool = True

    @property
    def label(self) -> str:
        """The row in one line: model, split, note and source. Of note and source, only the first part."""
        owner = "" if self.is_own else ", the paper's model of this size, not this checkpoint"
        about = [self.split, self.note.split(";")[0], self.source.split(",")[0]]
        return f"{self.model}{owner} ({'; '.join(part for part in about if part)})"


def published_row(
    task_name: str, published_task: str | None, checkpoint_file: str | None, model_size: str | None
) -> PublishedRow | None:
    """The row to show beside a result, or None if there is no suitable row.

    `published_task` is the task's name in published.json. `checkpoint_file` is a file name or path; a converted file
    with the official name counts as the official file. For other files `model_size` ("base", "large", ...) decides.
    """
    name = Path(checkpoint_file).name.removesuffix(".safetensors") if checkpoint_file else ""
    entry = find_entry(name)
    if entry is None:
        return _paper_row(published_task, model_size)
    key = entry.published.get(task_name)
    if key is None:
        return None
    (row,) = (row for row in _rows() if key.picks(row))
    caveat = entry.caveats.get(task_name)
    return dataclasses.replace(_as_published(row), caveats=(caveat,) if caveat else ())


def _paper_row(published_task: str | None, model_size: str | None) -> PublishedRow | None:
    model = _PAPER_MODELS.get(model_size or "")
    for row in _rows():
        is_meant = (row["model"], row["task"]) == (model, published_task)
        if is_meant and "finetuned" in row["split"] and "129M" in row["note"]:
            return dataclasses.replace(_as_published(row), is_own=False)
    return None


def _as_published(row: dict[str, Any]) -> PublishedRow:
    fields = {field: row[field] for field in ("model", "task", "split", "source", "note")}
    return PublishedRow(**fields, metrics={_our_name(name): value for name, value in row["metrics"].items()})


def _our_name(metric: str) -> str:
    prefix, _, rest = metric.partition("_")
    return f"{_OUR_PREFIX[prefix]}_{rest}" if prefix in _OUR_PREFIX else metric


def _rows() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(data_file("leaderboards", "published.json").read_text("utf-8"))["rows"]
    return rows
