"""What every task definition states, whatever its protocol: the types that a task's YAML file is validated by.

Each protocol adds its own settings in a subclass of `Task` (protocols/<protocol>/task.py). `tasks.py` reads the files.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, PositiveInt, model_validator

Split = Literal["train", "val", "test"]
SettingValue = int | float | str | bool


class Spec(BaseModel):
    """A part of a definition: its values do not change, and a key that it does not know is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Columns(Spec):
    """Which columns of a table hold the image's file name and its captions: one column, or several."""

    image: str
    caption: str | tuple[str, ...]

    @property
    def captions(self) -> tuple[str, ...]:
        return (self.caption,) if isinstance(self.caption, str) else self.caption


class DataSpec(Spec):
    """What to read: the format, the annotation file of each split, and the longest text in words.

    Each protocol states which readers it has.
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
    """Images with captions. `columns` are those of the reader `table` (CSV, TSV, JSON lines)."""

    columns: Columns | None = None

    @model_validator(mode="after")
    def _table_names_its_columns(self) -> "CaptionData":
        if self.reader == "table" and self.columns is None:
            raise ValueError("reader 'table' requires columns, e.g. {image: file, caption: text}")
        if self.reader != "table" and self.columns is not None:
            raise ValueError(f"only reader 'table' has columns; {self.reader!r} has fixed names")
        return self


class SourceSpec(Spec):
    """One file or folder that a task needs, and where it comes from.

    `file` is its place relative to the data folder. It may also be under annotations/ or images/ there. A trailing
    slash marks a folder of images, which is never downloaded: `url` is its archive, or the page that has it, and the
    hashes are the archive's. `auto` files are small, free, and downloaded by `blipbench data prepare`. Without an
    `optional` file, the task's own split still runs.
    """

    file: str
    url: str | None = None
    md5: str | None = None
    sha256: str | None = None
    auto: bool = False
    optional: bool = False
    note: str = ""


class ModelInput(Spec):
    """`image_size` in pixels: images are resized to this square, and the position embeddings with them."""

    image_size: PositiveInt


class Task(Spec):
    """What every task states, whatever its protocol.

    `headline` metrics stand for it in a table of several tasks; without them the main one does.
    `checkpoint` is run where --ckpt names none. `published_task` is its name in leaderboards/published.json. `caveats`
    are shown beside every figure of the task.
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
