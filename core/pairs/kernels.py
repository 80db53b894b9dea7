"""Rules that are more than a formula: distances, sampled grids, dropout, attention."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FunctionType
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from trigbench.core.attention import attention_with_tangent
from trigbench.core.pairs.pair import Pair, fall_back, join, out_of_inference, parts_of, usable, with_pairs

aten = torch.ops.aten
_AT_ONCE = 2**20
"""Numbers that are stored at once where there would be one for each dimension of each pair of points."""


def distances(func, args, kwargs, value):
    """cdist, of differences, as a sum of products would lose digits where points are close; some rows at a time."""
    options = dict(zip(("p", "compute_mode"), args[2:], strict=False)) | kwargs
    p = float(options.get("p", 2.0))
    if len(args) < 2 or not 1 <= p < math.inf:
        return NotImplemented
    (x, dx), (y, dy) = map(parts_of, args[:2])
    x, y, dy = x.to(value.dtype), y.to(value.dtype), None if dy is None else dy.to(value.dtype)
    rows = max(1, _AT_ONCE // max(1, value[..., :1, :].numel() * x.shape[-1]))
    moving = [None] * len(x.split(rows, -2)) if dx is None else dx.to(value.dtype).split(rows, -2)
    parts = zip(x.split(rows, -2), moving, value.split(rows, -2), strict=True)
    return torch.cat([_distances_of_rows(p, x, dx, y, dy, value) for x, dx, value in parts], -2)


def _distances_of_rows(p, x, dx, y, dy, value):
    apart = x.unsqueeze(-2) - y.unsqueeze(-3)
    moved = 0 if dx is None else dx.unsqueeze(-2)
    moved = moved if dy is None else moved - dy.unsqueeze(-3)
    weights = apart if p == 2 else apart.sign() * apart.abs() ** (p - 1)
    return ((weights * moved).sum(-1) / value ** (p - 1)).masked_fill(value == 0, 0)


def sampled(func, args, kwargs, value):
    """Linear in the input; in the grid its own backward kernel, of one channel at a time, is its derivative."""
    options = dict(zip(("mode", "padding_mode", "align_corners"), args[2:], strict=False)) | kwargs
    mode, padding = options.get("mode", "bilinear"), options.get("padding_mode", "zeros")
    corners = bool(options.get("align_corners"))
    if len(args) < 2:
        return NotImplemented
    (image, moved), (grid, shift) = map(parts_of, args[:2])
    along = None if moved is None else func(moved, grid, mode=mode, padding_mode=padding, align_corners=corners)
    if shift is None:
        return along
    batch, channels = image.shape[:2]
    each = image.reshape(batch * channels, 1, *image.shape[2:])
    shared = grid.repeat_interleave(channels, 0)
    backward = aten.grid_sampler_2d_backward if image.ndim == 4 else aten.grid_sampler_3d_backward
    modes = ("bilinear", "nearest", "bicubic").index(mode), ("zeros", "border", "reflection").index(padding)
    ones = torch.ones_like(value).reshape(batch * channels, 1, *value.shape[2:])
    slope = backward(ones, each, shared, *modes, corners, [False, True])[1]
    shifted = (slope * shift.repeat_interleave(channels, 0)).sum(-1).reshape(value.shape)
    return shifted if along is None else along + shifted


def dropout(func: Callable[..., Any]) -> Callable[..., Any]:
    """One mask for value and tangent, as drawn for an input of ones."""

    def both(input, p=0.5, training=True, inplace=False):
        if not (p and training):
            return input
        with torch.no_grad():
            mask = func(torch.ones_like(input.primal), p, training)
            tangent = input.tangent * mask
        return join(input.primal * mask, tangent)

    return both


def attention(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False):
    """In one pass with its value (core.attention); with dropout unfused."""
    if dropout_p or type(attn_mask) is Pair:  # unfused, as that draws once for value and tangent
        with sdpa_kernel(SDPBackend.MATH):
            options = {"scale": scale, "enable_gqa": enable_gqa}
            inputs = (query, key, value, attn_mask, dropout_p, is_causal)
            return fall_back(functional.scaled_dot_product_attention, inputs, options)
    if enable_gqa:  # a head of k and v serves several of q
        key, value = (a.repeat_interleave(query.shape[-3] // a.shape[-3], -3) for a in (key, value))
    (q, tq), (k, tk), (v, tv) = map(parts_of, (query, key, value))
    return join(*attention_with_tangent(q, k, v, tq, tk, tv, attn_mask, is_causal, scale))


def by_forward_mode(func: Callable[..., Any], args: Sequence[Any]) -> Any:
    """What torch has a forward mode of, with value and tangent in one evaluation; pairs in lists as well."""
    with out_of_inference(), forward_ad.dual_level():
        found = func(*with_pairs(args, _dual))
        whole = found if isinstance(found, tuple) else (found,)
        moved = [forward_ad.unpack_dual(y).tangent if isinstance(y, Tensor) else None for y in whole]
    joined = tuple(y if dy is None else join(y, dy) for y, dy in zip(whole, moved, strict=True))
    return joined if isinstance(found, tuple) else joined[0]


def _dual(pair: Any) -> Tensor:
    return forward_ad.make_dual(*map(usable, parts_of(pair)))


def recurrent(function: Callable[..., Any]) -> Callable[..., Any]:
    """LSTM and the like, whose fused kernels have no forward mode."""

    def both(*args):
        with _without_kernels_of_libraries():
            return by_forward_mode(function, args)

    return both


@contextmanager
def _without_kernels_of_libraries() -> Iterator[None]:
    before = torch._C._get_mkldnn_enabled(), torch._C._get_cudnn_enabled()
    torch._C._set_mkldnn_enabled(False)
    torch._C._set_cudnn_enabled(False)  # torch's own contexts would set precisions too
    try:
        yield
    finally:
        torch._C._set_mkldnn_enabled(before[0])
        torch._C._set_cudnn_enabled(before[1])


def written_out(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of torch's that is a composition in Python, so that pairs walk through its operations."""
    seen = {**function.__globals__, "has_torch_function": lambda _: False}
    return FunctionType(function.__code__, seen, function.__name__, function.__defaults__, function.__closure__)
