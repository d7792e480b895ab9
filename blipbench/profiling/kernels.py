"""Where the time of a part goes, by torch.profiler: kernels on a GPU, operators on a CPU, in groups.

profile_kernels(call, device)      -> what one call runs, longest first
write_trace(calls, device, path)   -> a timeline for Perfetto or chrome://tracing
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from blipbench.errors import BlipbenchError
from blipbench.profiling.record import KernelRecord

CALLS = 3  # over which the figures of one call are averaged
SMALLEST_SHARE = 0.002  # kernels that take less of a call are summed up as one
REST = "all others"

# The first group with a word in the lower-case name. Names of attention kernels have words of products too.
GROUPS = {
    "attention": ("attention", "flash", "fmha", "attend_spans", "sdpa"),
    "products": (
        "gemm",
        "linear",
        "matmul",
        "addmm",
        "aten::mm",
        "bmm",
        "cutlass",
        "nvjet",
        "conv",
        "mkldnn",
        "baddbmm",
    ),
    "normalisation": ("norm", "softmax"),
    "copies": (
        "copy",
        "memcpy",
        "memset",
        "cat",
        "index",
        "gather",
        "scatter",
        "embedding",
        "fill",
        "stack",
        "aten::to",
    ),
    "element-wise": ("elementwise", "vectorized", "gelu", "add", "mul", "div", "exp", "where", "sub", "sum", "clamp"),
}
OTHER = "other"


def group_of(name: str) -> str:
    lower = name.lower()
    return next((group for group, words in GROUPS.items() if any(word in lower for word in words)), OTHER)


def profile_kernels(call: Callable[[], Any], device: torch.device) -> list[KernelRecord]:
    """The kernels or operators of one call, longest first. Times are those without what an operator calls itself."""
    with _profiler(device) as found:
        for _ in range(CALLS):
            call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    on_gpu = device.type == "cuda"
    records = []
    for event in found.key_averages():
        seconds = (event.self_device_time_total if on_gpu else event.self_cpu_time_total) / 1e6 / CALLS
        if seconds > 0 and not event.key.startswith(("ProfilerStep", "cuda", "Activity Buffer")):
            records.append(
                KernelRecord(name=event.key, group=group_of(event.key), count=event.count / CALLS, seconds=seconds)
            )
    records.sort(key=lambda record: -record.seconds)
    return _with_rest(records)


def _with_rest(records: list[KernelRecord]) -> list[KernelRecord]:
    least = SMALLEST_SHARE * sum(record.seconds for record in records)
    kept = [record for record in records if record.seconds >= least]
    rest = records[len(kept) :]
    if rest:
        count, seconds = sum(record.count for record in rest), sum(record.seconds for record in rest)
        kept.append(KernelRecord(name=REST, group=OTHER, count=count, seconds=seconds))
    return kept


def write_trace(calls: Sequence[tuple[str, Callable[[], Any]]], device: torch.device, path: Path) -> None:
    """Write the timeline of one call of each. Raises BlipbenchError if it cannot be written."""
    with _profiler(device) as found:
        for name, call in calls:
            with record_function(name):
                call()
                if device.type == "cuda":
                    torch.cuda.synchronize(device)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        found.export_chrome_trace(str(path))
        written = path.exists() and path.stat().st_size > 0
    except (OSError, RuntimeError) as error:
        raise BlipbenchError(f"--trace {path}: cannot be written: {error}") from error
    if not written:
        raise BlipbenchError(f"--trace {path}: cannot be written; is there space on the disk?")


def _profiler(device: torch.device) -> Any:
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if device.type == "cuda" else [])
    return profile(activities=activities)
