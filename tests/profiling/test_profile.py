"""A profile has every configuration, with figures that follow from its timings, and can be read, shown and exported."""

import dataclasses
import io
import itertools
import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from profiles import measured, part_record
from rich.console import Console
from torch import Tensor

from blipbench.device import Runtime, use_tf32
from blipbench.errors import DataError
from blipbench.profiling.kernels import group_of
from blipbench.profiling.models import Models
from blipbench.profiling.parts import PARTS
from blipbench.profiling.plots import plot_batches, plot_kernels, plot_roofline
from blipbench.profiling.record import CeilingRecord, KernelRecord, Profile, read_profile, write_profile
from blipbench.profiling.shapes import Shapes
from blipbench.profiling.table import print_profile
from blipbench.profiling.timing import first_call, measure
from blipbench.profiling.work import Work

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


@pytest.mark.parametrize(
    "changes, bound",
    [
        ({}, "products"),
        ({"moved_bytes": 1e9}, "memory"),
        ({"host_seconds": [0.0095] * 3}, "launches"),
        ({"host_seconds": [0.001] * 3}, "products"),
    ],
)
def test_what_bounds_a_part(changes: dict[str, object], bound: str) -> None:
    ceiling = CeilingRecord(precision="fp32", flops=1e11, bytes=1e10)
    assert part_record("itm", **changes).bound(ceiling) == bound


def test_a_gpu_is_idle_where_no_kernel_runs() -> None:
    kernel = KernelRecord(name="gemm", group="products", count=1, seconds=0.006)
    on_gpu = part_record("itm", seconds=[0.01] * 3, host_seconds=[0.001] * 3, kernels=[kernel])
    assert on_gpu.idle_share == pytest.approx(0.4)
    assert part_record("itm", kernels=[kernel]).idle_share is None


def test_a_batch_that_does_not_fit_into_memory_is_halved_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    make = PARTS["vit-mlp"].ways["fast"]

    def too_large(models: Models, runtime: Runtime, shapes: Shapes) -> Work:
        if shapes.batch > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return make(models, runtime, shapes)

    monkeypatch.setitem(PARTS, "vit-mlp", dataclasses.replace(PARTS["vit-mlp"], ways={"fast": too_large}))
    fp32, bf16 = measured(["vit-mlp"], batches=[8]).parts
    assert fp32.batch == bf16.batch == 2
    assert fp32.notes[-2:] == ["batch 8 does not fit into memory", "batch 4 does not fit into memory"]


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


def test_pictures_are_drawn(profile: Profile, tmp_path: Path) -> None:
    for draw in (plot_roofline, plot_batches, plot_kernels):
        path = tmp_path / f"{draw.__name__}.png"
        draw(profile, path)
        assert path.read_bytes().startswith(b"\x89PNG")


def test_a_part_that_torch_does_not_compile_is_timed_without(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(call: object) -> object:
        raise RuntimeError("no C++ compiler\nlong text")

    monkeypatch.setattr(torch, "compile", fail)
    fp32, bf16 = measured(["vit-mlp"], batches=[1], compiled=True).parts
    assert [part.way for part in (fp32, bf16)] == ["fast", "fast"]
    assert fp32.notes == ["torch.compile does not compile it: no C++ compiler"]


def test_compilation_pays_after_the_calls_that_save_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for a compiler that takes 50 ms and makes calls of 4 ms twice as fast."""
    make = PARTS["vit-mlp"].ways["fast"]

    def slow(models: Models, runtime: Runtime, shapes: Shapes) -> Work:
        work = make(models, runtime, shapes)
        return dataclasses.replace(work, call=lambda: (time.sleep(0.004), work.call())[1])

    def compiled(call: Callable[[], Tensor]) -> Callable[[], Tensor]:
        first = iter([0.05])
        return lambda: (time.sleep(next(first, 0.002)), torch.zeros(1))[1]

    monkeypatch.setitem(PARTS, "vit-mlp", dataclasses.replace(PARTS["vit-mlp"], ways={"fast": slow}))
    monkeypatch.setattr(torch, "compile", compiled)
    eager, compiled_part, *_ = measured(["vit-mlp"], batches=[1], compiled=True).parts
    assert compiled_part.way == "fast compiled"
    assert eager.pays_after is None
    saved = eager.median - compiled_part.median
    assert compiled_part.pays_after == pytest.approx(compiled_part.first_seconds / saved)


def test_each_call_is_in_its_own_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """tf32 is a setting of the whole process, and the rounds of several precisions take turns."""
    make, seen = PARTS["vit-mlp"].ways["fast"], []

    def watched(models: Models, runtime: Runtime, shapes: Shapes) -> Work:
        work = make(models, runtime, shapes)
        return dataclasses.replace(
            work, call=lambda: (seen.append(torch.backends.cuda.matmul.allow_tf32), work.call())[1]
        )

    monkeypatch.setitem(PARTS, "vit-mlp", dataclasses.replace(PARTS["vit-mlp"], ways={"fast": watched}))
    use_tf32(True)  # as another precision has left it
    measured(["vit-mlp"], batches=[1])
    assert seen
    assert not any(seen)
