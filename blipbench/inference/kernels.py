"""Runs the Triton kernels where they help, and says where that is.

    if attention_usable(query): attend(query, key, value, (start, end), Tiles.of(start, end, contexts), num_heads)
    add_norm(x, residual, norm)       LayerNorm(x + residual), by the kernel on a GPU and by torch elsewhere

Triton comes with torch's CUDA builds, but it also requires a C compiler. So the first use on a GPU launches a small
kernel, and if that fails, torch's own operators are used everywhere. With TRITON_INTERPRET=1 the kernels run on a CPU
in Triton's interpreter, which is very slow and meant for tests.
"""

import dataclasses
import functools
import os
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LOG2_E = 1.4426950408889634
SMALL_TILE, LARGE_TILE = 64, 128  # queries per program


def attention_usable(query: Tensor) -> bool:
    """Whether `attend` is the faster way for such queries: not in full float32, where torch's attention is faster."""
    full = query.dtype == torch.float32 and not torch.backends.cuda.matmul.allow_tf32
    return _interpreted() if query.device.type == "cpu" else not full and works(query.device)


def attention_name(device: torch.device, dtype: torch.dtype) -> str:
    """What computes attention where shapes vary: "triton", which is the kernel here, or "torch"."""
    return "triton" if attention_usable(torch.empty(0, dtype=dtype, device=device)) else "torch"


@dataclasses.dataclass(frozen=True)
class Tiles:
    """`size` queries each, and the keys that each tile reads: start, end [tiles] int32."""

    size: int
    start: Tensor
    end: Tensor

    @classmethod
    def of(cls, start: Tensor, end: Tensor, contexts: int) -> "Tiles":
        """Tiles of queries that read keys start .. end ([queries], both ascending) of so many contexts."""
        size = LARGE_TILE if len(start) >= LARGE_TILE * contexts else SMALL_TILE
        last = torch.arange(size - 1, len(end) + size - 1, size, device=end.device).clamp(max=len(end) - 1)
        return cls(size, start[::size].contiguous(), end[last])


def attend(
    query: Tensor, key: Tensor, value: Tensor, spans: tuple[Tensor, Tensor], tiles: Tiles, num_heads: int
) -> Tensor:
    """Query i reads keys start[i] .. end[i]: [queries, width], [keys, width] -> [queries, width].

    `spans` are start and end, [queries] int32, both ascending.
    """
    start, end = spans
    head_dim = query.shape[1] // num_heads
    out = torch.empty(query.shape, dtype=query.dtype, device=query.device)
    if len(start) == 0:
        return out
    half = query.dtype != torch.float32
    _triton().attend_spans[(len(tiles.start), num_heads)](
        query,
        key,
        value,
        out,
        start,
        end,
        tiles.start,
        tiles.end,
        len(start),
        query.stride(0),
        key.stride(0),
        value.stride(0),
        out.stride(0),
        head_dim**-0.5 * LOG2_E,
        HEAD_DIM=head_dim,
        COLUMNS=max(16, _power_of_two(head_dim)),
        TILE=tiles.size,
        KEYS=64 if half else 32,
        WIDE=query.device.type == "cpu",  # the interpreter does not multiply bfloat16
        num_warps=tiles.size // 16,
        num_stages=3 if half else 2,
    )
    return out


def add_norm(x: Tensor, residual: Tensor, norm: nn.LayerNorm) -> Tensor:
    """LayerNorm(x + residual) of [rows, width]; without the kernel, `x` is overwritten."""
    if x.ndim != 2 or not (_interpreted() if x.device.type == "cpu" else works(x.device)):
        return F.layer_norm(x.add_(residual), norm.normalized_shape, norm.weight, norm.bias, norm.eps)
    rows, width = x.shape
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    if rows > 0:
        strides = x.stride(0), residual.stride(0), out.stride(0)
        _triton().add_norm_rows[(rows,)](
            x, residual, norm.weight, norm.bias, out, width, *strides, norm.eps, COLUMNS=_power_of_two(width)
        )
    return out


@functools.cache
def works(device: torch.device) -> bool:
    """Whether the kernels compile and agree with torch on this GPU."""
    try:
        x, norm = torch.randn(LARGE_TILE, 64, device=device), nn.LayerNorm(64, device=device)
        out = torch.empty_like(x)
        _triton().add_norm_rows[(len(x),)](x, x, norm.weight, norm.bias, out, 64, 64, 64, 64, norm.eps, COLUMNS=64)
        right = torch.allclose(out, norm(x + x), atol=1e-4)
        start = torch.zeros(len(x), dtype=torch.int32, device=device)
        end, half = start + len(x), x.half()
        expected = F.scaled_dot_product_attention(x, x, x)
        for contexts in (1, 2):  # a large tile, then small ones
            found = attend(half, half, half, (start, end), Tiles.of(start, end, contexts), num_heads=1)
            right = right and torch.allclose(found.float(), expected, atol=2e-2)
        return right
    except Exception:  # Triton raises errors of many types: no compiler, no driver, an unsupported GPU
        return False


def _interpreted() -> bool:
    return os.environ.get("TRITON_INTERPRET") == "1"


def _triton() -> Any:
    from blipbench.inference import triton_kernels

    return triton_kernels


def _power_of_two(number: int) -> int:
    return 1 << (number - 1).bit_length()
