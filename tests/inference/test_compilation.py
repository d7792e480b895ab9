"""The Triton kernels compile for GPUs, which requires no GPU: Ampere (8.0) and Hopper (9.0)."""

import os

import pytest

if os.environ.get("TRITON_INTERPRET") == "1":
    pytest.skip("interpreted kernels are not compiled", allow_module_level=True)
triton = pytest.importorskip("triton")
from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.compiler import ASTSource  # noqa: E402

from blipbench.inference import triton_kernels  # noqa: E402

STRIDES = ("query_stride", "key_stride", "value_stride", "out_stride")
SHARED_BYTES = {80: 163 * 1024, 90: 227 * 1024}  # that a program can have


def shared_memory(kernel, pointers: dict[str, str], constants: dict[str, int], capability: int, **options: int) -> int:
    """Compile a kernel, and return the bytes of shared memory that a program needs."""
    names = kernel.arg_names
    kinds = {name: "constexpr" if name in constants else pointers.get(name, "i32") for name in names}
    aligned = [i for i, name in enumerate(names) if kinds[name].startswith("*") or name in STRIDES]
    values = {(names.index(name),): value for name, value in constants.items()}
    source = ASTSource(kernel, kinds, values, {(i,): [["tt.divisibility", 16]] for i in aligned})
    return triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options).metadata.shared


@pytest.mark.parametrize("capability", SHARED_BYTES)
@pytest.mark.parametrize("tile", [64, 128])
@pytest.mark.parametrize("dtype, keys, stages", [("bf16", 64, 3), ("fp16", 64, 3), ("fp32", 32, 2)])
def test_attention_compiles(capability: int, tile: int, dtype: str, keys: int, stages: int) -> None:
    tensors = dict.fromkeys(("query", "key", "value", "out"), f"*{dtype}")
    indices = dict.fromkeys(("start", "end", "tile_start", "tile_end"), "*i32")
    constants = {"HEAD_DIM": 64, "COLUMNS": 64, "TILE": tile, "KEYS": keys, "WIDE": False}
    needed = shared_memory(
        triton_kernels.attend_spans,
        {**tensors, **indices, "scale": "fp32"},
        constants,
        capability,
        num_warps=tile // 16,
        num_stages=stages,
    )
    assert needed <= SHARED_BYTES[capability]


@pytest.mark.parametrize("capability", SHARED_BYTES)
@pytest.mark.parametrize("dtype", ["bf16", "fp16", "fp32"])
def test_add_and_layer_norm_compiles(capability: int, dtype: str) -> None:
    tensors = dict.fromkeys(("x", "residual", "weight", "bias", "out"), f"*{dtype}")
    needed = shared_memory(
        triton_kernels.add_norm_rows, {**tensors, "eps": "fp32"}, {"COLUMNS": 1024}, capability, num_warps=4
    )
    assert needed <= SHARED_BYTES[capability]
