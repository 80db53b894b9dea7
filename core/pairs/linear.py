"""Rules of what is linear in the tensors that move, or says nothing of their numbers."""

import warnings
from typing import Any

import torch
from torch import Tensor

from trigbench.core.pairs.pair import SEQUENCES, DetachWarning, Pair, only_first, parts_of, primal_of, with_pairs


def plain(func, args, kwargs, value):
    """A number, a shape, a comparison: no tangent."""
    return None


def detached(func, args, kwargs, value):
    """A zero, said: the part stands still."""
    warnings.warn(
        "detach cuts the tangent as it cuts the gradient, as in torch.func.jvp; where the detached part moves with the "
        "input, method='difference' differentiates it too",
        DetachWarning,
        stacklevel=4,
    )
    return value.new_zeros(())  # still a pair, so that who writes to it or asks for its gradient is refused


def linear(func, args, kwargs, value):
    """f(x, ...) -> f(dx, ...), where x alone moves."""
    if only_first(args, kwargs):
        return args[0].tangent if value is args[0].primal else func(args[0].tangent, *args[1:], **kwargs)
    plain = bool(args) and type(args[0]) is not Pair  # as in x.to(pair), where the pair lends its dtype only
    return None if plain else NotImplemented


def like(func, args, kwargs, value):
    """Linear in the first argument; the second lends its shape or dtype."""
    if type(args[0]) is not Pair:
        return None
    return func(args[0].tangent, *with_pairs(args[1:], primal_of), **kwargs)


def view(func, args, kwargs, value):
    """The tangent may be laid out otherwise than the value."""
    if not only_first(args, kwargs) or any(isinstance(a, torch.dtype) for a in (*args, *kwargs.values())):
        return NotImplemented
    return args[0].tangent.reshape(value.shape)


def view_as(func, args, kwargs, value):
    """x.view_as(other): laid out as the tangent is."""
    return args[0].tangent.reshape(value.shape) if type(args[0]) is Pair else None


def linear_in_list(func, args, kwargs, value):
    """cat and stack; what does not move counts as zeros."""
    if not args or type(args[0]) not in SEQUENCES:
        return NotImplemented
    return func([a.tangent if type(a) is Pair else torch.zeros_like(a) for a in args[0]], *args[1:], **kwargs)


def affine(func, args, kwargs, value):
    """func(x, weight, bias, ...), linear in x; the bias does not move."""
    if not only_first(args, kwargs) or len(args) < 2:
        return NotImplemented
    return func(args[0].tangent, args[1], None, *args[3:], **{k: v for k, v in kwargs.items() if k != "bias"})


def masked_fill(func, args, kwargs, value):
    """What is filled in does not move."""
    return func(args[0].tangent, args[1], 0) if only_first(args, kwargs) and len(args) == 3 else NotImplemented


def pad(func, args, kwargs, value):
    """The margin moves only where it repeats or mirrors x."""
    if not only_first(args, kwargs):
        return NotImplemented
    constant = (args[2] if len(args) > 2 else kwargs.get("mode", "constant")) == "constant"
    if not constant:
        return linear(func, args, kwargs, value)
    return func(args[0].tangent, args[1] if len(args) > 1 else kwargs["pad"])


def unpacked(func, args, kwargs, value):
    """Of a packed sequence; what it is padded with does not move."""
    if not only_first(args, kwargs) or kwargs or len(args) < 5:
        return NotImplemented
    return func(args[0].tangent, *args[1:3], 0.0, *args[4:])


def assigned(func, args, kwargs, value):
    """x[index] = y: the tangent of y goes where its value goes."""
    (_, moving), index, (_, tangent) = parts_of(args[0]), args[1], parts_of(args[2])
    return func(torch.zeros_like(value) if moving is None else moving, index, 0 if tangent is None else tangent)


def copied(func, args, kwargs, value):
    """The source's tangent."""
    tangent = parts_of(args[1])[1]
    return torch.zeros_like(value) if tangent is None else func(value, tangent)


def jointly_linear(func, args, kwargs, value):
    """Linear in all tensors but indices together; what does not move counts as zeros."""

    into_a_part = func.__name__.endswith("_scatter")  # where integers are no index
    source = kwargs.get("src", args[1] if len(args) > 1 else None) if into_a_part else None

    def moving(a: Any) -> Any:
        if type(a) is Pair:
            return a.tangent
        return torch.zeros_like(a) if _of_numbers(a) or (a is source and a is not None) else a

    return func(*map(moving, args), **dict(zip(kwargs, map(moving, kwargs.values()), strict=True)))


def scattered(func, args, kwargs, value):
    """Linear in the input and a tensor `src`; a number, and a tensor that does not move, count as zero."""
    options = dict(zip(("dim", "index", "src"), args[1:], strict=False)) | kwargs
    if not args or len(args) > 4 or "reduce" in options or "input" in options:
        return NotImplemented
    moving, along = parts_of(args[0])[1], parts_of(options.get("src", options.get("value")))[1]
    moving = torch.zeros_like(value) if moving is None else moving
    return func(moving, options["dim"], options["index"], 0 if along is None else along)


def _of_numbers(a: Any) -> bool:
    return isinstance(a, Tensor) and (a.is_floating_point() or a.is_complex())
