"""Times the parts of a profile and makes its record.

    profile, calls = run_profile(settings, models, runtimes, source, progress)

Every configuration (part, way, precision, batch, attention) is called once; then all are called in turn, round after
round, until the time is up.
"""

import dataclasses
import functools
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from blipbench.device import Runtime, use_tf32
from blipbench.evaluation.result import describe_environment, now
from blipbench.inference.linear import bf16_slowdown
from blipbench.inference.peak import measure_peak
from blipbench.profiling.hardware import measure_copy
from blipbench.profiling.kernels import profile_kernels
from blipbench.profiling.models import Models
from blipbench.profiling.parts import find_part
from blipbench.profiling.record import CeilingRecord, KernelRecord, ModelSource, PartRecord, Profile, ShapesRecord
from blipbench.profiling.shapes import Shapes
from blipbench.profiling.timing import Call, Times, first_call, measure
from blipbench.profiling.work import Work

Advance = Callable[[int], None]
Progress = Callable[[str, str, int], AbstractContextManager[Advance]]  # stage, noun, total

ATTENTIONS = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "math": SDPBackend.MATH,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
}


@dataclasses.dataclass(frozen=True)
class ProfileSettings:
    """`seconds` bounds the rounds. `attentions` are kernels of torch's attention to force, on a GPU."""

    name: str
    parts: Sequence[str]
    ways: Sequence[str]
    batches: Sequence[int]
    image_size: int
    tokens: float
    texts_per_image: int
    seconds: float
    attentions: Sequence[str] = ()
    compiled: bool = False
    kernels: bool = False


@dataclasses.dataclass(frozen=True)
class _Config:
    part: str
    way: str
    runtime: Runtime
    batch: int
    attention: str | None
    compiled: bool


@dataclasses.dataclass
class _Ready:
    """A configuration whose first call is done."""

    config: _Config
    batch: int  # halved from the asked one until it fits into memory
    work: Work
    call: Call
    times: Times
    output: Tensor
    peak_bytes: int
    notes: list[str]


def run_profile(
    settings: ProfileSettings, models: Models, runtimes: Sequence[Runtime], source: ModelSource, progress: Progress
) -> tuple[Profile, list[tuple[str, Call]]]:
    """The profile, and the call of each of its parts by name, for a trace."""
    begin = time.perf_counter()
    device = runtimes[0].device
    with progress("ceilings", "precisions", len(runtimes)) as advance:
        ceilings = []
        for runtime in runtimes:
            use_tf32(runtime.precision == "tf32")
            ceilings.append(
                CeilingRecord(precision=runtime.precision, flops=measure_peak(runtime), bytes=_copy(runtime))
            )
            advance(1)
    configs = list(_configs(settings, runtimes))
    ready: list[_Ready] = []
    with progress("first calls", "configurations", len(configs)) as advance:
        for config in configs:
            try:
                ready.append(_start(config, settings, models))
            except Exception as error:
                if not config.compiled:
                    raise
                reason = str(error).strip().splitlines()[0]  # torch.compile raises errors of many types
                ready[-1].notes.append(f"torch.compile does not compile it: {reason}")
            advance(1)
    with progress("rounds", "%", 100) as advance:
        rounds = measure([one.call for one in ready], [one.times for one in ready], device, settings.seconds, advance)
    kernels: list[list[KernelRecord]] = [[] for _ in ready]
    if settings.kernels:
        with progress("kernels", "configurations", len(ready)) as advance:
            for place, one in enumerate(ready):
                kernels[place] = profile_kernels(one.call, device)
                advance(1)
    profile = Profile(
        name=settings.name,
        created=now(),
        model=source,
        shapes=ShapesRecord(
            image_size=settings.image_size, tokens=settings.tokens, texts_per_image=settings.texts_per_image
        ),
        ceilings=ceilings,
        parts=[_record(one, ready, found) for one, found in zip(ready, kernels, strict=True)],
        rounds=rounds,
        total_seconds=time.perf_counter() - begin,
        environment=describe_environment(runtimes[0], world_size=1),
    )
    names = [f"{part.label}, {part.precision}, batch {part.batch}" for part in profile.parts]
    return profile, list(zip(names, (one.call for one in ready), strict=True))


_copy = functools.cache(measure_copy)


@functools.cache
def _bf16_is_emulated() -> bool:
    return bf16_slowdown() > 1


def _configs(settings: ProfileSettings, runtimes: Sequence[Runtime]) -> Iterator[_Config]:
    attentions: Sequence[str | None] = settings.attentions or [None]
    every = itertools.product(settings.parts, settings.batches, settings.ways, runtimes, attentions)
    for part, batch, way, runtime, attention in every:
        if way not in find_part(part).ways:
            continue
        yield _Config(part, way, runtime, batch, attention, compiled=False)
        if settings.compiled and part not in NOT_COMPILED:
            yield _Config(part, way, runtime, batch, attention, compiled=True)


NOT_COMPILED = ("decode", "end-to-end")  # their time is not that of tensor operations


def _start(config: _Config, settings: ProfileSettings, models: Models) -> _Ready:
    """Build the work and call it once. If memory does not suffice, halve the batch and try again."""
    batch, notes = config.batch, list[str]()
    if config.runtime.precision == "bf16" and config.runtime.device.type == "cpu" and _bf16_is_emulated():
        notes.append("bf16 is emulated on this processor, which has no fast products in it")
    while True:
        try:
            return _attempt(config, batch, settings, models, notes)
        except torch.OutOfMemoryError:
            if batch == 1:
                raise
            torch.cuda.empty_cache()
            notes.append(f"batch {batch} does not fit into memory")
            batch //= 2


def _attempt(config: _Config, batch: int, settings: ProfileSettings, models: Models, notes: list[str]) -> _Ready:
    runtime = config.runtime
    use_tf32(runtime.precision == "tf32")
    shapes = Shapes(settings.image_size, batch, settings.tokens, settings.texts_per_image)
    work = find_part(config.part).ways[config.way](models, runtime, shapes)
    call = torch.compile(work.call) if config.compiled else work.call
    call = _with_attention(call if find_part(config.part).trains else torch.inference_mode()(call), config.attention)
    call = _in_precision(call, runtime)
    if runtime.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(runtime.device)
    times = first_call(call, runtime.device)
    peak = runtime.peak_memory()["peak_device_bytes"]
    output = call().detach().float().cpu()
    return _Ready(config, batch, work, call, times, output, peak, notes)


def _in_precision(call: Call, runtime: Runtime) -> Call:
    """The rounds of fp32 and tf32 take turns, and tf32 is a setting of the whole process."""

    def switched() -> Tensor:
        use_tf32(runtime.precision == "tf32")
        return call()

    return switched


def _with_attention(call: Call, name: str | None) -> Call:
    if name is None:
        return call

    def restricted() -> Tensor:
        with sdpa_kernel(ATTENTIONS[name]):
            return call()

    return restricted


def _record(one: _Ready, every: Sequence[_Ready], kernels: list[KernelRecord]) -> PartRecord:
    config, work, times = one.config, one.work, one.times
    return PartRecord(
        part=config.part,
        way=config.way + (" compiled" if config.compiled else ""),
        precision=config.runtime.precision,
        batch=one.batch,
        attention=config.attention,
        noun=find_part(config.part).noun,
        items=work.items,
        flops=work.flops,
        moved_bytes=work.moved,
        parameters=work.parameters,
        first_seconds=times.first,
        seconds=times.samples,
        host_seconds=times.host,
        peak_bytes=one.peak_bytes,
        deviation=_deviation(one, every),
        pays_after=_pays_after(one, every),
        stages={name: sorted(seconds)[len(seconds) // 2] for name, seconds in work.stages.items()},
        kernels=kernels,
        notes=one.notes,
    )


def _deviation(one: _Ready, every: Sequence[_Ready]) -> float | None:
    """The largest difference from the same configuration in the first precision, relative to its largest value."""
    first = _like(one, every, lambda config: dataclasses.replace(config, runtime=every[0].config.runtime))
    if first is None or first is one or first.output.shape != one.output.shape:
        return None
    return float((one.output - first.output).abs().max() / first.output.abs().max())


def _pays_after(one: _Ready, every: Sequence[_Ready]) -> float | None:
    """The calls after which compilation has saved its own time, or None if it does not save any."""
    if not one.config.compiled:
        return None
    eager = _like(one, every, lambda config: dataclasses.replace(config, compiled=False))
    saved = eager.times.median - one.times.median if eager is not None else 0.0
    return one.times.first / saved if saved > 0 else None


def _like(one: _Ready, every: Sequence[_Ready], change: Callable[[_Config], _Config]) -> _Ready | None:
    wanted = change(one.config)
    return next((other for other in every if other.config == wanted and other.batch == one.batch), None)
