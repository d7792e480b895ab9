"""The fast linear layer computes what nn.Linear computes."""

import pytest
import torch
import torch.nn.functional as F
from goldens import relative_error

from blipbench.inference import linear
from blipbench.inference.linear import (
    FastLinear,
    bf16_slowdown,
    cpu_products,
    faster_way,
    fuse,
    make_fast,
    make_product,
    onednn_works,
    recurring_rows,
)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 2e-2)])
@pytest.mark.parametrize("gelu", [False, True])
def test_equals_the_plain_layer(dtype: torch.dtype, tolerance: float, gelu: bool) -> None:
    torch.manual_seed(0)
    layer = torch.nn.Linear(48, 80)
    x = torch.randn(33, 48)
    expected = F.gelu(layer(x)) if gelu else layer(x)
    fast = FastLinear(layer.weight.to(dtype), layer.bias.to(dtype), gelu)
    assert relative_error(fast(x.to(dtype)).float(), expected) < tolerance


def test_fused_layers_lay_their_outputs_side_by_side() -> None:
    torch.manual_seed(0)
    a, b = torch.nn.Linear(16, 8), torch.nn.Linear(16, 24)
    x = torch.randn(5, 16)
    assert relative_error(fuse(a, b)(x), torch.cat([a(x), b(x)], dim=1)) < 1e-6


def test_make_fast_replaces_every_linear_below_a_module() -> None:
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(16, 8), torch.nn.Sequential(torch.nn.GELU(), torch.nn.Linear(8, 4)))
    x = torch.randn(3, 16)
    expected = module(x)
    make_fast(module)
    assert not any(isinstance(child, torch.nn.Linear) for child in module.modules())
    assert relative_error(module(x), expected) < 1e-6


@pytest.mark.skipif(not onednn_works(), reason="requires oneDNN")
@pytest.mark.parametrize("gelu", [False, True])
def test_both_ways_of_a_product_give_the_same(gelu: bool) -> None:
    torch.manual_seed(0)
    x, weight, bias = torch.randn(5, 48), torch.randn(80, 48), torch.randn(80)
    ours, torchs = (make_product(weight, bias, gelu, way)(x) for way in ("oneDNN", "torch"))
    assert relative_error(ours, torchs) < 1e-6


@pytest.fixture
def seconds(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[torch.dtype, str], float]:
    """How long a product takes, to be filled in, in a process that has not chosen yet."""
    taken: dict[tuple[torch.dtype, str], float] = {}
    monkeypatch.setattr(linear, "_CHOSEN", {})
    monkeypatch.setattr(linear, "onednn_works", lambda dtype: True)
    monkeypatch.setattr(linear, "_seconds", lambda kind, ways: [taken[dtype, way] for dtype, way in ways])
    return taken


def test_without_onednn_every_product_is_torchs(
    seconds: dict[tuple[torch.dtype, str], float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linear, "onednn_works", lambda dtype: False)
    assert faster_way("with GELU", torch.float32) == faster_way("small", torch.float32) == "torch"


@pytest.mark.parametrize("torchs, way", [(0.8, "torch"), (0.95, "oneDNN")])  # noise must not decide
def test_the_clearly_faster_way_is_taken(
    seconds: dict[tuple[torch.dtype, str], float], torchs: float, way: str
) -> None:
    seconds |= {(torch.float32, "oneDNN"): 1.0, (torch.float32, "torch"): torchs}
    assert faster_way("with GELU", torch.float32) == way


def test_each_kind_is_measured_once_and_named(seconds: dict[tuple[torch.dtype, str], float]) -> None:
    seconds |= {(torch.float32, "oneDNN"): 1.0, (torch.float32, "torch"): 0.5}
    large = torch.zeros(3072, 768)
    for weight, gelu in ((large, True), (large, False), (torch.zeros(577, 64), False)):
        FastLinear(weight, None, gelu)
    assert cpu_products(torch.float32) == dict.fromkeys(("with GELU", "without GELU", "per head"), "torch")
    seconds.clear()
    FastLinear(large, None, gelu=True)  # would not find its seconds now
    assert cpu_products(torch.bfloat16) == {}


def test_the_products_of_a_tiny_model_are_not_measured(seconds: dict[tuple[torch.dtype, str], float]) -> None:
    for weight in (torch.zeros(65, 24), torch.zeros(24, 65), torch.zeros(96, 384), torch.zeros(266, 96)):
        FastLinear(weight, None)
    FastLinear(torch.zeros(384, 96), None, gelu=True)
    assert cpu_products(torch.float32) == {"small": "oneDNN"}


def test_precisions_are_compared_by_a_product_in_the_faster_way_of_each(
    seconds: dict[tuple[torch.dtype, str], float],
) -> None:
    seconds |= {(torch.bfloat16, "oneDNN"): 3.0, (torch.bfloat16, "torch"): 9.0}
    seconds |= {(torch.float32, "oneDNN"): 4.0, (torch.float32, "torch"): 2.0}
    assert bf16_slowdown() == 1.5
    assert cpu_products(torch.float32) == {}


@pytest.mark.skipif(not onednn_works(), reason="requires oneDNN")
def test_few_numbers_of_rows_occur_on_a_cpu() -> None:
    rounded = [recurring_rows(rows, torch.device("cpu")) for rows in range(1024, 2049)]
    assert all(0 <= up - rows < 64 for rows, up in zip(range(1024, 2049), rounded, strict=True))
    assert len(set(rounded)) <= 17


def test_without_onednn_the_rows_remain_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "onednn_works", lambda: False)
    assert recurring_rows(1025, torch.device("cpu")) == 1025
