"""The fields that all task definitions share: the types that validate a task's YAML file.

Each protocol adds its settings in a subclass of `Task` (protocols/<protocol>/task.py). `tasks.py` reads the files.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, PositiveInt, model_validator

Split = Literal["train", "val", "test"]
SettingValue = int | float | str | bool


class Spec(BaseModel):
    """A part of a definition. It is immutable, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Columns(Spec):
    """The columns of a table with the image's file name and its captions (one column or several)."""

    image: str
    caption: str | tuple[str, ...]

    @property
    def captions(self) -> tuple[str, ...]:
        return (self.caption,) if isinstance(self.caption, str) else self.caption


class DataSpec(Spec):
    """The data to read: the format, the annotation file of each split, and the maximum text length in words.

    Each protocol states which readers it supports.
    """

    reader: str
    annotations: dict[Split, str]
    split: Split = "test"
    max_words: PositiveInt

    @model_validator(mode="after")
    def _split_has_a_file(self) -> "DataSpec":
        if self.split not in self.annotations:
            raise ValueError(f"split {self.split!r} has no file under annotations ({', '.join(self.annotations)})")
        return self


class CaptionData(DataSpec):
    """Images with captions. `columns` is for the reader `table` (CSV, TSV, JSON lines)."""

    columns: Columns | None = None

    @model_validator(mode="after")
    def _table_names_its_columns(self) -> "CaptionData":
        if self.reader == "table" and self.columns is None:
            raise ValueError("reader 'table' requires columns, e.g. {image: file, caption: text}")
        if self.reader != "table" and self.columns is not None:
            raise ValueError(f"only reader 'table' has columns; {self.reader!r} has fixed names")
        return self


class SourceSpec(Spec):
    """One file or folder that a task requires, and where to get it.

    `file` is its path relative to the data folder; it may also be under annotations/ or images/ there. A trailing slash
    marks a folder of images, which is never downloaded: `url` is its archive or the page that offers it, and the hashes
    are those of the archive. `auto` files are small and free, and `blipbench data prepare` downloads them. Without an
    `optional` file, the task's default split still runs.
    """

    file: str
    url: str | None = None
    md5: str | None = None
    sha256: str | None = None
    auto: bool = False
    optional: bool = False
    note: str = ""


class ModelInput(Spec):
    """`image_size` is in pixels: images are resized to this square, and position embeddings are resized to match."""

    image_size: PositiveInt


class Task(Spec):
    """The fields that all tasks share.

    `headline` metrics represent the task in a table of several tasks (default: the main metric). `checkpoint` is the
    default of --ckpt. `published_task` is the task's name in leaderboards/published.json. `caveats` are shown with
    every result of the task.
    """

    name: str
    title: str
    data: DataSpec
    model: ModelInput
    main_metric: str
    headline: tuple[str, ...] = ()
    checkpoint: str | None = None
    published_task: str | None = None
    caveats: tuple[str, ...] = ()
    sources: tuple[SourceSpec, ...] = ()
    protocol: str
    settings: Spec
