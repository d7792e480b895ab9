"""The fast linear layer computes what nn.Linear computes."""

import pytest
import torch
import torch.nn.functional as F
from goldens import relative_error

from blipbench.inference.linear import FastLinear, fuse, make_fast


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
