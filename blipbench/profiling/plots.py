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
from matplotlib.path import Path as Line
from matplotlib.text import Annotation, Text
from matplotlib.ticker import NullLocator
from matplotlib.transforms import Bbox

from blipbench.files import write_bytes
from blipbench.profiling.kernels import GROUPS, OTHER
from blipbench.profiling.record import Profile

MARKERS = "osD^vP"
RADII = (8, 14, 20, 27, 35, 45, 56, 68, 82, 98, 115, 135)  # points between a label and what it names
MUCH = 100  # times as bad as a line through a text is a text on another
DIRECTIONS = tuple(np.deg2rad(angle) for angle in (20, -20, 160, -160, 45, -45, 135, -135, 70, -70, 110, -110))


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
    ridges = [ceiling.flops / ceiling.bytes for ceiling in profile.ceilings]
    low, high = min([*intensities, *ridges]) / 4, 6 * max([*intensities, *ridges])
    axes.set_xlim(low, high)
    axes.set_ylim(min(rates) / 3, 3 * max([*rates, *(ceiling.flops for ceiling in profile.ceilings)]))
    for place, ceiling in enumerate(profile.ceilings):
        x = np.array([low, ridges[place], high])
        y = np.minimum(ceiling.flops, x * ceiling.bytes)
        label = (
            f"{ceiling.precision}: {ceiling.flops / 1e9:,.0f} GFLOP/s, {ceiling.bytes / 1e9:,.0f} GB/s, "
            f"ridge at {ridges[place]:.3g} FLOPs per byte"
        )
        # No marker on the line itself; it shows in the legend.
        axes.plot(x, y, color=f"C{place}", marker=MARKERS[place % len(MARKERS)], markevery=[], label=label)
    precisions = [ceiling.precision for ceiling in profile.ceilings]
    for part, intensity, rate in zip(parts, intensities, rates, strict=True):
        place = precisions.index(part.precision)
        axes.plot(intensity, rate, MARKERS[place % len(MARKERS)], color=f"C{place}", markersize=6)
    batches = len({part.batch for part in parts}) > 1
    names = [f"{part.label}, {part.batch}" if batches else part.label for part in parts]
    figure.legend(loc="outside lower center", title="measured ceilings")
    axes.grid(True, which="major", alpha=0.25)
    axes.set_title(f"{profile.name} on {profile.environment.device}")
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # a new layout for the labels would move the points away from under them
    place_labels(axes, list(zip(intensities, rates, names, strict=True)))
    return figure


def place_labels(axes: Axes, points: list[tuple[float, float, str]]) -> list[Annotation]:
    """Name each point (x, y, name) near it: at the nearest place where the text covers no other text, no point and no
    line, and the line to the point crosses no other text. If there is none, where it covers the least."""
    figure: Any = axes.figure
    renderer = figure.canvas.get_renderer()
    shown = [axes.transData.transform((x, y)) for x, y, _ in points]
    dots = [Bbox.from_bounds(x - 4, y - 4, 8, 8) for x, y in shown]
    lines = [line.get_transform().transform_path(line.get_path()) for line in axes.lines if line.get_linestyle() == "-"]
    inside = axes.get_window_extent(renderer)
    labels: list[Annotation] = []
    texts: list[Bbox] = []
    for (x, y, name), point in zip(points, shown, strict=True):
        arrow = {"arrowstyle": "-", "color": "0.6", "linewidth": 0.6, "shrinkB": 3}
        label = axes.annotate(name, (x, y), (0, 0), textcoords="offset points", fontsize=8, arrowprops=arrow)
        least: tuple[int, Bbox, Line] | None = None
        found = (0.0, 0.0)
        for radius, angle in itertools.product(RADII, DIRECTIONS):
            offset = radius * np.cos(angle), radius * np.sin(angle)
            _move(label, offset)
            box = _text_box(label, renderer)
            line = Line([point, (box.p0 + box.p1) / 2])
            hits = MUCH * sum(box.overlaps(other) for other in [*dots, *texts])
            hits += sum(other.intersects_bbox(box, filled=False) for other in lines)
            hits += sum(line.intersects_bbox(other) for other in texts)
            hits += 0 if _contains(inside, box) else MUCH * len(points)
            if least is None or hits < least[0]:
                least, found = (hits, box, line), offset
            if hits == 0:
                break
        assert least is not None
        _move(label, found)
        texts.append(least[1])
        lines.append(least[2])
        labels.append(label)
    return labels


def _move(label: Annotation, offset: tuple[float, float]) -> None:
    label.set_position(offset)
    label.set_horizontalalignment("left" if offset[0] > 0 else "right")
    label.set_verticalalignment("center")


def _text_box(label: Annotation, renderer: Any) -> Bbox:
    """The place of the text alone, without its line."""
    label.update_positions(renderer)
    return Text.get_window_extent(label, renderer)


def _contains(outer: Bbox, inner: Bbox) -> bool:
    return bool(inner.x0 >= outer.x0 and inner.x1 <= outer.x1 and inner.y0 >= outer.y0 and inner.y1 <= outer.y1)


def plot_batches(profile: Profile, path: Path) -> None:
    """Median latency and throughput of each part and precision against its batch."""
    lines: dict[tuple[str, str], list[tuple[int, float, float]]] = defaultdict(list)
    for part in profile.parts:
        lines[part.label, part.precision].append((part.batch, part.median * 1e3, part.item_rate))
    figure = Figure(figsize=(12, max(5.0, 1 + 0.19 * len(lines))), layout="constrained")
    latency, throughput = figure.subplots(1, 2)
    labels = list(dict.fromkeys(label for label, _ in lines))
    precisions = [ceiling.precision for ceiling in profile.ceilings]
    for (label, precision), points in lines.items():
        batch, milliseconds, rate = zip(*sorted(points), strict=True)
        later = precisions.index(precision)
        style = {
            "color": f"C{labels.index(label) % 10}",
            "linestyle": ("-", "--", ":", "-.")[later % 4],
            "fillstyle": ("full", "none", "left", "top")[later % 4],
            "marker": MARKERS[labels.index(label) // 10 % len(MARKERS)],
        }
        latency.plot(batch, milliseconds, label=f"{label}, {precision}", **style)
        throughput.plot(batch, rate, **style)
    nouns = ", ".join(dict.fromkeys(part.noun for part in profile.parts))
    for axes, unit in ((latency, "ms per call (median)"), (throughput, f"{nouns} per second")):
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xlabel("images per call")
        axes.set_ylabel(unit)
        axes.set_xticks(sorted({part.batch for part in profile.parts}))
        axes.xaxis.set_major_formatter("{x:.0f}")
        axes.xaxis.set_minor_locator(NullLocator())
        axes.grid(True, alpha=0.25)
    figure.legend(loc="outside right upper", fontsize=8)
    _write(figure, path)


def plot_kernels(profile: Profile, path: Path) -> None:
    """The time of a call by kernel group: one stacked bar for each part and precision, as shares of the call."""
    parts = [part for part in profile.parts if part.kernels]
    figure = Figure(figsize=(10, 1.5 + 0.32 * len(parts)), layout="constrained")
    axes = figure.subplots()
    names = [f"{part.label}, {part.precision}, {part.batch}" for part in parts]
    totals = [sum(kernel.seconds for kernel in part.kernels) for part in parts]
    left = np.zeros(len(parts))
    for place, group in enumerate([*GROUPS, OTHER]):
        of_group = [sum(kernel.seconds for kernel in part.kernels if kernel.group == group) for part in parts]
        width = np.array([seconds / total for seconds, total in zip(of_group, totals, strict=True)])
        axes.barh(range(len(parts)), width, left=left, color=f"C{place}", label=group)
        left += width
    axes.set_yticks(range(len(parts)), names)
    for place, total in enumerate(totals):
        axes.annotate(f"{total * 1e3:.3g} ms", (1, place), (4, 0), va="center", textcoords="offset points")
    axes.set_ylim(len(parts) - 0.5, -0.5)
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter("{x:.0%}")
    axes.set_xlabel("share of the time of the kernels of a call, whose sum is at the right")
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper center", ncols=len(GROUPS) + 1)
    _write(figure, path)


def _write(figure: Figure, path: Path) -> None:
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=120)
    write_bytes(path, picture.getvalue(), "Choose another --plot")
