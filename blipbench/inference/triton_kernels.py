"""The Triton kernels that kernels.py launches: attention by spans, and LayerNorm(x + residual).

This module imports Triton, so only kernels.py imports it, and only if there is a GPU (or Triton's interpreter is on).
"""

import triton
import triton.language as tl

LOW = tl.constexpr(-1e30)  # stands for minus infinity: the difference of two such scores is 0, not NaN


@triton.jit(do_not_specialize=["queries"])
def attend_spans(
    query,
    key,
    value,
    out,
    start,
    end,
    tile_start,
    tile_end,
    queries,
    query_stride,
    key_stride,
    value_stride,
    out_stride,
    scale,
    HEAD_DIM: tl.constexpr,
    COLUMNS: tl.constexpr,
    TILE: tl.constexpr,
    KEYS: tl.constexpr,
    WIDE: tl.constexpr,
):
    """A program computes one tile of TILE queries in one head. Softmax is online, as in FlashAttention (Dao 2022).

    COLUMNS is HEAD_DIM rounded up to a power of two. The tile reads keys tile_start .. tile_end, KEYS at a time, and
    each query uses those in its span. Blocks of keys that all queries of the tile use need no mask. `scale` includes
    log2(e), because 2^x is faster than e^x. With WIDE, products are in full float32.
    """
    tile = tl.program_id(0)
    row = tile * TILE + tl.arange(0, TILE)
    column = tl.arange(0, COLUMNS)
    is_query, is_column = row < queries, column < HEAD_DIM
    at = tl.program_id(1) * HEAD_DIM + column
    wide_row = row.to(tl.int64)
    mask = is_query[:, None] & is_column[None, :]
    q = tl.load(query + wide_row[:, None] * query_stride + at[None, :], mask=mask, other=0.0)
    if WIDE:
        q = q.to(tl.float32)
    first = tl.load(start + row, mask=is_query, other=0)
    last = tl.load(end + row, mask=is_query, other=0)
    begin, finish = tl.load(tile_start + tile), tl.load(tile_end + tile)
    all_from = tl.max(first, 0)
    all_to = tl.min(tl.where(is_query, last, finish), 0)
    plain_from = begin + tl.cdiv(all_from - begin, KEYS) * KEYS
    plain_to = plain_from + tl.maximum(all_to - plain_from, 0) // KEYS * KEYS
    mixed = tl.zeros([TILE, COLUMNS], tl.float32)
    largest = tl.full([TILE], LOW, tl.float32)
    total = tl.zeros([TILE], tl.float32)
    key += at[None, :]
    value += at[None, :]
    for block in range(begin, tl.minimum(plain_from, finish), KEYS):
        mixed, largest, total = _read(
            q, key, value, block, finish, first, last, mixed, largest, total,
            key_stride, value_stride, scale, is_column, KEYS, WIDE, True,
        )  # fmt: skip
    for block in range(plain_from, plain_to, KEYS):
        mixed, largest, total = _read(
            q, key, value, block, finish, first, last, mixed, largest, total,
            key_stride, value_stride, scale, is_column, KEYS, WIDE, False,
        )  # fmt: skip
    for block in range(plain_to, finish, KEYS):
        mixed, largest, total = _read(
            q, key, value, block, finish, first, last, mixed, largest, total,
            key_stride, value_stride, scale, is_column, KEYS, WIDE, True,
        )  # fmt: skip
    result = mixed / tl.where(total > 0.0, total, 1.0)[:, None]
    tl.store(out + wide_row[:, None] * out_stride + at[None, :], result.to(out.dtype.element_ty), mask=mask)


@triton.jit
def _read(
    q, key, value, block, finish, first, last, mixed, largest, total,
    key_stride, value_stride, scale, is_column, KEYS: tl.constexpr, WIDE: tl.constexpr, MASKED: tl.constexpr,
):  # fmt: skip
    """One block of KEYS keys and values: the new weighted sum of values, largest score and sum of weights."""
    place = block + tl.arange(0, KEYS)
    wide_place = place.to(tl.int64)[:, None]
    mask = is_column[None, :]
    if MASKED:
        mask = mask & (place < finish)[:, None]
    k = tl.load(key + wide_place * key_stride, mask=mask, other=0.0)
    v = tl.load(value + wide_place * value_stride, mask=mask, other=0.0)
    if WIDE:
        k, v = k.to(tl.float32), v.to(tl.float32)
    score = tl.dot(q, tl.trans(k), input_precision="ieee" if WIDE else "tf32") * scale
    if MASKED:
        used = (place[None, :] >= first[:, None]) & (place[None, :] < last[:, None])
        score = tl.where(used, score, LOW)
    new_largest = tl.maximum(largest, tl.max(score, 1))
    weight = tl.exp2(score - new_largest[:, None])
    if MASKED:
        weight = tl.where(used, weight, 0.0)
    shrink = tl.exp2(largest - new_largest)
    total = total * shrink + tl.sum(weight, 1)
    mixed = mixed * shrink[:, None] + tl.dot(weight.to(v.dtype), v, input_precision="ieee" if WIDE else "tf32")
    return mixed, new_largest, total


@triton.jit
def add_norm_rows(
    x, residual, weight, bias, out, width, x_stride, residual_stride, out_stride, eps, COLUMNS: tl.constexpr
):
    """A program computes one row. COLUMNS is the width rounded up to a power of two. Statistics are in float32."""
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, COLUMNS)
    inside = column < width
    total = tl.load(x + row * x_stride + column, mask=inside, other=0.0).to(tl.float32)
    total += tl.load(residual + row * residual_stride + column, mask=inside, other=0.0).to(tl.float32)
    centred = tl.where(inside, total - tl.sum(total, 0) / width, 0.0)
    variance = tl.sum(centred * centred, 0) / width
    scale = tl.load(weight + column, mask=inside, other=0.0).to(tl.float32)
    shift = tl.load(bias + column, mask=inside, other=0.0).to(tl.float32)
    result = centred * (1.0 / tl.sqrt(variance + eps)) * scale + shift
    tl.store(out + row * out_stride + column, result.to(out.dtype.element_ty), mask=inside)
