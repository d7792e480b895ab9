"""A profile has every configuration, with figures that follow from its timings, and can be read, shown and exported."""

import io
import itertools
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from matplotlib.text import Annotation, Text
from rich.console import Console

from blipbench.errors import DataError
from blipbench.profiling.kernels import group_of
from blipbench.profiling.plots import plot_batches, plot_kernels, plot_roofline, roofline
from blipbench.profiling.pytest_benchmark import write_pytest_benchmark
from blipbench.profiling.record import CeilingRecord, PartRecord, Profile, read_profile, write_profile
from blipbench.profiling.table import print_profile, print_summary
from blipbench.profiling.timing import first_call, measure

CPU = torch.device("cpu")


def test_every_configuration_is_timed_in_every_round(profile: Profile) -> None:
    found = [(part.part, part.batch, part.precision) for part in profile.parts]
    assert found == list(itertools.product(["vit-mlp", "itm"], [1, 2], ["fp32", "bf16"]))
    assert {len(part.seconds) for part in profile.parts} == {profile.rounds} == {3}


def test_rates_and_shares_follow_from_the_median(profile: Profile) -> None:
    part = profile.parts[0]
    assert part.flop_rate == pytest.approx(part.flops / sorted(part.seconds)[1])
    assert part.item_rate == pytest.approx(part.items / sorted(part.seconds)[1])


def test_a_later_precision_deviates_from_the_first_and_that_one_from_nothing(profile: Profile) -> None:
    for part in profile.parts:
        if part.precision == "fp32":
            assert part.deviation is None
        else:
            assert 1e-5 < part.deviation < 0.1


def test_all_ways_give_the_same_scores(several_ways: Profile) -> None:
    assert {part.way for part in several_ways.parts} == {"fast", "plain", "transformers"}


def test_the_stages_of_the_whole_are_told(several_ways: Profile) -> None:
    (whole, *_) = [part for part in several_ways.parts if part.part == "end-to-end"]
    assert list(whole.stages) == ["decode", "encode images", "match"]
    assert sum(whole.stages.values()) == pytest.approx(whole.median, rel=0.5)


def test_rounds_are_interleaved() -> None:
    order: list[str] = []
    calls = [lambda: order.append("a"), lambda: order.append("b")]
    times = [first_call(call, CPU) for call in calls]
    assert measure(calls, times, CPU, 0.0, lambda seconds: None) == 3
    assert order == ["a", "b", *["a", "b"] * 3]


def part_record(**changes: object) -> PartRecord:
    fields = {
        "part": "itm",
        "way": "fast",
        "precision": "fp32",
        "batch": 1,
        "attention": None,
        "noun": "pairs",
        "items": 64,
        "flops": 1e9,
        "moved_bytes": 1e6,
        "parameters": 10,
        "first_seconds": 1.0,
        "seconds": [0.1, 0.1, 0.1],
        "host_seconds": [],
        "peak_bytes": 0,
        "deviation": None,
        "pays_after": None,
        "stages": {},
        "kernels": [],
        "notes": [],
    }
    return PartRecord(**{**fields, **changes})


@pytest.mark.parametrize(
    "changes, bound",
    [
        ({}, "products"),
        ({"moved_bytes": 1e9}, "memory"),
        ({"host_seconds": [0.095] * 3}, "launches"),
        ({"host_seconds": [0.01] * 3}, "products"),
    ],
)
def test_what_bounds_a_part(changes: dict[str, object], bound: str) -> None:
    ceiling = CeilingRecord(precision="fp32", flops=1e11, bytes=1e10)
    assert part_record(**changes).bound(ceiling) == bound


@pytest.mark.parametrize(
    "name, group",
    [
        ("mkldnn::_linear_pointwise", "products"),
        ("sm90_xmma_gemm_bf16bf16_bf16f32", "products"),
        ("nvjet_hsh_128x256", "products"),
        ("void pytorch_flash::flash_fwd_kernel<cutlass>", "attention"),
        ("attend_spans", "attention"),
        ("add_norm_rows", "normalisation"),
        ("aten::native_layer_norm", "normalisation"),
        ("aten::copy_", "copies"),
        ("Memcpy HtoD (Pinned -> Device)", "copies"),
        ("void at::native::vectorized_elementwise_kernel<4, GeluCUDAKernelImpl>", "element-wise"),
        ("aten::empty", "other"),
    ],
)
def test_kernels_have_groups(name: str, group: str) -> None:
    assert group_of(name) == group


def test_the_time_of_itm_is_mostly_that_of_products(profile: Profile) -> None:
    (itm, *_) = [part for part in profile.parts if part.part == "itm"]
    assert {"products", "normalisation"} <= {kernel.group for kernel in itm.kernels}
    assert sum(kernel.seconds for kernel in itm.kernels) > 0


def test_a_saved_profile_reads_back_equal(profile: Profile, tmp_path: Path) -> None:
    write_profile(tmp_path / "profile.json", profile)
    assert read_profile(tmp_path / "profile.json") == profile


def test_a_damaged_profile_names_the_field(profile: Profile, tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    content = profile.model_dump(mode="json")
    content["parts"][0]["seconds"] = "fast"
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"profile.json is not a profile of schema 1: parts.0.seconds: .*profile again"):
        read_profile(path)


def rendered(show: object, *arguments: object) -> str:
    console = Console(file=io.StringIO(), width=110)
    show(*arguments, console)  # type: ignore[operator]
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_the_tables_name_every_part_and_the_ceilings(profile: Profile) -> None:
    text = rendered(print_profile, profile)
    for heading in (
        "first call",
        "p50",
        "p99",
        "of peak",
        "bound by",
        "MB moved",
        "times as fast",
        "largest deviation",
    ):
        assert heading in text
    assert "vit-mlp" in text
    assert "measured ceilings, bf16" in text
    assert "3 interleaved rounds" in text


def test_other_ways_are_set_beside_the_fast_one(several_ways: Profile) -> None:
    text = rendered(print_profile, several_ways)
    assert "itm, transformers" in text
    assert "fast is so many times as fast" in text
    assert "encode images" in text


def test_several_profiles_in_one_table(profile: Profile) -> None:
    assert rendered(print_summary, [profile, profile]).count("vit-mlp") == 8


def test_pictures_are_drawn(profile: Profile, tmp_path: Path) -> None:
    for draw in (plot_roofline, plot_batches, plot_kernels):
        path = tmp_path / f"{draw.__name__}.png"
        draw(profile, path)
        assert path.read_bytes().startswith(b"\x89PNG")


def test_no_label_of_the_roofline_covers_another(profile: Profile) -> None:
    crowded = [
        part_record(part=name, precision=precision, flops=flops, seconds=[seconds] * 3)
        for precision in ("fp32", "bf16")
        for name, flops, seconds in zip(
            ("vit", "vit-mlp", "itm", "text-encoder", "self-attention", "cross-attention", "text-mlp", "decode-step"),
            (1e9, 1.1e9, 1.2e9, 2e9, 2.1e9, 2.2e9, 5e9, 5e9),
            (0.01, 0.011, 0.0105, 0.012, 0.013, 0.0125, 0.02, 0.021),
            strict=True,
        )
    ]
    figure = roofline(profile.model_copy(update={"parts": crowded}))
    renderer = figure.canvas.get_renderer()
    labels = [child for child in figure.axes[0].get_children() if isinstance(child, Annotation)]
    boxes = [Text.get_window_extent(label, renderer) for label in labels]
    assert len(boxes) == 16
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))


def test_the_real_pytest_benchmark_compares_two_profiles(profile: Profile, tmp_path: Path) -> None:
    for name in ("0001_before.json", "0002_after.json"):
        write_pytest_benchmark(profile, tmp_path / name)
    tool = Path(sys.executable).with_name("pytest-benchmark")
    done = subprocess.run(
        [tool, "compare", *sorted(tmp_path.glob("*.json"))], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "itm[fast-fp32-1]" in done.stdout
    assert "median" in done.stdout.lower()
