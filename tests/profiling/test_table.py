"""The tables of a profile: every figure is whole, and the comparisons follow from the timings."""

import io
from collections.abc import Callable
from typing import Any

import pytest
from profiles import part_record, profile_of
from rich.console import Console

from blipbench.profiling.record import KernelRecord, PartRecord, Profile
from blipbench.profiling.table import as_records, print_profile, print_summary


def shown(profile: Profile, width: int = 120) -> list[str]:
    return rendered(print_profile, profile, width)


def rendered(show: Callable[[Any, Console], None], what: Any, width: int) -> list[str]:
    file = io.StringIO()
    show(what, Console(file=file, width=width, markup=False, highlight=False, emoji=False))
    return file.getvalue().splitlines()


def rows(lines: list[str], heading: str) -> list[list[str]]:
    """The cells of the rows of the table with this heading, split at spaces."""
    start = next(place for place, line in enumerate(lines) if heading in line) + 2
    end = next(place for place in range(start, len(lines)) if not lines[place].strip())
    return [line.split() for line in lines[start:end]]


def on_a_gpu() -> list[PartRecord]:
    """The longest labels and figures that there are."""
    figures: dict[str, Any] = {"flops": 4.56e12, "moved_bytes": 1.23e10, "seconds": [0.0123, 0.0124, 0.0999]}
    figures |= {"items": 123_456_789, "noun": "questions", "parameters": 446_123_456, "peak_bytes": 71 * 2**30}
    return [
        part_record("cross-keys-values", way=way, precision=precision, batch=1024, attention="efficient", **figures)
        for way in ("fast", "transformers compiled")
        for precision in ("fp32", "bf16")
    ]


@pytest.mark.parametrize("width", [80, 120])
def test_no_figure_is_cut_or_broken(width: int) -> None:
    lines = shown(profile_of(*on_a_gpu()), width)
    assert max(map(len, lines[:40])) <= width
    text = "\n".join(lines)
    assert "…" not in text
    for figure in ("12.4 ms", "9,956 M questions", "368", "446 M", "71.00 GiB"):
        assert figure in text


@pytest.mark.parametrize("width", [80, 120])
def test_no_figure_of_several_profiles_is_cut_or_broken(width: int) -> None:
    lines = rendered(print_summary, [profile_of(*on_a_gpu(), name="a-long-name-of-a-profile")] * 2, width)
    assert max(map(len, lines)) <= width
    assert "…" not in "\n".join(lines)
    assert sum("9,956 M questions" in line for line in lines) == 8


def test_rates_are_in_a_unit_that_suits_them() -> None:
    assert any("GFLOP/s" in line for line in shown(profile_of(part_record("vit"))))
    assert any("TFLOP/s" in line and "of peak" in line for line in shown(profile_of(*on_a_gpu())))


def test_a_part_without_flops_has_no_share_of_the_peak() -> None:
    lines = shown(profile_of(part_record("add-norm", flops=0.0)))
    assert rows(lines, "of peak") == [["add-norm", "fp32", "1", "100", "images", "0", "-", "memory"]]


def test_a_later_precision_stands_beside_the_first() -> None:
    faster = part_record("vit", precision="bf16", seconds=[0.004] * 3, deviation=0.0123)
    lines = shown(profile_of(part_record("vit"), faster))
    assert rows(lines, "largest deviation") == [["vit", "bf16", ":", "fp32", "1", "2.50", "1.2e-02"]]


def test_a_batch_that_only_one_precision_reached_is_not_compared() -> None:
    halved = part_record("vit", precision="fp32", batch=2)
    only = part_record("vit", precision="bf16", batch=4)
    assert not any("largest deviation" in line for line in shown(profile_of(halved, halved, only, only)))


def test_other_ways_stand_beside_the_fast_one() -> None:
    plain = part_record("vit", way="plain", seconds=[0.025] * 3)
    compiled = part_record("vit", way="fast compiled", seconds=[0.008] * 3, first_seconds=30.0, pays_after=15_000.0)
    never = part_record("itm", way="fast compiled", first_seconds=20.0)
    lines = shown(profile_of(part_record("vit"), plain, compiled, never))
    assert rows(lines, "so many times as fast") == [["vit,", "plain", "fp32", "1", "2.50"]]
    assert rows(lines, "pays after") == [
        ["vit,", "fast", "compiled", "fp32", "1", "30.00", "s", "15,000", "calls"],
        ["itm,", "fast", "compiled", "fp32", "1", "20.00", "s", "never"],
    ]


def test_stages_and_kernels_are_shares_of_their_part() -> None:
    kernels = [
        KernelRecord(name=f"gemm_{number}", group="products", count=2, seconds=0.001 / 2**number) for number in range(7)
    ]
    part = part_record("end-to-end", stages={"decode": 0.003, "match": 0.001}, kernels=kernels)
    lines = shown(profile_of(part))
    assert rows(lines, ": stage") == [["decode", "3", "ms", "75%"], ["match", "1", "ms", "25%"]]
    assert rows(lines, ": kernels") == [["products", "1.98", "ms", "100%"]]
    assert sum("gemm_" in line for line in lines) == 5


def test_notes_and_ceilings_follow_once() -> None:
    parts = [part_record("vit", notes=["batch 8 does not fit into memory"]) for _ in range(2)]
    lines = shown(profile_of(*parts))
    assert sum("note: vit: batch 8 does not fit into memory" in line for line in lines) == 1
    assert sum("measured ceilings" in line for line in lines) == 2


def test_brackets_in_a_name_are_shown() -> None:
    assert any(
        "[mine]" in line for line in rendered(print_summary, [profile_of(part_record("vit"), name="[mine]")], 80)
    )


def test_each_profile_is_named_once_even_after_one_of_the_same_name() -> None:
    profile = profile_of(part_record("vit"), part_record("itm"))
    lines = rendered(print_summary, [profile, profile], 80)
    assert [line.split()[0] for line in lines[3:7]] == ["made", "itm", "made", "itm"]


def test_records_are_the_main_figures() -> None:
    (record,) = as_records(profile_of(part_record("itm", noun="pairs", items=64)))
    assert record == {
        "profile": "made",
        "part": "itm",
        "precision": "fp32",
        "batch": 1,
        "p50_seconds": 0.01,
        "items_per_second": 6400.0,
        "noun": "pairs",
        "share_of_peak": 0.5,
    }
