"""y = x W^T + b, as fast as this machine does it.

torch's float32 matmul on CPU goes to a library that does not use all vector units of every processor; oneDNN, which
torch also carries, does, once a weight is reordered for it (2.3 times faster on a Zen 5 core). So on CPU a weight is
reordered here once, and the product may end in GELU without another pass over memory. Elsewhere it is F.linear.
"""

import functools

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@functools.cache
def onednn_works(dtype: torch.dtype = torch.float32) -> bool:
    """Whether this torch build's oneDNN operators exist, take this type on this processor, and agree with F.linear.

    A processor without AVX-512 has them in float32 and not in bfloat16.
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
    """How many rows to fill a product of varying size up to, so that few sizes occur: sixteen an octave, so the mean
    product grows by 2%.

    oneDNN compiles a product for every number of rows that it meets, and memory freed by one rarely fits the next: with
    any number of rows a tiny model's text layers took 1.3 GiB, with few sizes 0.6. Where oneDNN is not, `rows` itself.
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
    """One product for several layers that read the same input; outputs lie side by side."""
    return FastLinear(torch.cat([x.weight for x in layers]), torch.cat([x.bias for x in layers]))


def make_fast(module: nn.Module) -> None:
    """Replace every nn.Linear below `module` by its fast form, for inference.

    nn.MultiheadAttention stays as it is: it reads the weights of its linear layer instead of calling it.
    """
    for name, child in module.named_children():
        if isinstance(child, nn.Linear):
            setattr(module, name, FastLinear(child.weight, child.bias))
        elif not isinstance(child, nn.MultiheadAttention):
            make_fast(child)
