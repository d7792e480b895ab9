"""Profiles for tests: a real one of the tiny golden model, and records with chosen figures."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from goldens import Golden
from sample_result import RECORD

from blipbench.config.models import load_model_config
from blipbench.device import make_runtime
from blipbench.profiling.models import Models
from blipbench.profiling.record import CeilingRecord, ModelSource, PartRecord, Profile, ShapesRecord
from blipbench.profiling.run import ProfileSettings, run_profile

SOURCE = ModelSource(name="tiny, random weights", sha256=None)


def measured(parts: Sequence[str], batches: Sequence[int] = (1, 2), **changes: Any) -> Profile:
    """A profile of these parts of the tiny golden model in fp32 and bf16, with the fewest rounds."""
    settings = ProfileSettings(
        name="small",
        parts=parts,
        ways=["fast"],
        batches=batches,
        image_size=48,
        tokens=9.0,
        texts_per_image=6,
        seconds=0,
    )
    settings = ProfileSettings(**(vars(settings) | changes))
    models = Models(load_model_config(str(Golden.model)), None, settings.image_size)
    runtimes = [make_runtime("cpu", precision, 100_000) for precision in ("fp32", "bf16")]
    return run_profile(settings, models, runtimes, SOURCE, no_progress)[0]


@contextlib.contextmanager
def no_progress(stage: str, noun: str, total: int) -> Iterator[Callable[[int], None]]:
    yield lambda _: None


def part_record(part: str, **changes: Any) -> PartRecord:
    """A part of 1 GFLOP that takes 10 ms, with `changes`."""
    figures: dict[str, Any] = {
        "part": part,
        "way": "fast",
        "precision": "fp32",
        "batch": 1,
        "attention": None,
        "noun": "images",
        "items": 1,
        "flops": 1e9,
        "moved_bytes": 1e7,
        "parameters": 1_500_000,
        "first_seconds": 0.5,
        "seconds": [0.009, 0.01, 0.011],
        "host_seconds": [],
        "peak_bytes": 0,
        "deviation": None,
        "pays_after": None,
        "stages": {},
        "kernels": [],
        "notes": [],
    }
    return PartRecord.model_validate(figures | changes)


def profile_of(*parts: PartRecord, name: str = "made") -> Profile:
    """A profile on a device that computes 200 GFLOP/s in fp32, 400 in bf16, and copies 20 GB/s."""
    return Profile(
        name=name,
        created="2026-01-01T00:00:00+00:00",
        model=SOURCE,
        shapes=ShapesRecord(image_size=48, tokens=9.0, texts_per_image=6),
        ceilings=[
            CeilingRecord(precision="fp32", flops=2e11, bytes=2e10),
            CeilingRecord(precision="bf16", flops=4e11, bytes=2e10),
        ],
        parts=list(parts),
        rounds=3,
        total_seconds=12.0,
        environment=RECORD["environment"],
    )
