"""Compares the Triton kernels with plain torch in float32 on the CPU, where the runs of this device use them.

The inputs are random, in the run's precision: texts and images of ragged lengths, and rows of a model's width. The
bounds are tighter than those of a model, so that one key too many or too few is found.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blipbench.device import Runtime
from blipbench.inference import kernels
from blipbench.inference.attention import Spans
from blipbench.verification.finding import Finding, compared, relative_deviation

ATTENTION, NORM = "attention kernel", "LayerNorm kernel"
HEADS, HEAD_DIM = 2, 64
QUERIES = (3, 70, 1, 20, 64)  # of each context, and its keys: below, at and above the sizes of tiles
KEYS = (1, 35, 64, 65, 197)
ROWS, WIDTH = 33, 768

BOUNDS = {"fp32": 1e-5, "tf32": 1e-2, "bf16": 2e-2, "fp16": 5e-3}  # a few times the rounding of the output


def check_kernels(runtime: Runtime) -> list[Finding]:
    """Attention and LayerNorm, or why a kernel was not run."""
    on_cpu = runtime.device.type == "cpu"
    sample = torch.empty(0, dtype=runtime.dtype, device=runtime.device)
    if on_cpu and not kernels.attention_usable(sample):
        why = "skipped: there is no GPU here, and a CPU computes with torch's own operators"
        if torch.cuda.is_available():
            why = "skipped: --device cpu computes with torch's own operators"
        return [Finding(name, "ok", why) for name in (ATTENTION, NORM)]
    if not on_cpu and not kernels.works(runtime.device):
        why, fix = "skipped: Triton does not work here, so torch's slower operators are used", "install a C compiler"
        return [Finding(name, "warn", why, fix) for name in (ATTENTION, NORM)]
    return [_attention(runtime, sample), compared(NORM, _norm_deviation(runtime), BOUNDS[runtime.precision])]


def _attention(runtime: Runtime, sample: Tensor) -> Finding:
    if not kernels.attention_usable(sample):
        why = f"skipped: in {runtime.precision}, torch's attention is faster and used; try --precision bf16 too"
        return Finding(ATTENTION, "ok", why)
    return compared(ATTENTION, _attention_deviation(runtime), BOUNDS[runtime.precision])


@torch.inference_mode()
def _attention_deviation(runtime: Runtime) -> float:
    """The largest of the contexts' deviations; each is relative to its own values, which are smaller over more keys."""
    generator = torch.Generator().manual_seed(0)
    width = HEADS * HEAD_DIM
    query, key, value = (
        torch.randn(rows, width, generator=generator).to(runtime.dtype) for rows in (sum(QUERIES), sum(KEYS), sum(KEYS))
    )
    spans = Spans.of_owner(np.arange(len(KEYS)), np.array(QUERIES), KEYS, runtime.device)
    found = spans.attend(query.to(runtime.device), key.to(runtime.device), value.to(runtime.device), HEADS)
    parts = zip(found.split(QUERIES), query.split(QUERIES), key.split(KEYS), value.split(KEYS), strict=True)
    expected = ((ours, _plain_attention(q.float(), k.float(), v.float())) for ours, q, k, v in parts)
    return float(np.max([relative_deviation(ours, plain) for ours, plain in expected]))  # NaN stays NaN


def _plain_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """[queries, width], [keys, width] -> [queries, width]"""
    q, k, v = (
        x.unflatten(1, (HEADS, HEAD_DIM)).transpose(0, 1) for x in (query, key, value)
    )  # [heads, rows, head_dim]
    weights = (q @ k.transpose(1, 2) * HEAD_DIM**-0.5).softmax(-1)
    return (weights @ v).transpose(0, 1).flatten(1)


@torch.inference_mode()
def _norm_deviation(runtime: Runtime) -> float:
    generator = torch.Generator().manual_seed(0)
    x, residual = (torch.randn(ROWS, WIDTH, generator=generator).to(runtime.dtype) for _ in range(2))
    norm = nn.LayerNorm(WIDTH, eps=1e-12).to(runtime.dtype)
    for parameter in (norm.weight, norm.bias):
        parameter.copy_(torch.randn(WIDTH, generator=generator))
    expected = F.layer_norm(x.float() + residual.float(), (WIDTH,), norm.weight.float(), norm.bias.float(), norm.eps)
    found = kernels.add_norm(x.to(runtime.device), residual.to(runtime.device), norm.to(runtime.device))
    return relative_deviation(found, expected)
