"""`blipbench doctor`: checks that this machine has what the benchmarks need, and says what to do if not.

`diagnose()` changes nothing. `report_lines` and `exit_status` turn its checks into the output of the command.
"""

import dataclasses
import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from blipbench.device import cpu_name
from blipbench.download import cache_dir
from blipbench.metrics.caption_tools import GET_SPICE_MODELS, missing_spice_models
from blipbench.models.tokenizer import load_tokenizer

_GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Check:
    """One finding. `fix` says what to do. It is empty if there is nothing to do."""

    name: str
    status: Literal["ok", "warn", "fail"]
    detail: str
    fix: str = ""


def diagnose() -> list[Check]:
    """All checks: interpreter, libraries, device, then the machine."""
    return [
        check_python(),
        *check_packages(),
        check_tokenizer(),
        *check_gpus(),
        check_cpu(),
        check_memory(),
        check_shared_memory(),
        check_disk("disk, here", Path.cwd()),
        check_disk("disk, downloads", cache_dir()),
        check_java(),
        check_spice_models(),
    ]


def report_lines(checks: Sequence[Check]) -> list[str]:
    """One line for each check, and a second one if there is something to do."""
    width = max(len(check.name) for check in checks)
    lines = []
    for check in checks:
        lines.append(f"{check.status:<4}  {check.name:<{width}}  {check.detail}")
        if check.fix:
            lines.append(f"{'':<4}  {'':<{width}}  -> {check.fix}")
    return lines


def exit_status(checks: Sequence[Check]) -> int:
    """1 if something keeps blipbench from working, else 0. A warning is not a failure."""
    return int(any(check.status == "fail" for check in checks))


def check_python() -> Check:
    found = platform.python_version()
    try:
        wanted = importlib.metadata.metadata("blipbench")["Requires-Python"]
    except importlib.metadata.PackageNotFoundError:
        return Check("Python", "warn", f"{found}; blipbench is not installed, its requirements are unknown", _INSTALL)
    if SpecifierSet(wanted).contains(found, prereleases=True):
        return Check("Python", "ok", f"{found} on {platform.system()} {platform.machine()}")
    return Check("Python", "fail", f"{found}; blipbench needs {wanted}", "use another interpreter")


def check_packages() -> list[Check]:
    """Compare the installed packages with the ranges in blipbench's metadata."""
    try:
        stated = importlib.metadata.requires("blipbench") or []
    except importlib.metadata.PackageNotFoundError:
        return [Check("packages", "warn", "blipbench is not installed, so its requirements are unknown", _INSTALL)]
    needed = [requirement for requirement in map(Requirement, stated) if _applies(requirement)]
    wrong = [check for requirement in needed if (check := _check_package(requirement)) is not None]
    shown = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("torch", "transformers", "timm"))
    return wrong or [Check("packages", "ok", f"{len(needed)} within range; {shown}")]


_INSTALL = "pip install -e . in the checkout"


def _applies(requirement: Requirement) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": ""})


def _check_package(requirement: Requirement) -> Check | None:
    try:
        found = importlib.metadata.version(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        return Check(requirement.name, "fail", "not installed", f"pip install '{requirement}'")
    if requirement.specifier.contains(found, prereleases=True):
        return None
    return Check(requirement.name, "fail", f"{found}; blipbench needs {requirement}", f"pip install '{requirement}'")


def check_tokenizer() -> Check:
    """A known word must get its known id: some versions of tokenizers map every word to [UNK]."""
    found = load_tokenizer(None).encode(["a"], 8)
    if found == [[101, 1037, 102]]:
        return Check("tokenizer", "ok", "the bundled vocabulary gives the known ids")
    return Check("tokenizer", "fail", f"'a' became {found} instead of [[101, 1037, 102]]", "reinstall tokenizers")


def check_gpus() -> list[Check]:
    if not torch.cuda.is_available():
        if Path("/proc/driver/nvidia/version").exists():
            why = (
                "torch was built without CUDA"
                if torch.version.cuda is None
                else f"torch requires CUDA {torch.version.cuda}"
            )
            return [
                Check("GPU", "warn", f"there is a driver, but no GPU can be used: {why}", "compare with `nvidia-smi`")
            ]
        return [Check("GPU", "ok", "none; blipbench computes on the CPU")]
    return [_describe_gpu(index) for index in range(torch.cuda.device_count())]


def _describe_gpu(index: int) -> Check:
    properties = torch.cuda.get_device_properties(index)
    with torch.cuda.device(index):
        has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    kind = "bf16" if has_bf16 else "no bf16: use --precision fp16"
    detail = f"{properties.name}, {properties.total_memory / _GIB:.0f} GiB, CUDA {torch.version.cuda}, {kind}"
    return Check(f"GPU {index}", "ok", detail)


def check_cpu() -> Check:
    cores, threads = available_cores(), torch.get_num_threads()
    bf16 = "bf16 in hardware" if cpu_has_bf16() else "no bf16 in hardware: --amp would be slow"
    detail = f"{cpu_name()}, {cores} cores for this process, {threads} torch threads, {bf16}"
    if threads > cores:
        return Check(
            "CPU", "warn", detail, f"export OMP_NUM_THREADS={cores}: more threads than cores slow each other down"
        )
    return Check("CPU", "ok", detail)


def available_cores() -> int:
    """Cores that this process may use. In a container or under a scheduler they can be fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_has_bf16() -> bool:
    """Whether the processor multiplies bf16 natively (AVX-512 BF16, AMX, or ARM's bf16)."""
    try:
        words = set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
    except OSError:
        return False
    return not words.isdisjoint({"avx512_bf16", "amx_bf16", "bf16"})


def check_memory() -> Check:
    total, free = _memory()
    detail = f"{free / _GIB:.1f} of {total / _GIB:.1f} GiB free"
    if free < 4 * _GIB:
        return Check("memory", "warn", detail, "a base model needs 4 GiB; close other programs")
    return Check("memory", "ok", detail)


def _memory() -> tuple[int, int]:
    """(total, available) bytes."""
    page, pages = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_PHYS_PAGES")
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8")
    except OSError:
        return page * pages, page * pages
    fields = {name: int(kib) * 1024 for name, kib in re.findall(r"^(\w+):\s+(\d+) kB", lines, re.MULTILINE)}
    return fields["MemTotal"], fields.get("MemAvailable", fields["MemFree"])


def check_shared_memory() -> Check:
    """Worker processes pass decoded images through /dev/shm, which often has only 64 MiB in a container."""
    shm = Path("/dev/shm")
    if not shm.is_dir():
        return Check("shared memory", "ok", "this system does not use /dev/shm")
    free = shutil.disk_usage(shm).free
    detail = f"{free / _GIB:.2f} GiB free in /dev/shm"
    if free < _GIB / 4:
        return Check("shared memory", "warn", detail, "start the container with --shm-size 1g, or run with --workers 0")
    return Check("shared memory", "ok", detail)


def check_disk(name: str, folder: Path) -> Check:
    """Free space for `folder`. If it does not exist yet, its nearest parent that does is checked."""
    existing = next(path for path in (folder, *folder.parents) if path.is_dir())
    free = shutil.disk_usage(existing).free
    detail = f"{free / _GIB:.1f} GiB free for {folder}"
    if not os.access(existing, os.W_OK):
        return Check(name, "fail", f"{existing} is not writable", "choose another folder (--out, BLIPBENCH_CACHE)")
    if free < _GIB:
        return Check(name, "fail", detail, "free some space or choose another folder (--out, BLIPBENCH_CACHE)")
    if free < 5 * _GIB:
        return Check(name, "warn", detail, "a base checkpoint takes up to 2 GiB, COCO's images 19 GiB")
    return Check(name, "ok", detail)


def check_java(command: str = "java") -> Check:
    try:
        done = subprocess.run([command, "-version"], capture_output=True, text=True, timeout=30, check=True)
    except FileNotFoundError:
        return Check("Java", "warn", "not found", "install a Java runtime (8 or later); only caption metrics need it")
    except (OSError, subprocess.SubprocessError) as error:
        return Check("Java", "warn", f"`{command} -version` failed: {error}", "reinstall the Java runtime")
    shown = (done.stderr or done.stdout).strip().splitlines()  # every vendor prints the version to stderr
    return Check("Java", "ok", shown[0] if shown else "found; it does not say its version")


def check_spice_models() -> Check:
    """SPICE, one of the caption metrics, needs models that no package contains."""
    missing = missing_spice_models()
    if not missing:
        return Check(
            "SPICE models",
            "ok",
            "found; recent Java gives SPICE to one decimal, Java 8 to 14 for each image",
        )
    fix = f"`{GET_SPICE_MODELS}` downloads 400 MB; without them, the other metrics are computed"
    return Check("SPICE models", "warn", f"{missing[0].name} is not in {missing[0].parent}", fix)
