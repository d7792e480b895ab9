"""The official checkpoint files: configs/checkpoints.yaml, read into validated, frozen values.

In: a file name or short name. Out: what that file is, where it is published, which tasks it is meant for and, for each,
the published row and the caveat to show beside a comparison.
"""

import difflib
import functools
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, PositiveInt

from blipbench.config.paths import bundled_checkpoints, data_file

Kind = Literal["retrieval", "itm", "pretrain", "caption", "vqa", "nlvr", "features"]


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PublishedKey(_Row):
    """Picks one row of leaderboards/published.json: three equal fields, and a text that its note contains."""

    model: str
    task: str
    split: str
    note_contains: str = ""

    def picks(self, row: dict[str, Any]) -> bool:
        """Whether `row` of published.json is the one."""
        same = (row["model"], row["task"], row["split"]) == (self.model, self.task, self.split)
        return same and self.note_contains in row["note"]


class CatalogEntry(_Row):
    """One official file. `published` and `caveats` are by task name; `image_size` is in pixels."""

    file: str
    url: str
    what: str
    kind: Kind
    model: str
    image_size: PositiveInt
    tasks: tuple[str, ...] = ()
    published: dict[str, PublishedKey] = {}
    caveats: dict[str, str] = {}


@functools.cache
def load_catalog() -> tuple[CatalogEntry, ...]:
    """Every official file, in the order of the table."""
    table = yaml.safe_load(data_file("configs", "checkpoints.yaml").read_text(encoding="utf-8"))
    folders: dict[str, str] = table["folders"]
    return tuple(
        CatalogEntry(url=f"{folders[row.pop('folder', 'blip')]}/{row['file']}", **row) for row in table["checkpoints"]
    )


def find_entry(name: str) -> CatalogEntry | None:
    """The official file of that name, with or without .pth; None where there is none."""
    return next((entry for entry in load_catalog() if name in (entry.file, entry.file.removesuffix(".pth"))), None)


def nearest_names(name: str) -> list[str]:
    """The names of official files and bundled checkpoints that a mistyped one may have meant, best first."""
    names = [*(entry.file for entry in load_catalog()), *bundled_checkpoints()]
    return difflib.get_close_matches(name, names, n=3, cutoff=0.7)
