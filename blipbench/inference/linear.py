"""Linear layers, y = x W^T + b, as fast as this machine allows.

On CPU, torch's float32 matmul uses a library that does not use all vector units of every processor. oneDNN, which torch
includes, uses them after a weight is reordered for it (2.3 times faster on a Zen 5 core). So on CPU each weight is
reordered once, and GELU can be fused into the product. Otherwise F.linear is used.
"""

import functools

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@functools.cache
def onednn_works(dtype: torch.dtype = torch.float32) -> bool:
    """Whether torch's oneDNN operators exist, support this dtype on this processor, and agree with F.linear.

    A processor without AVX-512 supports float32 but not bfloat16.
    """
    if not torch.backends.mkldnn.is_available():
        return False
    x, weight, bias = torch.randn(5, 16).to(dtype), torch.randn(8, 16).to(dtype), torch.randn(8).to(dtype)
    try:
        packed = torch.ops.mkldnn._reorder_linear_weight(weight, None)
        out = torch.ops.mkldnn._linear_pointwise(x, packed, bias, "gelu", [], "none")
    except (AttributeError, RuntimeError):
        return False
    expected = F.gelu(F.linear(x.float(), weight.float(), bias.float()))
    return torch.allclose(out.float(), expected, atol=1e-5 if dtype == torch.float32 else 5e-2)


def recurring_rows(rows: int, device: torch.device) -> int:
    """Round the number of rows of a product up, so that few sizes occur: 16 sizes per octave, 2% more rows on average.

    oneDNN compiles a kernel for every number of rows, and memory freed by one size rarely fits the next. With arbitrary
    sizes the text layers of a tiny model used 1.3 GiB; with few sizes, 0.6 GiB. Without oneDNN, returns `rows`.
    """
    if device.type != "cpu" or not onednn_works():
        return rows
    step = max(16, 1 << max(0, rows.bit_length() - 5))
    return -(-rows // step) * step


class FastLinear(nn.Module):
    """A frozen linear layer [in] -> [out] in the weight's dtype, optionally followed by exact GELU."""

    def __init__(self, weight: Tensor, bias: Tensor | None, gelu: bool = False) -> None:
        super().__init__()
        self.gelu = gelu
        self.onednn = weight.device.type == "cpu" and onednn_works(weight.dtype)
        self.bias = None if bias is None else bias.detach().contiguous()
        self.weight = weight.detach().contiguous()
        if self.onednn:
            self.weight = torch.ops.mkldnn._reorder_linear_weight(self.weight, None)

    def forward(self, x: Tensor) -> Tensor:
        if self.onednn:
            activation, approximation = ("gelu", "none") if self.gelu else ("none", "")
            return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, activation, [], approximation)
        out = F.linear(x, self.weight, self.bias)
        return F.gelu(out) if self.gelu else out


def fuse(*layers: nn.Linear) -> FastLinear:
    """One linear layer for several that read the same input. The outputs are concatenated."""
    return FastLinear(torch.cat([x.weight for x in layers]), torch.cat([x.bias for x in layers]))


def make_fast(module: nn.Module) -> None:
    """Replace every nn.Linear inside `module` with a FastLinear, for inference.

    nn.MultiheadAttention is not changed: it reads the weights of its linear layer instead of calling it.
    """
    for name, child in module.named_children():
        if isinstance(child, nn.Linear):
            setattr(module, name, FastLinear(child.weight, child.bias))
        elif not isinstance(child, nn.MultiheadAttention):
            make_fast(child)
