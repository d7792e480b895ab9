"""The result of a run, `result.json`: a schema-versioned record with the source of every figure of a table.

Written atomically when a run ends; read back validated.
"""

import datetime
import os
import platform
import subprocess
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from pydantic import BaseModel, ConfigDict, ValidationError

import blipbench
from blipbench.config.files import lower_first
from blipbench.device import Runtime
from blipbench.errors import DataError
from blipbench.files import write_json
from blipbench.inference.kernels import attention_name
from blipbench.inference.linear import cpu_products

SCHEMA_VERSION: Literal[1] = 1

Status = Literal["complete", "incomplete", "suspect"]

MANY_UNKNOWN = 0.05  # a larger share of unknown tokens is worth a warning


Model = TypeVar("Model", bound=BaseModel)


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class MetricValue(_Record):
    """`low` and `high` bound the central 95% of bootstrap resamples over images."""

    value: float
    low: float | None
    high: float | None


class TaskRecord(_Record):
    name: str
    title: str
    protocol: str
    split: str
    settings: dict[str, Any]


class ModelRecord(_Record):
    """`size` names the sizes in configs/models: base, large, ..."""

    name: str
    size: str
    file: str
    sha256: str
    parameters: int
    kind: str
    image_size: int


class DataRecord(_Record):
    """`unknown_tokens` is the share of the texts' tokens that the vocabulary lacks ([UNK]). `turned_images` must be
    turned to be upright, by their EXIF orientation. Tasks on a user's own tables do so (`upright`). The official tasks
    use them as they are stored, as the reference does."""

    annotation: str
    annotation_sha256: str
    counts: dict[str, int]  # what there is of what: images, texts, questions, ...
    limited_from: int | None  # images in the annotation when --limit took fewer
    unknown_tokens: float = 0.0
    turned_images: int = 0
    upright: bool = False


class UnitCounts(_Record):
    expected: int
    done: int
    failed: int


class FailureRecord(_Record):
    stage: str
    unit: str
    error: str


class StageRecord(_Record):
    """What one stage took. `items` and `flops` are those of this start of the run, over all ranks; `reused_items` came
    from the journal. `seconds` is the time of the slowest rank. `waited_seconds` is the longest that the device of a
    rank waited for images."""

    name: str
    noun: str
    items: int
    reused_items: int
    flops: float
    seconds: float
    waited_seconds: float = 0.0


class Timing(_Record):
    """`peak_flops` is the measured rate of one rank's device, in FLOP/s, in the run's precision."""

    stages: list[StageRecord]
    total_seconds: float
    peak_flops: float


class SelfCheckRecord(_Record):
    """`compared` values (`noun`) were computed again plainly; `changed` of `checked` outcomes come out otherwise."""

    noun: str
    compared: int
    deviation: float | None  # None when it is not a number, which is suspect
    bound: float
    outcome: str
    changed: int
    checked: int
    suspect: bool


class Environment(_Record):
    """`attention` is what computed attention where shapes vary: torch, or the Triton kernel. `cpu_products` is the way
    of each kind of matrix product on a CPU: torch's, or oneDNN's."""

    blipbench: str
    python: str
    torch: str
    platform: str
    device: str
    driver: str | None
    precision: str
    threads: int
    world_size: int
    git_commit: str | None
    attention: str = "torch"
    cpu_products: dict[str, str] = {}


class Memory(_Record):
    """Of rank 0's process."""

    peak_rss_bytes: int
    peak_device_bytes: int


class Result(_Record):
    schema_version: Literal[1] = SCHEMA_VERSION
    status: Status
    created: str
    task: TaskRecord
    main_metric: str
    metrics: dict[str, MetricValue]
    notes: list[str]  # what could not be computed, and the way out
    data: DataRecord
    units: UnitCounts
    failures: list[FailureRecord]
    model: ModelRecord
    self_check: SelfCheckRecord
    timing: Timing
    memory: Memory
    environment: Environment
    seed: int


def write_result(path: Path, result: Result) -> None:
    write_json(path, result.model_dump(mode="json"))


def read_result(path: Path) -> Result:
    """Raises DataError if it is missing, damaged, or of another schema."""
    if not path.exists():
        raise DataError(f"{path} does not exist: the run did not finish; add --resume to its command")
    what = f"a blipbench result of schema {SCHEMA_VERSION}"
    return read_record(path, Result, what, "run the task again with --fresh")


def read_record(path: Path, model: type[Model], what: str, way_out: str) -> Model:
    """A record that blipbench has written. Raises DataError if it cannot be read or is not `what`."""
    try:
        return model.model_validate_json(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "the file"
        raise DataError(f"{path} is not {what}: {field}: {lower_first(first['msg'])}; {way_out}") from error


def now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def describe_environment(runtime: Runtime, world_size: int) -> Environment:
    is_cuda = runtime.device.type == "cuda"
    return Environment(
        blipbench=blipbench.__version__,
        python=platform.python_version(),
        torch=torch.__version__,
        platform=platform.platform(),
        device=runtime.describe(),
        driver=_output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader") if is_cuda else None,
        precision=runtime.precision,
        threads=torch.get_num_threads(),
        world_size=world_size,
        git_commit=_output("git", "-C", os.path.dirname(blipbench.__file__), "rev-parse", "HEAD"),
        attention=attention_name(runtime.device, runtime.dtype),
        cpu_products={} if is_cuda else cpu_products(runtime.dtype),
    )


def _output(*command: str) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip().splitlines()[0] if done.stdout.strip() else None
