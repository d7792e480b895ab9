"""Task definitions and model sizes: YAML files read into validated, frozen values.

In: a name (`retrieval_coco`) or the path of a YAML file. Out: a `TaskSpec` or a `ModelConfig`. Whatever is wrong in a
file is a `UsageError` that names the file, the field and what was found.

A new protocol adds a subclass of `Task` with its own `settings`, and one entry in `PROTOCOLS`.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from blipbench.config.files import (
    canonical,
    did_you_mean,
    find_file,
    load_yaml,
    lower_first,
    read_model,
    validate,
    yaml_files,
)
from blipbench.config.paths import search_path
from blipbench.errors import UsageError
from blipbench.models.config import ModelConfig

Split = Literal["train", "val", "test"]
SettingValue = int | float | str | bool


class _Spec(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Columns(_Spec):
    """Which columns of a table hold the image's file name and its captions: one column, or several."""

    image: str
    caption: str | tuple[str, ...]

    @property
    def captions(self) -> tuple[str, ...]:
        return (self.caption,) if isinstance(self.caption, str) else self.caption


class DataSpec(_Spec):
    """What to read: the annotation file of each split, and how long a caption may be in words.

    `columns` are those of the `table` reader (CSV, TSV, JSON lines), and of no other. `references` are for captioning:
    files of captions in COCO's own format, used where they are there in place of the annotation's.
    """

    reader: Literal["karpathy", "table", "msrvtt", "nlvr", "vqa", "nocaps"]
    annotations: dict[Split, str]
    split: Split = "test"
    max_words: PositiveInt
    columns: Columns | None = None
    references: dict[Split, str] = {}

    @model_validator(mode="after")
    def _split_has_a_file(self) -> "DataSpec":
        if self.split not in self.annotations:
            raise ValueError(f"split {self.split!r} has no file under annotations ({', '.join(self.annotations)})")
        return self

    @model_validator(mode="after")
    def _table_names_its_columns(self) -> "DataSpec":
        if self.reader == "table" and self.columns is None:
            raise ValueError("reader 'table' needs columns, e.g. {image: file, caption: text}")
        if self.reader != "table" and self.columns is not None:
            raise ValueError(f"columns are for reader 'table'; {self.reader!r} has fixed ones")
        return self


class SourceSpec(_Spec):
    """One file that a task needs. `auto` files are fetched by `blipbench data prepare`, the others only named;
    without an `optional` one the task's own split still runs."""

    file: str
    url: str | None = None
    md5: str | None = None
    sha256: str | None = None
    auto: bool = False
    optional: bool = False
    note: str = ""


class ModelInput(_Spec):
    """`image_size` in pixels: images are resized to this square, and the position embeddings with them."""

    image_size: PositiveInt


class RetrievalSettings(_Spec):
    """`k_test` candidates a query are reranked by ITM (`rerank: none` ranks by ITC alone); texts in tokens."""

    k_test: PositiveInt
    max_tokens: PositiveInt = 35
    rerank: Literal["itm", "none"] = "itm"


class NlvrSettings(_Spec):
    """NLVR2's protocol leaves nothing to choose."""


class VqaSettings(_Spec):
    """Questions are cut at `max_tokens`.

    `rank` takes the best of the answer list's `k_test` likeliest by first token; `generate` writes an answer by beam
    search (`num_beams`, `max_length`, `min_length` in tokens with [DEC]). `attend_padding` has generation read the
    states of padding as the reference does, which pads `padding_batch` consecutive questions to one length.
    """

    mode: Literal["rank", "generate"] = "rank"
    k_test: PositiveInt = 128
    max_tokens: PositiveInt = 35
    num_beams: PositiveInt = 3
    max_length: PositiveInt = 10
    min_length: PositiveInt = 1
    attend_padding: bool = False
    padding_batch: PositiveInt = 32

    @field_validator("attend_padding")
    @classmethod
    def _only_generation_attends_to_padding(cls, value: bool, info: ValidationInfo) -> bool:
        if value and info.data.get("mode") != "generate":
            raise ValueError("only mode 'generate' can attend to padding; 'rank' masks it, as the reference does")
        return value


class CaptioningSettings(_Spec):
    """How captions are written; lengths in tokens, [DEC] and the prompt included (see inference/search.py).

    `top_p`, `top_k` and `seed` are for method nucleus alone, `num_beams` for beam, `length_penalty` likewise.
    """

    prompt: str = "a picture of "
    method: Literal["beam", "greedy", "nucleus"] = "beam"
    num_beams: PositiveInt = 3
    max_length: PositiveInt = 20
    min_length: PositiveInt = 5
    repetition_penalty: PositiveFloat = 1.0
    length_penalty: float = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.9
    top_k: PositiveInt = 50
    seed: int = 0

    @model_validator(mode="after")
    def _lengths_leave_room(self) -> "CaptioningSettings":
        if self.min_length > self.max_length:
            raise ValueError(f"min_length {self.min_length} is more than max_length {self.max_length}")
        return self


class Task(_Spec):
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


class RetrievalTask(Task):
    protocol: Literal["retrieval"]
    settings: RetrievalSettings


class NlvrTask(Task):
    protocol: Literal["nlvr"]
    settings: NlvrSettings = NlvrSettings()


class VqaTask(Task):
    protocol: Literal["vqa"]
    settings: VqaSettings = VqaSettings()


class CaptioningTask(Task):
    protocol: Literal["captioning"]
    settings: CaptioningSettings = CaptioningSettings()


# The union of every protocol's task, told apart by `protocol`.
TaskSpec = RetrievalTask | NlvrTask | VqaTask | CaptioningTask
PROTOCOLS: dict[str, type[TaskSpec]] = {
    "retrieval": RetrievalTask,
    "nlvr": NlvrTask,
    "vqa": VqaTask,
    "captioning": CaptioningTask,
}


def load_task(name: str, tasks_dir: Path | None = None) -> TaskSpec:
    """The task called `name` (- and _ are the same), or the one in the file `name` if that is a path to a .yaml.

    `tasks_dir`, or the environment's BLIPBENCH_TASKS, comes before the tasks that ship. Raises UsageError.
    """
    return _read_task(find_file(name, "task", _task_files(tasks_dir), "`blipbench list` shows them"))


def list_tasks(tasks_dir: Path | None = None) -> list[TaskSpec]:
    """Every task by name; one in the user's folder hides a shipped one of the same name."""
    return [_read_task(path) for _, path in sorted(_task_files(tasks_dir).items())]


def override_settings(task: TaskSpec, changes: Mapping[str, SettingValue | None]) -> TaskSpec:
    """The task with some settings replaced by flags; None leaves a setting as it is.

    Raises UsageError naming the flag (`k_test` is --k-test), also where the task's protocol has no such setting.
    """
    given = {key: value for key, value in changes.items() if value is not None}
    for key in given:
        if key not in type(task.settings).model_fields:
            raise UsageError(f"{_flag(key)}: {task.name} ({task.protocol}) has no such setting")
    try:
        settings = type(task.settings).model_validate({**task.settings.model_dump(), **given})
    except ValidationError as error:
        problems = [f"{_flag(str(e['loc'][0]))} {e['input']}: {lower_first(e['msg'])}" for e in error.errors()]
        raise UsageError("\n".join(problems)) from error
    return task.model_copy(update={"settings": settings})


def load_model_config(name_or_path: str) -> ModelConfig:
    """The sizes called `name_or_path` in configs/models, or those in that YAML file. Raises UsageError."""
    return read_model(find_file(name_or_path, "model", _model_files(), "or give the path of a .yaml"), ModelConfig)


def list_model_configs() -> list[ModelConfig]:
    """The sizes that ship, by name."""
    return [read_model(path, ModelConfig) for _, path in sorted(_model_files().items())]


def _task_files(tasks_dir: Path | None) -> dict[str, Path]:
    named_by = "--tasks-dir" if tasks_dir else "BLIPBENCH_TASKS"
    if tasks_dir is None and (from_environment := os.environ.get("BLIPBENCH_TASKS")):
        tasks_dir = Path(from_environment).expanduser()
    if tasks_dir is not None and not tasks_dir.is_dir():
        raise UsageError(f"{named_by} {tasks_dir}: there is no such folder; it should hold task definitions (*.yaml)")
    return yaml_files(search_path(tasks_dir, "tasks"))


def _model_files() -> dict[str, Path]:
    return yaml_files(search_path(None, "configs", "models"))


def _read_task(path: Path) -> TaskSpec:
    content = load_yaml(path)
    protocol = content.get("protocol")
    if protocol not in PROTOCOLS:
        found = "missing key 'protocol'" if protocol is None else f"protocol: unknown {protocol!r}"
        close = did_you_mean(str(protocol), PROTOCOLS)
        raise UsageError(f"{path}: {found}{close} (known: {', '.join(PROTOCOLS)})")
    task = validate(path, content, PROTOCOLS[protocol])
    if canonical(task.name) != canonical(path.stem):
        # The name decides the run folder: two files that share one would take each other's results for their own.
        raise UsageError(f"{path}: name: {task.name!r} must be the file's own name, {path.stem!r}")
    return task


def _flag(setting: str) -> str:
    return "--" + setting.replace("_", "-")
