"""What `configs/train/*.yaml` states: one training run, as data.

In: a name (`retrieval_coco`) or the path of a YAML file, and the changes of `--set key=value`. Out: a `TrainSpec`.
A mistake is a `UsageError` that names the file or the --set, the field and the value.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from blipbench.config.files import (
    canonical,
    did_you_mean,
    fields_at,
    find_file,
    load_yaml,
    read_model,
    validate,
    yaml_files,
)
from blipbench.config.models import load_model_config
from blipbench.config.paths import search_path
from blipbench.config.task import SettingValue, Split
from blipbench.errors import UsageError
from blipbench.models.config import ModelConfig

Kind = Literal["pretrain", "retrieval", "caption", "vqa", "nlvr"]
Schedule = Literal["cosine_per_epoch", "step_decay", "cosine_per_step"]

CONTRASTIVE: tuple[Kind, ...] = ("pretrain", "retrieval")  # those with ITC, hence queues and momentum encoders


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TrainData(_Part):
    """The annotation files, one or several, in the official format of the run's kind. Longer texts are cut.

    `prompt` precedes every caption of kind caption; the loss ignores its tokens.
    """

    annotations: tuple[str, ...] = Field(min_length=1)
    max_words: PositiveInt
    max_tokens: PositiveInt
    prompt: str = ""

    @field_validator("annotations", mode="before")
    @classmethod
    def _one_file_needs_no_list(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value


class EvaluateSpec(_Part):
    """A task that `blipbench run` knows, run every `every` epochs on its first `limit` images at the run's image size.

    `settings` are the task's own, e.g. {rerank: none}. The checkpoint that is best by its main metric is kept.
    """

    task: str
    split: Split = "val"
    every: PositiveInt = 1
    limit: PositiveInt | None = None
    settings: dict[str, SettingValue] = {}


class TrainSpec(_Part):
    """One training run. `batch_size` is a rank's; an optimizer step sees `accumulate` of them on every rank.

    `model` is a name in configs/models, a YAML file's path or the sizes themselves; its image size and vocabulary are
    those of `image_size` (pixels) and `vocab` (a file in the data folder; null is bert-base-uncased's).
    Learning rate: see `schedule.py`. `alpha` rises from 0 over the first `alpha_epochs`.
    `neighbours` consecutive images of the annotation stay together in a batch (1: none, as in the reference), for data
    whose neighbours are each other's hard negatives; `itc` false pre-trains on ITM, against these alone, and LM.
    `by_image` keeps all questions about an image together, or sentences about two; a batch encodes an image once.
    `by_length` puts texts of about the same length into a batch, which saves padding; what those two keep together
    counts as its longest. `freeze_vision` leaves the image encoder as the first weights have it, `freeze_blocks` its
    embeddings and so many first blocks; both save their backward pass.
    `cache_pixels` keeps every decoded image in memory, which only `augment: none` allows. `cache_embeds` keeps instead
    what the frozen blocks make of it, T x width x 4 bytes an image: for small models, or few images.
    Checkpoints are written at the end of every epoch, and every `checkpoint_every` steps in between.
    """

    name: str
    kind: Kind
    model: str | ModelConfig
    image_size: PositiveInt
    vocab: str | None = None
    data: TrainData
    augment: Literal["reference", "none"] = "reference"
    min_scale: Annotated[float, Field(gt=0, le=1)] = 0.5
    cache_pixels: bool = False
    cache_embeds: bool = False
    workers: NonNegativeInt = 4

    epochs: PositiveInt
    max_steps: PositiveInt | None = None
    batch_size: PositiveInt
    neighbours: PositiveInt = 1
    by_image: bool = False
    by_length: bool = False
    freeze_vision: bool = False
    freeze_blocks: NonNegativeInt = 0
    accumulate: PositiveInt = 1
    schedule: Schedule = "cosine_per_epoch"
    lr: PositiveFloat
    min_lr: NonNegativeFloat = 0.0
    warmup_steps: NonNegativeInt = 0
    warmup_lr: NonNegativeFloat = 0.0
    decay_rate: Annotated[float, Field(gt=0, le=1)] = 0.9
    weight_decay: NonNegativeFloat = 0.05
    clip_norm: PositiveFloat | None = None
    precision: Literal["fp32", "tf32", "bf16"] = "fp32"
    gradient_checkpointing: bool = False
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    drop_path: Annotated[float, Field(ge=0, lt=1)] = 0.0
    seed: NonNegativeInt = 42

    queue_size: PositiveInt | None = None
    itc: bool = True
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.995
    alpha: Annotated[float, Field(ge=0, le=1)] = 0.4
    alpha_epochs: NonNegativeInt = 1
    negative_all_rank: bool = False

    evaluate: EvaluateSpec | None = None
    checkpoint_every: PositiveInt | None = None
    log_every: PositiveInt = 50

    @model_validator(mode="after")
    def _queue_where_there_is_itc(self) -> "TrainSpec":
        contrastive = self.kind in CONTRASTIVE
        if contrastive and self.queue_size is None:
            raise ValueError(f"queue_size: kind {self.kind!r} needs one (57600 in the reference)")
        if not contrastive and self.queue_size is not None:
            raise ValueError(f"queue_size: kind {self.kind!r} has no queue; {' and '.join(CONTRASTIVE)} have")
        return self

    @model_validator(mode="after")
    def _warmup_where_the_schedule_has_one(self) -> "TrainSpec":
        if self.warmup_steps and self.schedule == "cosine_per_epoch":
            raise ValueError("warmup_steps: schedule 'cosine_per_epoch' has no warm-up; use 'cosine_per_step'")
        return self

    @model_validator(mode="after")
    def _cached_pixels_are_the_same_every_epoch(self) -> "TrainSpec":
        if self.cache_pixels and self.augment != "none":
            raise ValueError("cache_pixels: augmented pixels differ every epoch; set augment to none")
        return self

    @model_validator(mode="after")
    def _cached_embeds_are_the_same_every_epoch(self) -> "TrainSpec":
        frozen = self.freeze_vision or self.freeze_blocks
        if self.cache_embeds and not (self.cache_pixels and frozen and self.drop_path == 0):
            raise ValueError(
                "cache_embeds: what the image encoder makes of an image must stay the same; it needs cache_pixels and "
                "freeze_vision true (or freeze_blocks), and drop_path 0"
            )
        return self

    @model_validator(mode="after")
    def _frozen_whole_or_in_part(self) -> "TrainSpec":
        if self.freeze_vision and self.freeze_blocks:
            raise ValueError("freeze_blocks: freeze_vision true freezes them all; leave out one of the two")
        return self

    @model_validator(mode="after")
    def _negatives_without_itc(self) -> "TrainSpec":
        if not self.itc and not (self.kind == "pretrain" and self.neighbours > 1):
            raise ValueError("itc: false is for kind 'pretrain' with neighbours of 2 or more, ITM's negatives then")
        return self

    @model_validator(mode="after")
    def _neighbours_where_an_example_has_one_image(self) -> "TrainSpec":
        if self.neighbours > 1 and self.kind == "nlvr":
            raise ValueError("neighbours: an example of kind 'nlvr' has two images; leave it at 1")
        return self

    @model_validator(mode="after")
    def _by_image_where_its_encoding_is_shared(self) -> "TrainSpec":
        if self.by_image and self.kind not in ("vqa", "nlvr"):
            raise ValueError("by_image: only kinds vqa and nlvr share an image's encoding among texts; leave it out")
        if self.by_image and self.neighbours > 1:
            raise ValueError("by_image: neighbours orders the examples otherwise; choose one of the two")
        return self

    @model_validator(mode="after")
    def _prompt_where_captions_are_written(self) -> "TrainSpec":
        if self.data.prompt and self.kind != "caption":
            raise ValueError(f"data.prompt: kind {self.kind!r} has no prompt; only caption has")
        return self


def load_train_spec(name: str, changes: Sequence[str] = ()) -> TrainSpec:
    """The run called `name` in configs/train, or that of a YAML file, with `changes` ("key=value", keys dotted).

    A value is YAML: `--set evaluate=null`, `--set 'data.annotations=[a.json, b.json]'`. Raises UsageError.
    """
    files = yaml_files(search_path(None, "configs", "train"))
    path = find_file(name, "training", files, "or give the path of a .yaml")
    content = load_yaml(path)
    for change in changes:
        _apply(content, change)
    spec = validate(path, content, TrainSpec)
    if canonical(spec.name) != canonical(path.stem):
        raise UsageError(f"{path}: name: {spec.name!r} must be the file's own name, {path.stem!r}")
    return spec


def list_train_specs() -> list[TrainSpec]:
    """The training runs that ship, by name."""
    shipped = yaml_files(search_path(None, "configs", "train"))
    return [read_model(path, TrainSpec) for _, path in sorted(shipped.items())]


def resolve_sizes(spec: TrainSpec, vocab_size: int) -> ModelConfig:
    """The model's sizes at the run's image size and vocabulary."""
    config = spec.model if isinstance(spec.model, ModelConfig) else load_model_config(spec.model)
    if spec.image_size % config.vision.patch_size:
        raise UsageError(
            f"{spec.name}: image_size: {spec.image_size} is not a multiple of the model's patch, "
            f"{config.vision.patch_size}"
        )
    vision = config.vision.model_copy(update={"image_size": spec.image_size})
    text = config.text.model_copy(update={"vocab_size": vocab_size})
    longest = spec.data.max_tokens
    if longest > text.max_positions:
        raise UsageError(
            f"{spec.name}: data.max_tokens: {longest} is more than the model's {text.max_positions} positions"
        )
    return config.model_copy(update={"vision": vision, "text": text})


def _apply(content: dict[str, Any], change: str) -> None:
    key, separator, text = change.partition("=")
    if not separator or not key:
        raise UsageError(f"--set {change}: expected key=value, e.g. --set lr=1e-4 or --set data.max_words=20")
    *parents, last = key.split(".")
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a date that does not exist
        raise UsageError(f"--set {change}: {text!r} is not a YAML value") from error
    target = content
    for depth, part in enumerate(parents):
        _require_known(change, parents[:depth], part)
        inner = target.get(part)
        if part == "model" and isinstance(inner, str):  # a single size of a named model: its sizes, then the change
            inner = load_model_config(inner).model_dump(mode="json")
        if inner is None:
            inner = {}
        if not isinstance(inner, dict):
            raise UsageError(f"--set {change}: {part} is {inner!r}, which has no key {last!r}")
        target[part] = inner
        target = inner
    if parents[-1:] != ["settings"]:
        _require_known(change, parents, last)
    target[last] = value


def _require_known(change: str, parents: Sequence[str], key: str) -> None:
    known = fields_at(TrainSpec, parents)
    if key not in known:
        under = f" under {'.'.join(parents)}" if parents else ""
        close = did_you_mean(key, known) or f"; known: {', '.join(known)}"
        raise UsageError(f"--set {change}: unknown key {key!r}{under}{close}")


def resolve_vocab(spec: TrainSpec, root: Path) -> Path | None:
    """The run's own vocabulary, or None for the bundled one. Raises UsageError if the file is missing."""
    if spec.vocab is None:
        return None
    path = root / spec.vocab
    if not path.is_file():
        raise UsageError(f"{spec.name}: vocab: there is no file {path}; set vocab to null for bert-base-uncased's")
    return path
