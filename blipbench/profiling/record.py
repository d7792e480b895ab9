"""The result of a profile, `profile.json`: every timing, what the work needs, and the ceilings of the device.

Written when a profile ends; read back validated. All figures of the table and of the pictures are computed from it.
"""

from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from blipbench.evaluation.result import Environment, read_record
from blipbench.files import write_json

SCHEMA_VERSION: Literal[1] = 1

Bound = Literal["products", "memory", "launches"]

LAUNCHES = 0.9  # a GPU waits for launches if the host needs more than this share of the time to submit the work


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CeilingRecord(_Record):
    """Measured on this device: FLOP/s of matrix products in the precision, and bytes/s read and written by a copy."""

    precision: str
    flops: float
    bytes: float


class KernelRecord(_Record):
    """A kernel on a GPU, an operator on a CPU. `count` and `seconds` are of one call of the part."""

    name: str
    group: str
    count: float
    seconds: float


class PartRecord(_Record):
    """One part in one configuration.

    A call does `items` things (`noun`), needs `flops` FLOPs and must move `moved_bytes` bytes. `seconds` are all calls
    after the first; `host_seconds` are how long the host took to submit each to a GPU. `deviation` is the largest
    difference of the output from that of the first precision, relative to its largest value. `pays_after` is the number
    of calls after which torch.compile has saved the time that it took. `notes` are what a reader must know.
    """

    part: str
    way: str
    precision: str
    batch: int
    attention: str | None
    noun: str
    items: int
    flops: float
    moved_bytes: float
    parameters: int
    first_seconds: float
    seconds: list[float]
    host_seconds: list[float]
    peak_bytes: int
    deviation: float | None
    pays_after: float | None
    stages: dict[str, float]
    kernels: list[KernelRecord]
    notes: list[str]

    @property
    def label(self) -> str:
        """The part, and what of its configuration differs from the fast path."""
        extra = [self.way] if self.way != "fast" else []
        return ", ".join([self.part, *extra, *([self.attention] if self.attention else [])])

    @property
    def median(self) -> float:
        return self.percentile(50)

    @property
    def spread(self) -> float:
        """Half of the range between the quartiles, relative to the median."""
        return (self.percentile(75) - self.percentile(25)) / 2 / self.median

    @property
    def flop_rate(self) -> float:
        return self.flops / self.median

    @property
    def byte_rate(self) -> float:
        return self.moved_bytes / self.median

    @property
    def item_rate(self) -> float:
        return self.items / self.median

    @property
    def idle_share(self) -> float | None:
        """The share of a call in which a GPU runs no kernel. None without kernels, or on a CPU."""
        if not (self.host_seconds and self.kernels):
            return None
        return max(0.0, 1 - sum(kernel.seconds for kernel in self.kernels) / self.median)

    def percentile(self, percent: float) -> float:
        return float(np.percentile(self.seconds, percent))

    def bound(self, ceiling: CeilingRecord) -> Bound:
        """What limits the part: the host's launches, or else the ceiling under which it lies in the roofline model."""
        if self.host_seconds and float(np.median(self.host_seconds)) > LAUNCHES * self.median:
            return "launches"
        return "products" if self.flops / ceiling.flops >= self.moved_bytes / ceiling.bytes else "memory"


class ShapesRecord(_Record):
    image_size: int
    tokens: float
    texts_per_image: int


class ModelSource(_Record):
    """`sha256` is None for random weights."""

    name: str
    sha256: str | None


class Profile(_Record):
    """`rounds` is the number of interleaved rounds, `total_seconds` the time of all measurements."""

    schema_version: Literal[1] = SCHEMA_VERSION
    name: str
    created: str
    model: ModelSource
    shapes: ShapesRecord
    ceilings: list[CeilingRecord]
    parts: list[PartRecord]
    rounds: int
    total_seconds: float
    environment: Environment

    def ceiling(self, precision: str) -> CeilingRecord:
        return next(ceiling for ceiling in self.ceilings if ceiling.precision == precision)


def write_profile(path: Path, profile: Profile) -> None:
    write_json(path, profile.model_dump(mode="json"))


def read_profile(path: Path) -> Profile:
    """Raises DataError if it is missing, damaged, or of another schema."""
    return read_record(path, Profile, f"a profile of schema {SCHEMA_VERSION}", "profile again")
