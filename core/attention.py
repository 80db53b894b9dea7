"""Softmax attention and its derivative along a direction, without an attention matrix in memory.

With logits x = scale q k^T, p = softmax(x) and t_a the derivative of a (arXiv 2410.11081, App. F):

    t_x = scale (t_q k^T + q t_k^T),    t_y = (p * (t_x - mu)) v + p t_v,    mu = the row's p . t_x

The value comes from torch's fused kernel, which brings its own backward; the tangent is made here
from blocks of rows. A whole row needs no running maximum, and a block of few rows is as linear in
length as a square one, and simpler than the paper's recurrence over blocks of keys. Where the Triton
kernel applies, it makes both in one pass by that recurrence.
"""

from collections.abc import Callable, Iterator
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from itertools import product
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn import functional

from trigbench.core.trigflow import is_traced

Queries = Float[Tensor, "*#batch queries dim"]
Keys = Float[Tensor, "*#batch keys dim"]
Values = Float[Tensor, "*#batch keys features"]
Output = Float[Tensor, "... queries features"]

Maybe = Tensor | None

_FEWEST_ROWS = 64
_LOGITS_OF_A_HEAD = 2**18  # in one block on a CPU
_LOGITS_OF_SEVERAL = 2**16  # heads; with more, memory goes back to the system after each, and page faults fetch it
_LOGITS_ELSEWHERE = 2**24  # enough to keep the device busy


def attention_with_tangent(
    q: Queries,
    k: Keys,
    v: Values,
    tq: Queries | None,
    tk: Keys | None,
    tv: Values | None,
    mask: Shaped[Tensor, "..."] | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> tuple[Output, Output]:
    """softmax(scale q k^T + mask) v and its derivative along (tq, tk, tv), where None is a tangent of zeros.

    `mask`, `causal` and `scale` are those of torch's scaled_dot_product_attention: the mask broadcasts
    to (*batch, queries, keys); a boolean one is True where attention is allowed, another one is added
    to the logits and does not move; causal row i sees keys up to i; scale is 1/sqrt(dim) by default.
    A row that sees no key has value and tangent 0.

    The value has torch's gradient with respect to q, k, v and an added mask (for which torch stores the
    attention matrix, as it does where features differ from dim); the tangent has none. Reductions are
    in float32 at least. Under autocast all is cast as torch casts attention.

    Raises ValueError when a tangent has not its primal's shape, or q, k, v and mask do not fit together.
    """
    batch = _common_batch((q, k, v), (tq, tk, tv), mask)
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    device = q.device.type
    *tensors, mask = _autocast((q, k, v, tq, tk, tv, mask), device)
    tensors = [a if a is None else _four_axes(a.expand(*batch, *a.shape[-2:])) for a in tensors]
    options = {"mask": None if mask is None else _mask_of_four_axes(mask, batch), "causal": causal}
    with torch.autocast(device, enabled=False):
        value, tangent = _implementation(*tensors, **options)(*tensors, **options, scale=scale)
    shape = (*batch, *value.shape[-2:])
    return value.reshape(shape), tangent.reshape(shape)


def _common_batch(primals, tangents, mask) -> torch.Size:
    q, k, v = primals
    shapes = [None if a is None else tuple(a.shape) for a in (*primals, *tangents, mask)]
    if any(t is not None and t.shape != p.shape for p, t in zip(primals, tangents, strict=True)):
        raise ValueError(f"tangents must have their primals' shapes; q, k, v, tq, tk, tv are {shapes[:6]}")
    try:
        # not torch's, which imports sympy: a second of every process
        batch = torch.Size(np.broadcast_shapes(q.shape[:-2], k.shape[:-2], v.shape[:-2]))
        logits = torch.Size((*batch, q.shape[-2], k.shape[-2]))
        fits = mask is None or np.broadcast_shapes(mask.shape, logits) == logits
    except (ValueError, IndexError):
        fits, batch = False, torch.Size()
    if not fits or q.shape[-1] != k.shape[-1] or k.shape[-2] != v.shape[-2]:
        raise ValueError(f"q, k, v of shapes {shapes[:3]} and mask of shape {shapes[6]} do not fit together")
    if mask is not None and not (mask.dtype is torch.bool or mask.is_floating_point()):
        raise ValueError(f"a mask is boolean or floating-point, not {mask.dtype}")
    return batch


def _autocast(tensors, device: str) -> list[Any]:
    """What autocast would do to the arguments of attention; it leaves float64 alone."""
    if not torch.is_autocast_enabled(device):
        return list(tensors)
    dtype = torch.get_autocast_dtype(device)
    plain = (torch.bool, torch.float64)
    return [a if a is None or a.dtype in plain else a.to(dtype) for a in tensors]


def _four_axes(a: Tensor) -> Tensor:
    """(batch, heads, length, dim), for which alone torch has fused kernels."""
    return a[(None,) * (4 - a.ndim)] if a.ndim < 4 else a.flatten(0, -4)


def _mask_of_four_axes(mask: Tensor, batch: torch.Size) -> Tensor:
    """Axes along which the mask is constant stay of size 1, but for those that merge."""
    mask = mask[(None,) * (len(batch) + 2 - mask.ndim)]
    return _four_axes(mask.expand(*batch, *mask.shape[-2:]) if len(batch) > 2 else mask)


def _implementation(q: Any, *others: Any, **options: Any) -> Callable[..., tuple[Tensor, Tensor]]:
    if q.is_cuda and _has_triton() and not torch._C._are_functorch_transforms_active():
        kernel = import_module("trigbench.core.attention_triton")  # only here: triton is an extra, and slow to import
        if kernel.covers(q, *others, **options):
            return kernel.value_and_tangent
    return _value_then_tangent


@cache
def _has_triton() -> bool:
    return find_spec("triton") is not None


def _value_then_tangent(
    q: Tensor, k: Tensor, v: Tensor, tq: Maybe, tk: Maybe, tv: Maybe, mask: Maybe, causal: bool, scale: float
) -> tuple[Tensor, Tensor]:
    value = functional.scaled_dot_product_attention(q, k, v, mask, is_causal=causal, scale=scale)
    with torch.no_grad():
        tangent = torch.zeros_like(value)
        if tq is None and tk is None and tv is None:
            return value, tangent
        for batch, heads, rows in _blocks(q, k):
            keys = slice(min(rows.stop, k.shape[-2]) if causal else k.shape[-2])
            own = ((q, rows), (k, keys), (v, keys), (tq, rows), (tk, keys), (tv, keys))
            few: list[Any] = [None if a is None else _part(a, batch, heads, along) for a, along in own]
            few_mask = None if mask is None else _part(mask, batch, heads, rows, keys)
            first_row = rows.start if causal else None
            tangent[batch, heads, rows] = _tangent(*few, mask=few_mask, first_row=first_row, scale=scale)
    return value, tangent


def _blocks(q: Tensor, k: Tensor) -> Iterator[tuple[slice, slice, slice]]:
    """Parts of batch, heads and rows to take together; several heads only where a head has few logits."""
    batch, heads, queries, keys = *q.shape[:-1], k.shape[-2]
    if not (batch and heads and queries and keys):
        return iter(())
    cpu = q.device.type == "cpu"
    most = _LOGITS_OF_A_HEAD if cpu else _LOGITS_ELSEWHERE
    rows = min(queries, max(_FEWEST_ROWS, most // keys))
    together = _LOGITS_OF_SEVERAL if cpu and not is_traced() else most  # who compiles plans the memory
    at_once = max(1, together // (rows * keys))
    return product(_slices(batch, max(1, at_once // heads)), _slices(heads, at_once), _slices(queries, rows))


def _slices(length: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, length)) for start in range(0, length, size)]


def _part(a: Tensor, *parts: slice) -> Tensor:
    """a[parts], where an axis of size 1 stands for all that it broadcasts to; half precision widened."""
    part = a[tuple(slice(None) if size == 1 else own for size, own in zip(a.shape, parts, strict=False))]
    return part.float() if part.dtype in (torch.float16, torch.bfloat16) else part


def _tangent(
    q: Tensor, k: Tensor, v: Tensor, tq: Maybe, tk: Maybe, tv: Maybe, mask: Maybe, first_row: int | None, scale: float
) -> Tensor:
    """t_y of a block of whole rows; `first_row` if causal."""
    q, tq = q * scale, None if tq is None else tq * scale
    p, terms = _softmax(q @ k.mT, mask, first_row), []
    if tv is not None:
        terms.append(p @ tv)
    moving = [(a, b) for a, b in ((tq, k), (q, tk)) if a is not None and b is not None]
    if moving:
        left, right = (torch.cat(side, -1) for side in zip(*moving, strict=True))
        moved = (left @ right.mT).mul_(p)
        terms.append(moved.addcmul_(p, moved.sum(-1, keepdim=True), value=-1) @ v)
    return sum(terms[1:], start=terms[0])


def _softmax(x: Tensor, mask: Maybe, first_row: int | None) -> Tensor:
    """Of the last axis, 0 in a row that sees nothing; x is overwritten."""
    if first_row is not None:
        x.masked_fill_(torch.ones(x.shape[-2:], dtype=torch.bool, device=x.device).triu_(1 + first_row), -torch.inf)
    if mask is None:
        return x.softmax(-1)
    x = x.masked_fill_(~mask, -torch.inf) if mask.dtype is torch.bool else x.add_(mask)
    return x.softmax(-1).masked_fill_(x.amax(-1, keepdim=True) == -torch.inf, 0)
