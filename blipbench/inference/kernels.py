"""Runs the Triton kernels where they help, and says where that is.

    if attention_usable(query): attend(query, key, value, start, end, tiles, num_heads)
    add_norm(x, residual, norm)       LayerNorm(x + residual), by the kernel on a GPU and by torch elsewhere

Triton comes with torch's CUDA builds, but it also requires a C compiler. So the first use on a GPU launches a small
kernel, and if that fails, torch's own operators are used everywhere. With TRITON_INTERPRET=1 the kernels run on a CPU
in Triton's interpreter, which is very slow and meant for tests.
"""

import functools
import os
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TILE = 64  # queries per program
KEYS = 64  # keys per step of a program


def attention_usable(query: Tensor) -> bool:
    """Whether `attend` is the faster way for such queries: not in full float32, where torch's attention is faster."""
    full = query.dtype == torch.float32 and not torch.backends.cuda.matmul.allow_tf32
    return _interpreted() if query.device.type == "cpu" else not full and works(query.device)


def tile_bounds(start: Tensor, end: Tensor) -> tuple[Tensor, Tensor]:
    """The first and the last key that each tile of queries reads. start, end: [queries], both ascending."""
    last = torch.arange(TILE - 1, len(end) + TILE - 1, TILE, device=end.device).clamp(max=len(end) - 1)
    return start[::TILE].contiguous(), end[last]


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    spans: tuple[Tensor, Tensor],
    tiles: tuple[Tensor, Tensor],
    num_heads: int,
) -> Tensor:
    """Query i reads keys start[i] .. end[i]: [queries, width], [keys, width] -> [queries, width].

    `spans` are start and end, [queries] int32, both ascending. `tiles` are their `tile_bounds`.
    """
    start, end = spans
    head_dim = query.shape[1] // num_heads
    out = torch.empty(query.shape, dtype=query.dtype, device=query.device)
    if len(start) == 0:
        return out
    _triton().attend_spans[(len(tiles[0]), num_heads)](
        query,
        key,
        value,
        out,
        start,
        end,
        *tiles,
        len(start),
        query.stride(0),
        key.stride(0),
        value.stride(0),
        out.stride(0),
        head_dim**-0.5,
        HEAD_DIM=head_dim,
        COLUMNS=max(16, _power_of_two(head_dim)),
        TILE=TILE,
        KEYS=KEYS,
        WIDE=query.device.type == "cpu",  # the interpreter does not multiply bfloat16
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
        x, norm = torch.randn(4, 64, device=device), nn.LayerNorm(64, device=device)
        out = torch.empty_like(x)
        _triton().add_norm_rows[(4,)](x, x, norm.weight, norm.bias, out, 64, 64, 64, 64, norm.eps, COLUMNS=64)
        return torch.allclose(out, norm(x + x), atol=1e-4)
    except Exception:  # Triton raises errors of many types: no compiler, no driver, an unsupported GPU
        return False


def _interpreted() -> bool:
    return os.environ.get("TRITON_INTERPRET") == "1"


def _triton() -> Any:
    from blipbench.inference import triton_kernels

    return triton_kernels


def _power_of_two(number: int) -> int:
    return 1 << (number - 1).bit_length()
