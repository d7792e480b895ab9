"""A profile as tables on a terminal, and several profiles as one table or as JSON-compatible records.

Takes a `Profile` (the content of `profile.json`) and prints on a console. Without a terminal the width is 80 columns:
then the names of parts break, and figures do not.
"""

import itertools
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from blipbench.profiling.record import CeilingRecord, PartRecord, Profile

TOP_KERNELS = 5


def print_profile(profile: Profile, console: Console) -> None:
    console.print(_timings(profile))
    console.print(_rates(profile))
    console.print(_needs(profile))
    for table in (_speed_up(profile), _ways(profile), _compiled(profile)):
        if table.row_count:
            console.print(table)
    for part in profile.parts:
        if part.stages:
            console.print(_stages(part))
        if part.kernels:
            console.print(_kernels(part))
    for line in _caption(profile):
        console.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)


def as_records(profile: Profile) -> list[dict[str, Any]]:
    """The main figures of each part, JSON-compatible."""
    return [
        {
            "profile": profile.name,
            "part": part.label,
            "precision": part.precision,
            "batch": part.batch,
            "p50_seconds": part.median,
            "items_per_second": part.item_rate,
            "noun": part.noun,
            "share_of_peak": part.flop_rate / profile.ceiling(part.precision).flops,
        }
        for part in profile.parts
    ]


def print_summary(profiles: Sequence[Profile], console: Console) -> None:
    """The main figures of several profiles in one table."""
    table = _table(["profile", "part", "in"], ["batch", "p50", "per second", "of peak"])
    for profile in profiles:
        name = profile.name
        for record in as_records(profile):
            rate = f"{_digits(record['items_per_second'])} {record['noun']}"
            cells = [record["precision"], str(record["batch"]), _duration(record["p50_seconds"]), rate]
            table.add_row(name, record["part"], *cells, _share(record["share_of_peak"]))
            name = ""  # on the first line of each profile only
    console.print(table)


def _timings(profile: Profile) -> Table:
    table = _table(["part", "in"], ["batch", "first", "p50", "p90", "p99", "spread"])
    for part in profile.parts:
        times = [_duration(part.percentile(percent)) for percent in (50, 90, 99)]
        table.add_row(*_name(part), _duration(part.first_seconds), *times, f"{part.spread:.1%}")
    return table


def _rates(profile: Profile) -> Table:
    unit, size = ("TFLOP/s", 1e12) if any(part.flop_rate >= 1e12 for part in profile.parts) else ("GFLOP/s", 1e9)
    table = _table(["part", "in"], ["batch", "per second", unit, "of peak", "bound by"])
    for part in profile.parts:
        ceiling = profile.ceiling(part.precision)
        cells = [f"{_digits(part.item_rate)} {part.noun}", _digits(part.flop_rate / size)]
        table.add_row(*_name(part), *cells, _share(part.flop_rate / ceiling.flops), part.bound(ceiling))
    return table


def _needs(profile: Profile) -> Table:
    """What a call needs at least, and the memory that it took."""
    memory = any(part.peak_bytes for part in profile.parts)
    columns = ["batch", "GFLOP", "MB moved", "GB/s", "of copy", "parameters"]
    table = _table(["part", "in"], columns + (["peak memory"] if memory else []))
    for part in profile.parts:
        copied = part.byte_rate / profile.ceiling(part.precision).bytes
        cells = [_digits(part.flops / 1e9), _digits(part.moved_bytes / 1e6), _digits(part.byte_rate / 1e9)]
        cells += [_share(copied), _digits(part.parameters)]
        table.add_row(*_name(part), *cells, *([f"{part.peak_bytes / 2**30:.2f} GiB"] if memory else []))
    return table


def _name(part: PartRecord) -> tuple[str, str, str]:
    return part.label, part.precision, str(part.batch)


def _speed_up(profile: Profile) -> Table:
    """Each later precision beside the first. A batch that did not fit in the first has nothing to stand beside."""
    table = _table(["part", "precisions"], ["batch", "times as fast", "largest deviation"])
    for same in _grouped(profile.parts, "part", "way", "attention", "batch"):
        first, *rest = same
        others = [part for part in rest if part.precision != first.precision]
        for other in others if first.precision == profile.ceilings[0].precision else []:
            deviation = "-" if other.deviation is None else f"{other.deviation:.1e}"
            precisions = f"{other.precision} : {first.precision}"
            table.add_row(other.label, precisions, str(other.batch), f"{first.median / other.median:.2f}", deviation)
    return table


def _ways(profile: Profile) -> Table:
    """The fast path beside the others."""
    table = _table(["part", "in"], ["batch", "fast is so many times as fast"])
    for same in _grouped(profile.parts, "part", "precision", "attention", "batch"):
        fast = [part for part in same if part.way == "fast"]
        for other in same:
            if fast and other.way in ("plain", "transformers"):
                times = f"{other.median / fast[0].median:.2f}"
                table.add_row(other.label, other.precision, str(other.batch), times)
    return table


def _compiled(profile: Profile) -> Table:
    table = _table(["part", "in"], ["batch", "compile time", "pays after"])
    for part in profile.parts:
        if part.way.endswith(" compiled"):
            pays = "never" if part.pays_after is None else f"{part.pays_after:,.0f} calls"
            table.add_row(part.label, part.precision, str(part.batch), _duration(part.first_seconds), pays)
    return table


def _stages(part: PartRecord) -> Table:
    table = _table([f"{part.label}, {part.precision}, batch {part.batch}: stage"], ["time", "share"])
    total = sum(part.stages.values())
    for name, seconds in part.stages.items():
        table.add_row(name, _duration(seconds), _share(seconds / total))
    return table


def _kernels(part: PartRecord) -> Table:
    """The groups with their shares, and under each its longest kernels."""
    table = _table([f"{part.label}, {part.precision}, batch {part.batch}: kernels"], ["calls", "time", "share"])
    total = sum(kernel.seconds for kernel in part.kernels)
    groups: dict[str, float] = defaultdict(float)
    for kernel in part.kernels:
        groups[kernel.group] += kernel.seconds
    for group, seconds in sorted(groups.items(), key=lambda item: -item[1]):
        table.add_row(group, "", _duration(seconds), _share(seconds / total), style="bold")
    if (idle := part.idle_share) is not None:
        table.add_row("no kernel runs (of a call)", "", _duration(idle * part.median), _share(idle), style="bold")
    table.add_section()
    for kernel in part.kernels[:TOP_KERNELS]:
        name = kernel.name if len(kernel.name) <= 60 else f"{kernel.name[:57]}..."
        table.add_row(name, _digits(kernel.count), _duration(kernel.seconds), _share(kernel.seconds / total))
    return table


def _caption(profile: Profile) -> Iterator[str]:
    shapes, environment = profile.shapes, profile.environment
    yield (
        f"{profile.model.name}; {shapes.image_size} px, {shapes.tokens:g} tokens a text, "
        f"{shapes.texts_per_image:,} texts an image"
    )
    for ceiling in profile.ceilings:
        yield _ceiling(ceiling)
    versions = f"torch {environment.torch}, blipbench {environment.blipbench}"
    yield f"{environment.device}, {environment.threads} threads, {versions}"
    yield f"{profile.rounds} interleaved rounds after the first calls, {profile.total_seconds:.0f} s in all"
    yield from dict.fromkeys(f"note: {part.label}: {note}" for part in profile.parts for note in part.notes)


def _ceiling(ceiling: CeilingRecord) -> str:
    peak = f"{ceiling.flops / 1e12:.3g} TFLOP/s" if ceiling.flops >= 1e12 else f"{ceiling.flops / 1e9:.3g} GFLOP/s"
    return f"measured ceilings, {ceiling.precision}: products {peak}, copies {ceiling.bytes / 1e9:.3g} GB/s"


def _grouped(parts: Sequence[PartRecord], *fields: str) -> list[list[PartRecord]]:
    """Parts that agree in these fields, in the order of their first."""

    def key(part: PartRecord) -> tuple[Any, ...]:
        return tuple(getattr(part, field) for field in fields)

    order = {found: place for place, found in reversed(list(enumerate(map(key, parts))))}
    ordered = sorted(parts, key=lambda part: order[key(part)])
    return [list(group) for _, group in itertools.groupby(ordered, key)]


def _table(texts: Sequence[str], numbers: Sequence[str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, collapse_padding=True)
    for heading in texts:
        table.add_column(heading, overflow="fold")
    for heading in numbers:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _duration(seconds: float) -> str:
    if seconds >= 1:
        return f"{seconds:.2f} s"
    return f"{seconds * 1e3:.3g} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.3g} us"


def _digits(value: float) -> str:
    if value >= 1e6:
        return f"{_digits(value / 1e6)} M"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _share(share: float) -> str:
    if share == 0:
        return "-"  # of a part without FLOPs
    return f"{share:.0%}" if share >= 0.1 else f"{share:.1%}"
