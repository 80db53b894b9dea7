"""Attention with its tangent in one pass on a GPU: the recurrence of arXiv 2410.11081, App. F.

Six matrix products against the two of attention alone: q k^T; t_q k^T + q t_k^T; p v; (p * t_x) v + p t_v.
Beside value and tangent only the rows' log-sum-exp is stored, and it is what torch's flash backward
and ours need: recording torch's own forward instead would make it seven products.
"""

from contextlib import nullcontext
from typing import Any, NamedTuple, no_type_check

import torch
import triton  # pyright: ignore[reportMissingImports]
import triton.language as tl  # pyright: ignore[reportMissingImports]
from torch import Tensor
from torch.autograd.function import once_differentiable

from trigbench.core import attention_triton_backward as backward

Maybe = Tensor | None

_DTYPES = (torch.float16, torch.bfloat16, torch.float32)
_INT32 = 2**31


class Tile(NamedTuple):
    """What one program works on at a time, and how."""

    rows: int
    keys: int
    warps: int
    stages: int


# By bytes of an element and padded width: the largest that neither spill much nor exceed the 99 KiB of
# shared memory of the smallest devices from compute capability 8.0 on (as Triton compiles them), so
# that results do not depend on the device's size.
_TILES = {
    (2, 64): Tile(128, 64, 8, 2),
    (2, 128): Tile(128, 32, 8, 2),
    (2, 256): Tile(32, 32, 8, 2),
    (4, 64): Tile(64, 32, 8, 1),  # two stages take 104 KiB with a mask
    (4, 128): Tile(32, 32, 8, 1),
    (4, 256): Tile(16, 16, 4, 1),
}
_TILE_OF_THE_INTERPRETER = Tile(16, 16, 1, 1)


def covers(q: Tensor, k: Tensor, v: Tensor, tq: Maybe, tk: Maybe, tv: Maybe, mask: Maybe, causal: bool) -> bool:
    """Whether `value_and_tangent` may be called; all tensors have four axes and equal batch and heads."""
    given = [a for a in (q, k, v, tq, tk, tv) if a is not None]
    return (
        len(given) > 3
        and q.dtype in _DTYPES
        and all(a.dtype is q.dtype and a.device == q.device and a.numel() for a in given)
        and 16 <= q.shape[-1] <= 256
        and v.shape[-1] == q.shape[-1]
        and not (mask is not None and (causal or mask.requires_grad or mask.device != q.device))
        and (mask is None or mask.dtype in (torch.bool, q.dtype))
        and all(_reach(a) < _INT32 for a in (*given, *([] if mask is None else [mask])))
        and (not q.is_cuda or (torch.version.hip is None and torch.cuda.get_device_capability(q.device) >= (8, 0)))
    )


def value_and_tangent(
    q: Tensor, k: Tensor, v: Tensor, tq: Maybe, tk: Maybe, tv: Maybe, mask: Maybe, causal: bool, scale: float
) -> tuple[Tensor, Tensor]:
    """As core.attention.attention_with_tangent, for what `covers` allows."""
    return _Attention.apply(q, k, v, tq, tk, tv, mask, causal, scale)  # type: ignore


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q, k, v, tq, tk, tv, mask, causal, scale):
        made = _traceable_launch if _is_seen_by_a_mode() else launch
        value, tangent, logsumexp = made(q, k, v, tq, tk, tv, mask, causal, scale)
        ctx.save_for_backward(q, k, v, mask, value, logsumexp)
        ctx.causal, ctx.scale = causal, scale
        ctx.mark_non_differentiable(tangent)
        ctx.set_materialize_grads(False)
        return value, tangent

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient, _):
        return *_gradients(gradient, *ctx.saved_tensors, causal=ctx.causal, scale=ctx.scale), *[None] * 6


def _gradients(
    gradient: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Maybe,
    value: Tensor,
    logsumexp: Tensor,
    causal: bool,
    scale: float,
) -> tuple[Tensor, ...]:
    """By torch's flash backward where it applies, which is the fastest; elsewhere by kernels of our own."""
    if not _flash_backward_applies(q, k, v, mask, causal):
        made = backward.traceable_gradients if _is_seen_by_a_mode() else backward.gradients
        return made(gradient, q, k, v, value, logsumexp, mask, causal, scale)
    unused = torch.empty(2, dtype=torch.uint64, device=q.device)  # the random state, as nothing drops out
    longest = (q.shape[-2], k.shape[-2])
    inputs = (gradient, q, k, v, value, logsumexp, None, None, *longest, 0.0, causal, unused, unused[0])
    return torch.ops.aten._scaled_dot_product_flash_attention_backward(*inputs, scale=scale)


def _is_seen_by_a_mode() -> bool:
    """As where make_fx traces: what a kernel writes by itself would not be in the graph."""
    return torch._C._len_torch_dispatch_stack() > 0


def _flash_backward_applies(q: Tensor, k: Tensor, v: Tensor, mask: Maybe, causal: bool) -> bool:
    return (
        q.is_cuda
        and torch.backends.cuda.is_flash_attention_available()
        and torch.backends.cuda.flash_sdp_enabled()
        and q.dtype in (torch.float16, torch.bfloat16)
        and mask is None
        and q.shape[-1] % 8 == 0
        and all(a.stride(-1) == 1 for a in (q, k, v))
        and q.shape[-1] <= 192  # beyond it some devices lack the backward
        and not (causal and q.shape[-2] != k.shape[-2])
    )


def launch(
    q: Tensor, k: Tensor, v: Tensor, tq: Maybe, tk: Maybe, tv: Maybe, mask: Maybe, causal: bool, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """(value, tangent, log-sum-exp of each row), nothing recorded."""
    tensors: Any = [a if a is None or a.stride(-1) == 1 else a.contiguous() for a in (q, k, v, tq, tk, tv)]
    q, k, v, tq, tk, tv = tensors
    (batch, heads, queries, dim), keys = q.shape, k.shape[-2]
    value, tangent, logsumexp = _outputs(q)
    tile = _tile(q)
    shown = None if mask is None else mask.expand(batch, heads, queries, keys)
    strides = [s for a in (q, k, v, tq, tk, tv, value) for s in ((0, 0, 0) if a is None else a.stride()[:3])]
    kernel: Any = _kernel
    device = torch.cuda.device(q.device) if q.is_cuda else nullcontext()
    with device:
        kernel[(triton.cdiv(queries, tile.rows) * batch * heads,)](
            q, k, v,
            q if tq is None else tq, k if tk is None else tk, v if tv is None else tv,
            q if shown is None else shown.view(torch.uint8) if shown.dtype is torch.bool else shown,
            value, tangent, logsumexp,
            *strides, *((0, 0, 0, 0) if shown is None else shown.stride()),
            heads, queries, keys, scale,
            DIM=dim, WIDTH=_width(dim), ROWS=tile.rows, KEYS=tile.keys, CAUSAL=causal,
            MASK=0 if mask is None else 1 if mask.dtype is torch.bool else 2,
            MOVES_Q=tq is not None, MOVES_K=tk is not None, MOVES_V=tv is not None,
            num_warps=tile.warps, num_stages=tile.stages,
        )  # fmt: skip
    return value, tangent, logsumexp


def _outputs(q: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    value = torch.empty_like(q)  # keeps the order of q's axes, so that the heads merge without a copy
    value = value if value.stride(-1) == 1 else torch.empty_like(q, memory_format=torch.contiguous_format)
    return value, torch.empty_like(value), q.new_empty(q.shape[:-1], dtype=torch.float32)


@torch.library.custom_op("trigbench::attention", mutates_args=())
def _traceable_launch(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    tq: Tensor | None,
    tk: Tensor | None,
    tv: Tensor | None,
    mask: Tensor | None,
    causal: bool,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    return launch(q, k, v, tq, tk, tv, mask, causal, scale)


@_traceable_launch.register_fake
def _(q: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    return _outputs(q)


def _width(dim: int) -> int:
    return triton.next_power_of_2(dim)


def _tile(q: Tensor) -> Tile:
    return _TILES[q.element_size(), max(64, _width(q.shape[-1]))] if q.is_cuda else _TILE_OF_THE_INTERPRETER


def _reach(a: Tensor) -> int:
    """The largest offset within one head; offsets of heads are 64 bits wide, those within are 32."""
    return sum((size - 1) * stride for size, stride in zip(a.shape[-2:], a.stride()[-2:], strict=True))


@triton.jit
@no_type_check
def _load(pointers, mask, MASKED: tl.constexpr):
    if MASKED:
        return tl.load(pointers, mask=mask, other=0.0)
    else:
        return tl.load(pointers)


@triton.jit(do_not_specialize=["heads", "queries", "keys"])
@no_type_check
def _kernel(  # noqa: PLR0915
    q, k, v, tq, tk, tv, mask, value, tangent, logsumexp,
    q_batch, q_head, q_row, k_batch, k_head, k_row, v_batch, v_head, v_row,
    tq_batch, tq_head, tq_row, tk_batch, tk_head, tk_row, tv_batch, tv_head, tv_row,
    y_batch, y_head, y_row, mask_batch, mask_head, mask_row, mask_key,
    heads, queries, keys, scale,
    DIM: tl.constexpr, WIDTH: tl.constexpr, ROWS: tl.constexpr, KEYS: tl.constexpr, CAUSAL: tl.constexpr,
    MASK: tl.constexpr, MOVES_Q: tl.constexpr, MOVES_K: tl.constexpr, MOVES_V: tl.constexpr,
):  # fmt: skip
    """ROWS rows of one head against all keys, logits in base 2. MASK: 0 none, 1 boolean, 2 added."""
    PRECISION: tl.constexpr = "tf32x3"  # of float32, to which it is as exact
    LOG2E: tl.constexpr = 1.4426950408889634
    PAD: tl.constexpr = DIM != WIDTH
    MOVES_X: tl.constexpr = MOVES_Q or MOVES_K
    blocks = tl.cdiv(queries, ROWS)
    batch = (tl.program_id(0) // blocks // heads).to(tl.int64)
    head = (tl.program_id(0) // blocks % heads).to(tl.int64)
    first = tl.program_id(0) % blocks * ROWS

    row, col, d = first + tl.arange(0, ROWS), tl.arange(0, KEYS), tl.arange(0, WIDTH)
    in_row, in_dim = (row < queries)[:, None], (d < DIM)[None, :]
    q_at = q + batch * q_batch + head * q_head + row[:, None] * q_row + d[None, :]
    k_at = k + batch * k_batch + head * k_head + col[:, None] * k_row + d[None, :]
    v_at = v + batch * v_batch + head * v_head + col[:, None] * v_row + d[None, :]
    tk_at = tk + batch * tk_batch + head * tk_head + col[:, None] * tk_row + d[None, :]
    tv_at = tv + batch * tv_batch + head * tv_head + col[:, None] * tv_row + d[None, :]
    mask_at = mask + batch * mask_batch + head * mask_head + row[:, None] * mask_row + col[None, :] * mask_key
    y_at = batch * y_batch + head * y_head + row[:, None] * y_row + d[None, :]

    xq = tl.load(q_at, mask=in_row & in_dim, other=0.0)
    if MOVES_Q:
        tq_at = tq + batch * tq_batch + head * tq_head + row[:, None] * tq_row + d[None, :]
        xtq = tl.load(tq_at, mask=in_row & in_dim, other=0.0)

    # Only differences of t_x within a row matter. Taken from its mean over the first keys they are
    # small, so that half precision rounds (and overflows) less where all keys have something in common.
    common = tl.zeros([ROWS], tl.float32)
    count = tl.minimum(keys, KEYS)
    in_first = (col < keys)[:, None] & in_dim
    if MOVES_Q:
        k_mean = tl.sum(tl.load(k_at, mask=in_first, other=0.0).to(tl.float32), 0) / count
        common += tl.sum(xtq.to(tl.float32) * k_mean[None, :], 1) * scale
    if MOVES_K:
        tk_mean = tl.sum(tl.load(tk_at, mask=in_first, other=0.0).to(tl.float32), 0) / count
        common += tl.sum(xq.to(tl.float32) * tk_mean[None, :], 1) * scale

    m = tl.full([ROWS], float("-inf"), tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    mu = tl.zeros([ROWS], tl.float32)
    f = tl.zeros([ROWS, WIDTH], tl.float32)
    g = tl.zeros([ROWS, WIDTH], tl.float32)
    end = tl.minimum(keys, first + ROWS) if CAUSAL else keys
    inner = (first if CAUSAL else keys) // KEYS * KEYS  # up to here all rows see all keys, but for the mask
    inner = tl.minimum(inner, end // KEYS * KEYS)
    for EDGE in tl.static_range(2):
        for start in range(inner if EDGE else 0, end if EDGE else inner, KEYS):
            in_key = (start + col) < keys
            inside = in_key[:, None] & in_dim
            xk = _load(k_at + start * k_row, inside, EDGE or PAD)
            x = tl.dot(xq, tl.trans(xk), input_precision=PRECISION) * (scale * LOG2E)
            if MASK:
                shown = tl.load(mask_at + start * mask_key, mask=in_row & in_key[None, :], other=0)
                x = tl.where(shown != 0, x, float("-inf")) if MASK == 1 else x + shown.to(tl.float32) * LOG2E
            if EDGE:
                x = tl.where(in_key[None, :], x, float("-inf"))
                if CAUSAL:
                    x = tl.where(row[:, None] >= start + col[None, :], x, float("-inf"))
            highest = tl.maximum(m, tl.max(x, 1))
            base = tl.where(highest == float("-inf"), 0.0, highest) if MASK else highest
            old, p = tl.exp2(m - base), tl.exp2(x - base[:, None])
            m = highest
            total = total * old + tl.sum(p, 1)
            f *= old[:, None]
            g *= old[:, None]
            xv = _load(v_at + start * v_row, inside, EDGE or PAD)
            f = tl.dot(p.to(xv.dtype), xv, f, input_precision=PRECISION)
            if MOVES_X:
                tx = tl.zeros([ROWS, KEYS], tl.float32)
                if MOVES_Q:
                    tx = tl.dot(xtq, tl.trans(xk), tx, input_precision=PRECISION)
                if MOVES_K:
                    xtk = _load(tk_at + start * tk_row, inside, EDGE or PAD)
                    tx = tl.dot(xq, tl.trans(xtk), tx, input_precision=PRECISION)
                moved = p * (tx * scale - common[:, None])
                mu = mu * old + tl.sum(moved, 1)
                g = tl.dot(moved.to(xv.dtype), xv, g, input_precision=PRECISION)
            if MOVES_V:
                xtv = _load(tv_at + start * tv_row, inside, EDGE or PAD)
                g = tl.dot(p.to(xtv.dtype), xtv, g, input_precision=PRECISION)

    share = 1.0 / tl.where(total == 0, 1.0, total)[:, None]
    y = f * share
    ty = g * share - mu[:, None] * share * y
    tl.store(value + y_at, y.to(value.dtype.element_ty), mask=in_row & in_dim)
    tl.store(tangent + y_at, ty.to(tangent.dtype.element_ty), mask=in_row & in_dim)
    at = (batch * heads + head) * queries + row
    tl.store(logsumexp + at, (m + tl.log2(tl.where(total == 0, 1.0, total))) / LOG2E, mask=row < queries)
