"""The gradient of attention's value on a GPU, from the rows' log-sum-exp: p and its gradient are made again in blocks.

With g the gradient of y = p v, and d = g . y of each row:

    g_v = p^T g,    g_x = p * (g v^T - d),    g_q = scale g_x k,    g_k = scale g_x^T q

One kernel goes over rows for a block of keys, another over keys for a block of rows; neither adds to what another
program writes, so that the same inputs give the same bits.
"""

from contextlib import nullcontext
from typing import Any, NamedTuple, no_type_check

import torch
import triton  # pyright: ignore[reportMissingImports]
import triton.language as tl  # pyright: ignore[reportMissingImports]
from torch import Tensor


class Tile(NamedTuple):
    """What one program works on at a time, and how."""

    rows: int
    keys: int
    warps: int
    stages: int


# By bytes of an element and padded width, within the shared memory that attention_triton.py names.
TILES = {
    (2, 64): Tile(64, 64, 4, 2),
    (2, 128): Tile(32, 64, 8, 2),
    (2, 256): Tile(32, 32, 8, 1),
    (4, 64): Tile(32, 32, 4, 2),
    (4, 128): Tile(32, 32, 8, 1),
    (4, 256): Tile(16, 16, 4, 1),
}
_TILE_OF_THE_INTERPRETER = Tile(16, 16, 1, 1)


def gradients(
    gradient: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    value: Tensor,
    logsumexp: Tensor,
    mask: Tensor | None,
    causal: bool,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Those of q, k and v, for what attention_triton.covers allows; logsumexp is of shape (batch, heads, queries)."""
    gradient, q, k, v = (a if a.stride(-1) == 1 else a.contiguous() for a in (gradient, q, k, v))
    (batch, heads, queries, dim), keys = q.shape, k.shape[-2]
    along = (gradient.float() * value.float()).sum(-1).contiguous()
    made = _outputs(q, k, v)
    shown = None if mask is None else mask.expand(batch, heads, queries, keys)
    bits = q if shown is None else shown.view(torch.uint8) if shown.dtype is torch.bool else shown
    mask_strides = (0, 0, 0, 0) if shown is None else shown.stride()
    strides = [s for a in (q, k, v, gradient) for s in a.stride()[:3]]
    width = triton.next_power_of_2(dim)
    tile = TILES[q.element_size(), max(64, width)] if q.is_cuda else _TILE_OF_THE_INTERPRETER
    kernels: Any = ((_of_queries, queries, tile.rows, made[:1]), (_of_keys, keys, tile.keys, made[1:]))
    with torch.cuda.device(q.device) if q.is_cuda else nullcontext():
        for kernel, length, size, outputs in kernels:
            kernel[(triton.cdiv(length, size) * batch * heads,)](
                q, k, v, bits, gradient, logsumexp, along, *outputs, *strides, *mask_strides,
                heads, queries, keys, scale,
                DIM=dim, WIDTH=width, ROWS=tile.rows, KEYS=tile.keys, CAUSAL=causal,
                MASK=0 if mask is None else 1 if mask.dtype is torch.bool else 2,
                num_warps=tile.warps, num_stages=tile.stages,
            )  # fmt: skip
    return made


def _outputs(*inputs: Tensor) -> Any:
    return tuple(torch.empty_like(a, memory_format=torch.contiguous_format) for a in inputs)


@torch.library.custom_op("trigbench::attention_backward", mutates_args=())
def traceable_gradients(
    gradient: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    value: Tensor,
    logsumexp: Tensor,
    mask: Tensor | None,
    causal: bool,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """As one operation of torch's, which a graph can hold."""
    return gradients(gradient, q, k, v, value, logsumexp, mask, causal, scale)


@traceable_gradients.register_fake
def _(gradient: Tensor, q: Tensor, k: Tensor, v: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    return _outputs(q, k, v)


@triton.jit
@no_type_check
def _block(a, batch, head, of_batch, of_head, of_row, row, rows, WIDTH: tl.constexpr, DIM: tl.constexpr):
    """Some rows of one head, 0 beyond the end."""
    d = tl.arange(0, WIDTH)
    at = a + batch * of_batch + head * of_head + row[:, None] * of_row + d[None, :]
    return tl.load(at, mask=(row < rows)[:, None] & (d < DIM)[None, :], other=0.0)


@triton.jit
@no_type_check
def _probabilities(
    xq, xk, lse, row, col, queries, keys, scale, mask_at, mask_row, mask_key, CAUSAL: tl.constexpr, MASK: tl.constexpr
):
    """p of a block, in float32; 0 where nothing is seen."""
    LOG2E: tl.constexpr = 1.4426950408889634
    x = tl.dot(xq, tl.trans(xk), input_precision="tf32x3") * (scale * LOG2E)
    seen = (row < queries)[:, None] & (col < keys)[None, :]
    if MASK:
        at = mask_at + row[:, None] * mask_row + col[None, :] * mask_key
        shown = tl.load(at, mask=seen, other=0)
        if MASK == 1:
            seen = seen & (shown != 0)
        else:
            x += shown.to(tl.float32) * LOG2E
    if CAUSAL:
        seen = seen & (row[:, None] >= col[None, :])
    base = tl.where(lse == float("-inf"), 0.0, lse * LOG2E)  # of a row that sees nothing
    return tl.where(seen, tl.exp2(x - base[:, None]), 0.0)


@triton.jit(do_not_specialize=["heads", "queries", "keys"])
@no_type_check
def _of_queries(
    q, k, v, mask, gradient, logsumexp, along, out,
    q_batch, q_head, q_row, k_batch, k_head, k_row, v_batch, v_head, v_row, g_batch, g_head, g_row,
    mask_batch, mask_head, mask_row, mask_key, heads, queries, keys, scale,
    DIM: tl.constexpr, WIDTH: tl.constexpr, ROWS: tl.constexpr, KEYS: tl.constexpr,
    CAUSAL: tl.constexpr, MASK: tl.constexpr,
):  # fmt: skip
    """ROWS rows of g_q of one head, over all keys."""
    blocks = tl.cdiv(queries, ROWS)
    batch = (tl.program_id(0) // blocks // heads).to(tl.int64)
    head = (tl.program_id(0) // blocks % heads).to(tl.int64)
    first = tl.program_id(0) % blocks * ROWS
    row, d = first + tl.arange(0, ROWS), tl.arange(0, WIDTH)
    xq = _block(q, batch, head, q_batch, q_head, q_row, row, queries, WIDTH, DIM)
    xg = _block(gradient, batch, head, g_batch, g_head, g_row, row, queries, WIDTH, DIM)
    line = (batch * heads + head) * queries + row
    lse = tl.load(logsumexp + line, mask=row < queries, other=0.0)
    common = tl.load(along + line, mask=row < queries, other=0.0)
    mask_at = mask + batch * mask_batch + head * mask_head
    found = tl.zeros([ROWS, WIDTH], tl.float32)
    end = tl.minimum(keys, first + ROWS) if CAUSAL else keys
    for start in range(0, end, KEYS):
        col = start + tl.arange(0, KEYS)
        xk = _block(k, batch, head, k_batch, k_head, k_row, col, keys, WIDTH, DIM)
        xv = _block(v, batch, head, v_batch, v_head, v_row, col, keys, WIDTH, DIM)
        p = _probabilities(xq, xk, lse, row, col, queries, keys, scale, mask_at, mask_row, mask_key, CAUSAL, MASK)
        moved = p * (tl.dot(xg, tl.trans(xv), input_precision="tf32x3") - common[:, None])
        found = tl.dot(moved.to(xk.dtype), xk, found, input_precision="tf32x3")
    at = out + line[:, None] * DIM + d[None, :]
    tl.store(at, (found * scale).to(out.dtype.element_ty), mask=(row < queries)[:, None] & (d < DIM)[None, :])


@triton.jit(do_not_specialize=["heads", "queries", "keys"])
@no_type_check
def _of_keys(
    q, k, v, mask, gradient, logsumexp, along, out_k, out_v,
    q_batch, q_head, q_row, k_batch, k_head, k_row, v_batch, v_head, v_row, g_batch, g_head, g_row,
    mask_batch, mask_head, mask_row, mask_key, heads, queries, keys, scale,
    DIM: tl.constexpr, WIDTH: tl.constexpr, ROWS: tl.constexpr, KEYS: tl.constexpr,
    CAUSAL: tl.constexpr, MASK: tl.constexpr,
):  # fmt: skip
    """KEYS rows of g_k and g_v of one head, over all rows of queries."""
    blocks = tl.cdiv(keys, KEYS)
    batch = (tl.program_id(0) // blocks // heads).to(tl.int64)
    head = (tl.program_id(0) // blocks % heads).to(tl.int64)
    first = tl.program_id(0) % blocks * KEYS
    col, d = first + tl.arange(0, KEYS), tl.arange(0, WIDTH)
    xk = _block(k, batch, head, k_batch, k_head, k_row, col, keys, WIDTH, DIM)
    xv = _block(v, batch, head, v_batch, v_head, v_row, col, keys, WIDTH, DIM)
    mask_at = mask + batch * mask_batch + head * mask_head
    of_k = tl.zeros([KEYS, WIDTH], tl.float32)
    of_v = tl.zeros([KEYS, WIDTH], tl.float32)
    for start in range(first // ROWS * ROWS if CAUSAL else 0, queries, ROWS):
        row = start + tl.arange(0, ROWS)
        xq = _block(q, batch, head, q_batch, q_head, q_row, row, queries, WIDTH, DIM)
        xg = _block(gradient, batch, head, g_batch, g_head, g_row, row, queries, WIDTH, DIM)
        line = (batch * heads + head) * queries + row
        lse = tl.load(logsumexp + line, mask=row < queries, other=0.0)
        common = tl.load(along + line, mask=row < queries, other=0.0)
        p = _probabilities(xq, xk, lse, row, col, queries, keys, scale, mask_at, mask_row, mask_key, CAUSAL, MASK)
        of_v = tl.dot(tl.trans(p).to(xg.dtype), xg, of_v, input_precision="tf32x3")
        moved = p * (tl.dot(xg, tl.trans(xv), input_precision="tf32x3") - common[:, None])
        of_k = tl.dot(tl.trans(moved).to(xq.dtype), xq, of_k, input_precision="tf32x3")
    at = ((batch * heads + head) * keys + col)[:, None] * DIM + d[None, :]
    inside = (col < keys)[:, None] & (d < DIM)[None, :]
    tl.store(out_k + at, (of_k * scale).to(out_k.dtype.element_ty), mask=inside)
    tl.store(out_v + at, of_v.to(out_v.dtype.element_ty), mask=inside)
