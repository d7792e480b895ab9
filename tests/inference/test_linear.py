"""The fast linear layer computes what nn.Linear computes."""

import pytest
import torch
import torch.nn.functional as F
from goldens import relative_error

from blipbench.inference.linear import (
    FastLinear,
    bf16_slowdown,
    faster_way,
    fuse,
    make_fast,
    make_product,
    onednn_works,
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


def test_without_onednn_every_product_is_torchs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("blipbench.inference.linear.onednn_works", lambda dtype: False)
    assert faster_way.__wrapped__("with GELU", torch.float32) == "torch"


def test_the_clearly_faster_way_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("blipbench.inference.linear.onednn_works", lambda dtype: True)
    seconds = {"oneDNN": 1.0, "torch": 0.8}
    monkeypatch.setattr("blipbench.inference.linear._seconds", lambda kind, ways: [seconds[way] for _, way in ways])
    assert faster_way.__wrapped__("with GELU", torch.float32) == "torch"
    seconds["torch"] = 0.95  # noise must not decide
    assert faster_way.__wrapped__("with GELU", torch.float32) == "oneDNN"


def test_precisions_are_compared_by_a_product_in_each(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = {torch.bfloat16: 3.0, torch.float32: 2.0}
    monkeypatch.setattr("blipbench.inference.linear._seconds", lambda kind, ways: [seconds[dtype] for dtype, _ in ways])
    assert bf16_slowdown() == 1.5
