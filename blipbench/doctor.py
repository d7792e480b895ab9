"""`blipbench doctor`: what this machine has, what it lacks, and what to do about it.

`diagnose()` looks and changes nothing; `report_lines` and `exit_status` turn its checks into what a command needs.
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
    """One finding. `fix` says what to do and is empty when there is nothing to do."""

    name: str
    status: Literal["ok", "warn", "fail"]
    detail: str
    fix: str = ""


def diagnose() -> list[Check]:
    """Every check, in the order a reader wants them: interpreter, libraries, device, then the machine."""
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
    """One line a check, and one below it where something is to be done."""
    width = max(len(check.name) for check in checks)
    lines = []
    for check in checks:
        lines.append(f"{check.status:<4}  {check.name:<{width}}  {check.detail}")
        if check.fix:
            lines.append(f"{'':<4}  {'':<{width}}  -> {check.fix}")
    return lines


def exit_status(checks: Sequence[Check]) -> int:
    """1 if anything would keep blipbench from working, else 0; a warning is not a failure."""
    return int(any(check.status == "fail" for check in checks))


def check_python() -> Check:
    found = platform.python_version()
    try:
        wanted = importlib.metadata.metadata("blipbench")["Requires-Python"]
    except importlib.metadata.PackageNotFoundError:
        return Check("Python", "warn", f"{found}; blipbench is not installed, so what it needs is not known", _INSTALL)
    if SpecifierSet(wanted).contains(found, prereleases=True):
        return Check("Python", "ok", f"{found} on {platform.system()} {platform.machine()}")
    return Check("Python", "fail", f"{found}; blipbench needs {wanted}", "use another interpreter")


def check_packages() -> list[Check]:
    """The libraries that blipbench's own metadata asks for, against the ranges it states."""
    try:
        stated = importlib.metadata.requires("blipbench") or []
    except importlib.metadata.PackageNotFoundError:
        return [Check("packages", "warn", "blipbench is not installed, so the ranges it needs are not known", _INSTALL)]
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
    """Some library versions read a vocabulary file and map every word to [UNK]: a known word must get its known id."""
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
                else f"torch wants CUDA {torch.version.cuda}"
            )
            return [
                Check("GPU", "warn", f"a driver is here but no GPU can be used; {why}", "compare with `nvidia-smi`")
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
    """Cores this process may run on, which in a container or under a scheduler can be fewer than the machine has."""
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
        return Check("memory", "warn", detail, "a base model with its working space wants 4 GiB; end other programs")
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
    """Worker processes hand decoded images over through /dev/shm, which containers often keep at 64 MiB."""
    shm = Path("/dev/shm")
    if not shm.is_dir():
        return Check("shared memory", "ok", "this system does not use /dev/shm")
    free = shutil.disk_usage(shm).free
    detail = f"{free / _GIB:.2f} GiB free in /dev/shm"
    if free < _GIB / 4:
        return Check("shared memory", "warn", detail, "start the container with --shm-size 1g, or run with --workers 0")
    return Check("shared memory", "ok", detail)


def check_disk(name: str, folder: Path) -> Check:
    """Room in `folder`, which need not exist yet: its nearest parent that does is asked."""
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
    """One of the caption metrics, SPICE, needs models that no package brings along."""
    missing = missing_spice_models()
    if not missing:
        return Check("SPICE models", "ok", "found; recent Java gives SPICE to a tenth, Java 8 to 14 each image's")
    fix = f"`{GET_SPICE_MODELS}` fetches some 400 MB; without them captions are scored by the other metrics"
    return Check("SPICE models", "warn", f"{missing[0].name} is not in {missing[0].parent}", fix)
