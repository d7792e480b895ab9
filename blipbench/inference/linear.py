"""Linear layers, y = x W^T + b, as fast as this machine allows.

On CPU there are two ways: torch's own product, or oneDNN's, which torch includes, with a weight that is reordered for
it once and GELU fused into the product. oneDNN is 2.3 times as fast on a Zen 5 core; on a processor without AVX-512,
torch's product with GELU is up to 1.6 times as fast. So the faster one is measured, once in a process, for each kind of
product. Small products are not worth a measurement. On a GPU, F.linear is used.
"""

import functools
import math
import time
from collections.abc import Callable, Sequence
from typing import Literal

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


Way = Literal["oneDNN", "torch"]
Kind = Literal["with GELU", "without GELU", "per head", "small"]

_SHAPES: dict[Kind, tuple[int, int]] = {"with GELU": (768, 768), "without GELU": (768, 768), "per head": (64, 577)}
_ROWS, _ROUNDS = 128, 5  # 3.7 GFLOP in all kinds and ways: 15 to 100 ms
_CLEARLY = 0.9  # torch must need less than this share of oneDNN's time, so that noise does not decide
_WORTHWHILE = (
    0.25  # the share of a measured shape from which a weight is large: width 768 is, the shapes models' 96 not
)

_CHOSEN: dict[tuple[Kind, torch.dtype], Way] = {}  # a cache, like functools', but the result names what is in it


def faster_way(kind: Kind, dtype: torch.dtype) -> Way:
    """The faster way on this CPU, by a measurement; of small products, oneDNN wherever it works."""
    if (kind, dtype) not in _CHOSEN:
        _CHOSEN[kind, dtype] = _measured_way(kind, dtype)
    return _CHOSEN[kind, dtype]


def _measured_way(kind: Kind, dtype: torch.dtype) -> Way:
    if not onednn_works(dtype):
        return "torch"
    if kind == "small":
        return "oneDNN"
    torchs, ours = _seconds(kind, [(dtype, "torch"), (dtype, "oneDNN")])
    return "torch" if torchs < _CLEARLY * ours else "oneDNN"


def cpu_products(dtype: torch.dtype) -> dict[str, str]:
    """The way of each kind of product that this process has on the CPU."""
    return {kind: way for (kind, of), way in _CHOSEN.items() if of == dtype}


def bf16_slowdown() -> float:
    """How many times as long a product in bfloat16 takes on this CPU as one in float32, each in its faster way."""
    dtypes = (torch.bfloat16, torch.float32)
    ways = [(dtype, way) for dtype in dtypes for way in ways_of(dtype)]
    seconds = _seconds("without GELU", ways)
    bf16, fp32 = (min(x for x, (of, _) in zip(seconds, ways, strict=True) if of == dtype) for dtype in dtypes)
    return bf16 / fp32


def ways_of(dtype: torch.dtype) -> list[Way]:
    """The ways that this CPU has."""
    return ["torch", "oneDNN"] if onednn_works(dtype) else ["torch"]


Product = Callable[[Tensor], Tensor]


def make_product(weight: Tensor, bias: Tensor | None, gelu: bool, way: Way) -> Product:
    """x -> x W^T + b, then exact GELU if asked for."""
    if way == "torch":
        return lambda x: F.gelu(F.linear(x, weight, bias)) if gelu else F.linear(x, weight, bias)
    packed = torch.ops.mkldnn._reorder_linear_weight(weight, None)
    activation, approximation = ("gelu", "none") if gelu else ("none", "")
    return lambda x: torch.ops.mkldnn._linear_pointwise(x, packed, bias, activation, [], approximation)


@torch.inference_mode()
def _seconds(kind: Kind, ways: Sequence[tuple[torch.dtype, Way]]) -> list[float]:
    """The shortest of a few calls in each way: other processes only make a call longer. The ways take turns, so that
    one of them cannot meet all the quiet moments."""
    columns, rows = _SHAPES[kind]
    generator = torch.Generator().manual_seed(0)
    x, weight = (torch.randn(n, columns, generator=generator) for n in (_ROWS, rows))
    pairs = [(make_product(weight.to(dtype), None, kind == "with GELU", way), x.to(dtype)) for dtype, way in ways]
    shortest = [float("inf")] * len(pairs)
    for turn in range(1 + _ROUNDS):
        for place, (product, rows_in) in enumerate(pairs):
            start = time.perf_counter()
            product(rows_in)
            if turn > 0:  # the first one compiles
                shortest[place] = min(shortest[place], time.perf_counter() - start)
    return shortest


def _way_of(weight: Tensor, gelu: bool) -> Way:
    if weight.device.type != "cpu":
        return "torch"
    kind: Kind = "with GELU" if gelu else "without GELU"
    if not gelu and min(weight.shape) <= _SHAPES["per head"][0]:
        kind = "per head"
    large = weight.numel() >= _WORTHWHILE * math.prod(_SHAPES[kind])
    return faster_way(kind if large else "small", weight.dtype)


def recurring_rows(rows: int, device: torch.device) -> int:
    """Round the number of rows of a product up, so that few sizes occur: 16 sizes per octave, 2% more rows on average.

    oneDNN compiles a kernel for every number of rows, and memory freed by one size rarely fits the next. With arbitrary
    sizes the text layers of a tiny model used 1.3 GiB; with few sizes, 0.6 GiB. Without oneDNN, returns `rows`; where
    it works, a model has at least small products of it.
    """
    if device.type != "cpu" or not onednn_works():
        return rows
    step = max(16, 1 << max(0, rows.bit_length() - 5))
    return -(-rows // step) * step


class FastLinear(nn.Module):
    """A frozen linear layer [in] -> [out] in the weight's dtype, optionally followed by exact GELU."""

    def __init__(self, weight: Tensor, bias: Tensor | None, gelu: bool = False) -> None:
        super().__init__()
        weight, bias = weight.detach().contiguous(), None if bias is None else bias.detach().contiguous()
        self.product = make_product(weight, bias, gelu, _way_of(weight, gelu))

    def forward(self, x: Tensor) -> Tensor:
        return self.product(x)


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
