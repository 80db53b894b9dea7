"""Custom autograd functions, as others write them: sin(x w), with its forward mode and without."""

from typing import Any

import torch
from torch.autograd import Function
from torch.autograd.function import once_differentiable


class WithoutJvp(Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x, w):
        return (x * w).sin()

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, gradient):  # type: ignore
        x, w = ctx.saved_tensors
        moved = (x * w).cos() * gradient
        return (moved * w).sum_to_size(x.shape), (moved * x).sum_to_size(w.shape)


class Jvp(WithoutJvp):
    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def jvp(ctx: Any, dx, dw):  # type: ignore
        x, w = ctx.saved_tensors
        moved = sum(a * b for a, b in ((dx, w), (x, dw)) if a is not None and b is not None)
        return (x * w).cos() * moved


class JvpOfOld(Function):
    generate_vmap_rule = False

    @staticmethod
    def forward(ctx: Any, x, w):  # type: ignore
        ctx.save_for_backward(x, w)
        ctx.save_for_forward(x, w)
        ctx.set_materialize_grads(False)
        return (x * w).sin()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient):  # type: ignore
        return WithoutJvp.backward(ctx, gradient)

    jvp = Jvp.jvp  # type: ignore


class Multiple(Function):
    """A number beside the tensor; an output that is whole, and one that stands still."""

    @staticmethod
    def forward(ctx: Any, x, scale):  # type: ignore
        ctx.scale, sign = scale, (x > 0).to(x.dtype)
        ctx.mark_non_differentiable(sign)
        return scale * x, x.clone(), sign

    @staticmethod
    def backward(ctx: Any, first, second, _):  # type: ignore
        return ctx.scale * first + second, None

    @staticmethod
    def jvp(ctx: Any, dx, _):  # type: ignore
        return ctx.scale * dx, dx.clone(), None


class WritesInPlace(Function):
    @staticmethod
    def forward(x):
        return x.mul_(2)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.mark_dirty(*inputs)

    @staticmethod
    def backward(ctx, gradient):  # type: ignore
        return 2 * gradient

    @staticmethod
    def jvp(ctx, dx):  # type: ignore
        return dx.mul_(2)


class Inside(Function):
    """What stands in a list is not seen by autograd, which loses its gradient."""

    @staticmethod
    def forward(ctx: Any, xs, w):  # type: ignore
        return (xs[0] * w).sin()

    @staticmethod
    def backward(ctx, gradient):  # type: ignore
        return None, gradient.new_zeros(4)

    @staticmethod
    def jvp(ctx, *_):  # type: ignore
        return torch.zeros(6, 4, dtype=torch.float64)
