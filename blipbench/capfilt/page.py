"""Shows what CapFilt kept and dropped: a table in the terminal, and a page of examples like Figure 4 of the paper.

Takes the record of the run and its judged images. The page is one file without scripts. It embeds small images, and
every text from the web is escaped.
"""

import base64
import dataclasses
from collections.abc import Callable, Sequence
from itertools import zip_longest

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from blipbench.capfilt.result import CapfiltResult, JudgedImage, JudgedText, TextCounts
from blipbench.data.images import thumbnail

THUMBNAIL = 320  # pixels of the longer side; shown at about half that size, so that it is sharp on any screen
_SHOWN_FAILURES = 10

Outcome = tuple[bool, bool]  # whether a web text was kept, and whether the synthetic text was kept


@dataclasses.dataclass(frozen=True)
class _Example:
    name: str
    picture: str  # a data URI
    texts: Sequence[JudgedText]


@dataclasses.dataclass(frozen=True)
class _Group:
    heading: str
    images: int  # with this outcome, in the whole data set
    examples: list[_Example]


def choose_examples(images: Sequence[JudgedImage], at_most: int, seed: int) -> list[JudgedImage]:
    """A seeded sample of the images, in the order of the data.

    The outcomes (web text kept or not, synthetic text kept or not) have equal numbers of images, as far as possible.
    """
    by_outcome: dict[Outcome, list[int]] = {}
    for place in np.random.default_rng(seed).permutation(len(images)).tolist():
        by_outcome.setdefault(_outcome(images[place]), []).append(place)
    in_turn = [place for turn in zip_longest(*by_outcome.values()) for place in turn if place is not None]
    return [images[place] for place in sorted(in_turn[:at_most])]


def render_report(
    result: CapfiltResult,
    images: Sequence[JudgedImage],
    examples: Sequence[JudgedImage],
    advance: Callable[[int], None],
) -> str:
    """The page as HTML. `advance` is called after each example. Raises DataError if an example cannot be read."""
    groups: dict[Outcome, _Group] = {}
    for outcome in sorted({_outcome(image) for image in examples}):
        total = sum(_outcome(image) == outcome for image in images)
        groups[outcome] = _Group(_heading(outcome, result), total, [])
    for image in examples:
        groups[_outcome(image)].examples.append(_Example(image.name, _data_uri(image), image.texts))
        advance(1)
    environment = Environment(
        loader=PackageLoader("blipbench.capfilt", "."), autoescape=True, undefined=StrictUndefined
    )
    return environment.get_template("page.html.j2").render(
        result=result, counts=result.counts, origins=_origins(result), groups=groups.values(), share=_share
    )


def print_capfilt(result: CapfiltResult, console: Console) -> None:
    """Print the counts as a table, then the failures and where the files are."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("texts")
    for heading in ("kept", "dropped", "share kept"):
        table.add_column(heading, justify="right")
    for name, _, of in _origins(result):
        table.add_row(name, f"{of.kept:,}", f"{of.dropped:,}", f"{_share(of):.1%}")
    console.print(table)
    counts = result.counts
    lines = [f"{counts.images:,} images, {counts.without_text:,} of them without a text that was kept"]
    if result.failures:
        lines.append(f"incomplete: {counts.failed:,} images failed and are left out")
        lines += [f"- {failure.stage} {failure.unit}: {failure.error}" for failure in result.failures[:_SHOWN_FAILURES]]
    if (more := len(result.failures) - _SHOWN_FAILURES) > 0:
        lines.append(f"- and {more:,} more in result.json")
    lines += [f"kept texts: {result.out}", f"examples: {result.report}"]
    for line in lines:
        console.print(Text(f"  {line}"), soft_wrap=True)


def _outcome(image: JudgedImage) -> Outcome:
    return image.kept(synthetic=False), image.kept(synthetic=True)


def _heading(outcome: Outcome, result: CapfiltResult) -> str:
    web = f"Web text {'kept' if outcome[0] else 'dropped'}"
    if result.captioner is None:
        return web
    return f"{web}, synthetic text {'kept' if outcome[1] else 'dropped'}"


def _origins(result: CapfiltResult) -> list[tuple[str, str, TextCounts]]:
    """For each origin of texts: its name, its index (as in T_w and T_s), and its counts."""
    web = [("web", "w", result.counts.web)]
    return web if result.captioner is None else [*web, ("synthetic", "s", result.counts.synthetic)]


def _share(counts: TextCounts) -> float:
    return counts.kept / max(1, counts.kept + counts.dropped)


def _data_uri(image: JudgedImage) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(thumbnail(image.path, THUMBNAIL)).decode()
