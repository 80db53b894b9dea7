"""Rules of functions of one tensor; without its weights a norm has a symmetric Jacobian, so that its backward
kernel is its derivative.
"""

from collections.abc import Callable
from typing import Any

import torch

from trigbench.core.pairs.pair import Rule, only_first

aten = torch.ops.aten


def elementwise(push: Callable[..., Any]) -> Rule:
    """The rule of a function of one tensor; `push` gets (dx, x, y, remaining arguments) and returns dy."""

    def rule(func, args, kwargs, value):
        if not only_first(args, kwargs):
            return NotImplemented
        x, dx = args[0].primal, args[0].tangent
        if x.is_complex():  # backward kernels conjugate
            return NotImplemented
        if x.dtype is not value.dtype:  # autocast runs some functions in a wider type
            x, dx = x.to(value.dtype), dx.to(value.dtype)
        return push(dx, x, value, *args[1:], **kwargs)

    return rule


def power(dx, x, y, exponent=None):
    """x^n for a number n: n x^(n - 1) dx."""
    if not isinstance(exponent, int | float):
        return NotImplemented
    return dx * (exponent * x ** (exponent - 1)) if exponent else torch.zeros_like(dx)


def softmax(dx, x, y, dim=None, *_, **__):
    """y dx - y sum(y dx)."""
    if dim is None:
        return NotImplemented
    moved = y * dx
    return moved - y * moved.sum(dim, keepdim=True)


def wide(norm: Callable[..., Any]) -> Callable[..., Any]:
    """Half precision is reduced in float32, with float32's epsilon, as torch does for the value."""

    def widened(dx, x, *args, **kwargs):
        half = x.itemsize < 4
        return norm(dx.float() if half else dx, x.float() if half else x, *args, **kwargs)

    return widened


def layer_norm(dx, x, y, shape, weight=None, bias=None, eps=1e-5):
    """Its backward kernel without weights, times the weight."""
    _, mean, scale = aten.native_layer_norm(x, shape, None, None, eps)
    moved = aten.native_layer_norm_backward(dx, x, shape, mean, scale, None, None, [True, False, False])[0]
    return moved if weight is None else moved * weight


def group_norm(dx, x, y, num_groups, weight=None, bias=None, eps=1e-5):
    """As layer_norm."""
    sizes = (x.shape[0], x.shape[1], x[0, 0].numel(), num_groups)
    x, dx = x.contiguous(), dx.contiguous()
    _, mean, scale = aten.native_group_norm(x, None, None, *sizes, eps)
    moved = aten.native_group_norm_backward(dx, x, mean, scale, None, *sizes, [True, False, False])[0]
    return moved if weight is None else moved * weight.view(-1, *[1] * (x.ndim - 2))


def rms_norm(dx, x, y, shape, weight=None, eps=None):
    """(dx - x^ mean(x^ dx)) / rms, x^ = x / rms."""
    dims = tuple(range(-len(shape), 0))
    scale = torch.rsqrt(x.square().mean(dims, keepdim=True) + (torch.finfo(x.dtype).eps if eps is None else eps))
    x_hat = x * scale
    moved = scale * (dx - x_hat * (x_hat * dx).mean(dims, keepdim=True))
    return moved if weight is None else moved * weight


def batch_norm(dx, x, y, mean, var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5):
    """In training as layer_norm, by channel; else a scale."""
    column = (-1, *[1] * (x.ndim - 2))
    dims = [0, *range(2, x.ndim)]
    if training:
        var, mean = torch.var_mean(x, dims, correction=0)
    scale = torch.rsqrt(var + eps).view(column)
    if training:
        x_hat = (x - mean.view(column)) * scale
        dx = dx - dx.mean(dims, keepdim=True) - x_hat * (dx * x_hat).mean(dims, keepdim=True)
    return dx * (scale if weight is None else scale * weight.view(column))
