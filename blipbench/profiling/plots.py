"""Pictures of a profile, as PNGs: a roofline, latency and throughput against the batch, and time by kernel group."""

import io
import itertools
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox

from blipbench.files import write_bytes
from blipbench.profiling.kernels import GROUPS, OTHER
from blipbench.profiling.record import Profile

MARKERS = "osD^vP"
RADII = (8, 18, 30, 45, 62, 82, 105, 130)  # points between a label and what it names
DIRECTIONS = tuple(np.deg2rad(angle) for angle in (20, -20, 160, -160, 70, -70, 110, -110))


def plot_roofline(profile: Profile, path: Path) -> None:
    """FLOP/s against FLOPs a byte, with the measured ceilings (Williams 2009). Raises BlipbenchError if not written."""
    figure = roofline(profile)
    _write(figure, path)


def roofline(profile: Profile) -> Figure:
    parts = [part for part in profile.parts if part.flops > 0]
    figure = Figure(figsize=(10, 6.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("needed FLOPs per byte that must be moved")
    axes.set_ylabel("FLOP/s")
    intensities = [part.flops / part.moved_bytes for part in parts] or [1.0]
    rates = [part.flop_rate for part in parts] or [1.0]
    low, high = min(intensities) / 4, max([*intensities, *(c.flops / c.bytes for c in profile.ceilings)]) * 6
    axes.set_xlim(low, high)
    axes.set_ylim(min(rates) / 3, 3 * max([*rates, *(ceiling.flops for ceiling in profile.ceilings)]))
    for place, ceiling in enumerate(profile.ceilings):
        x = np.geomspace(low, high, 200)
        y = np.minimum(ceiling.flops, x * ceiling.bytes)
        label = f"{ceiling.precision}: {ceiling.flops / 1e9:,.0f} GFLOP/s, {ceiling.bytes / 1e9:,.0f} GB/s"
        axes.plot(x, y, color=f"C{place}", linewidth=1.5, label=label)
    precisions = [ceiling.precision for ceiling in profile.ceilings]
    for part, intensity, rate in zip(parts, intensities, rates, strict=True):
        place = precisions.index(part.precision)
        axes.plot(intensity, rate, MARKERS[place % len(MARKERS)], color=f"C{place}", markersize=6)
    batches = len({part.batch for part in parts}) > 1
    names = [f"{part.label}, {part.batch}" if batches else part.label for part in parts]
    axes.legend(loc="lower right", title="measured ceilings")
    axes.grid(True, which="major", alpha=0.25)
    axes.set_title(f"{profile.name} on {profile.environment.device}")
    figure.draw_without_rendering()
    place_labels(axes, list(zip(intensities, rates, names, strict=True)))
    return figure


def place_labels(axes: Axes, points: list[tuple[float, float, str]]) -> list[Annotation]:
    """Name each point (x, y, name) near it, such that no label covers another label, a point or the legend."""
    figure: Any = axes.figure
    renderer = figure.canvas.get_renderer()
    shown = [axes.transData.transform((x, y)) for x, y, _ in points]
    taken = [Bbox.from_bounds(x - 4, y - 4, 8, 8) for x, y in shown]
    if (legend := axes.get_legend()) is not None:
        taken.append(legend.get_window_extent(renderer))
    inside = axes.get_window_extent(renderer)
    labels = []
    for x, y, name in points:
        label = axes.annotate(
            name,
            (x, y),
            (0, 0),
            textcoords="offset points",
            fontsize=8,
            arrowprops={"arrowstyle": "-", "color": "0.6", "linewidth": 0.6, "shrinkB": 3},
        )
        for radius, angle in itertools.product(RADII, DIRECTIONS):
            label.set_position((radius * np.cos(angle), radius * np.sin(angle)))
            label.set_horizontalalignment("left" if np.cos(angle) > 0 else "right")
            label.set_verticalalignment("center")
            label.update_positions(renderer)
            box = _text_box(label, renderer)
            if not any(box.overlaps(other) for other in taken) and _contains(inside, box):
                break
        taken.append(_text_box(label, renderer))
        labels.append(label)
    return labels


def _text_box(label: Annotation, renderer: Any) -> Bbox:
    """The place of the text alone, without its line."""
    from matplotlib.text import Text

    return Text.get_window_extent(label, renderer)


def _contains(outer: Bbox, inner: Bbox) -> bool:
    return bool(inner.x0 >= outer.x0 and inner.x1 <= outer.x1 and inner.y0 >= outer.y0 and inner.y1 <= outer.y1)


def plot_batches(profile: Profile, path: Path) -> None:
    """Median latency and throughput of each part and precision against its batch."""
    figure = Figure(figsize=(12, 5), layout="constrained")
    latency, throughput = figure.subplots(1, 2)
    lines: dict[tuple[str, str], list[tuple[int, float, float]]] = defaultdict(list)
    for part in profile.parts:
        lines[part.label, part.precision].append((part.batch, part.median * 1e3, part.item_rate))
    labels = list(dict.fromkeys(label for label, _ in lines))
    precisions = [ceiling.precision for ceiling in profile.ceilings]
    for (label, precision), points in lines.items():
        batch, milliseconds, rate = zip(*sorted(points), strict=True)
        style = {
            "color": f"C{labels.index(label) % 10}",
            "linestyle": ("-", "--", ":", "-.")[precisions.index(precision) % 4],
            "marker": MARKERS[labels.index(label) // 10 % len(MARKERS)],
        }
        latency.plot(batch, milliseconds, label=f"{label}, {precision}", **style)
        throughput.plot(batch, rate, **style)
    for axes, unit in ((latency, "ms per call (median)"), (throughput, "items per second")):
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xlabel("images per call")
        axes.set_ylabel(unit)
        axes.set_xticks(sorted({part.batch for part in profile.parts}))
        axes.xaxis.set_major_formatter("{x:.0f}")
        axes.minorticks_off()
        axes.grid(True, alpha=0.25)
    figure.legend(loc="outside right upper", fontsize=8)
    _write(figure, path)


def plot_kernels(profile: Profile, path: Path) -> None:
    """The time of a call by kernel group: one stacked bar for each part and precision, as shares of the call."""
    parts = [part for part in profile.parts if part.kernels]
    figure = Figure(figsize=(10, 1.5 + 0.32 * len(parts)), layout="constrained")
    axes = figure.subplots()
    names = [f"{part.label}, {part.precision}, {part.batch}" for part in parts]
    left = np.zeros(len(parts))
    for place, group in enumerate([*GROUPS, OTHER]):
        totals = [sum(kernel.seconds for kernel in part.kernels) for part in parts]
        of_group = [sum(kernel.seconds for kernel in part.kernels if kernel.group == group) for part in parts]
        width = np.array([seconds / total for seconds, total in zip(of_group, totals, strict=True)])
        axes.barh(range(len(parts)), width, left=left, color=f"C{place}", label=group)
        left += width
    axes.set_yticks(range(len(parts)), names)
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter("{x:.0%}")
    axes.set_xlabel("share of the time of a call")
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper center", ncols=len(GROUPS) + 1)
    _write(figure, path)


def _write(figure: Figure, path: Path) -> None:
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=120)
    write_bytes(path, picture.getvalue(), "Choose another --plot")
