"""A profile in the JSON format of pytest-benchmark, so that `pytest-benchmark compare` reads it."""

import statistics
from pathlib import Path
from typing import Any

import numpy as np

from blipbench.files import write_json
from blipbench.profiling.record import PartRecord, Profile

PYTEST_BENCHMARK = "5.0.0"  # the version whose format this is


def write_pytest_benchmark(profile: Profile, path: Path) -> None:
    environment = profile.environment
    write_json(
        path,
        {
            "machine_info": {
                "node": "",
                "machine": environment.platform,
                "processor": environment.device,
                "python_version": environment.python,
                "cpu": {"brand_raw": environment.device},
            },
            "commit_info": {"id": environment.git_commit or "unknown", "dirty": False},
            "benchmarks": [_benchmark(profile, part) for part in profile.parts],
            "datetime": profile.created,
            "version": PYTEST_BENCHMARK,
        },
    )


def _benchmark(profile: Profile, part: PartRecord) -> dict[str, Any]:
    configuration = f"{part.way}-{part.precision}-{part.batch}" + (f"-{part.attention}" if part.attention else "")
    name = f"{part.part}[{configuration}]"
    return {
        "group": part.part,
        "name": name,
        "fullname": f"profile/{profile.name}::{name}",
        "params": {"way": part.way, "precision": part.precision, "batch": part.batch, "attention": part.attention},
        "param": configuration,
        "extra_info": {"share_of_peak": part.flop_rate / profile.ceiling(part.precision).flops},
        "options": {"disable_gc": False, "timer": "perf_counter", "min_rounds": profile.rounds, "warmup": True},
        "stats": _statistics(part.seconds),
    }


def _statistics(seconds: list[float]) -> dict[str, Any]:
    low, median, high = (float(value) for value in np.percentile(seconds, [25, 50, 75]))
    mean, deviation = statistics.fmean(seconds), statistics.stdev(seconds) if len(seconds) > 1 else 0.0
    spread = high - low
    far = [value for value in seconds if value < low - 1.5 * spread or value > high + 1.5 * spread]
    near = [value for value in seconds if low - 1.5 * spread <= value <= high + 1.5 * spread]
    apart = [value for value in seconds if abs(value - mean) > deviation]
    return {
        "min": min(seconds),
        "max": max(seconds),
        "mean": mean,
        "stddev": deviation,
        "rounds": len(seconds),
        "median": median,
        "iqr": spread,
        "q1": low,
        "q3": high,
        "iqr_outliers": len(far),
        "stddev_outliers": len(apart),
        "outliers": f"{len(apart)};{len(far)}",
        "ld15iqr": min(near),
        "hd15iqr": max(near),
        "ops": 1 / mean,
        "total": sum(seconds),
        "data": seconds,
        "iterations": 1,
    }
