"""The derivative of a function along a direction, with a value that can still be trained."""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from core import pairs

Method = Literal["auto", "reference"]


def value_and_tangent(
    function: Callable[..., Tensor],
    primals: Sequence[Tensor],
    tangents: Sequence[Tensor],
    method: Method = "auto",
) -> tuple[Tensor, Tensor]:
    """function(*primals) and its derivative along `tangents`, from one evaluation.

    The value keeps its gradient, the tangent has none. One evaluation means one dropout mask.
    "reference" is torch.func.jvp; "auto" is `core.pairs`, exact too and several times cheaper, except
    inside a torch.func transform, whose levels pairs do not know: there it is the reference.

    Raises ValueError when primals and tangents differ in number, shape or dtype, and RuntimeError
    when `function` changes its input in place or differentiates along a direction itself ("auto").
    """
    if method not in ("auto", "reference"):
        raise ValueError(f"unknown method {method!r}; choose 'auto' or 'reference'")
    primal_kinds = [(tuple(p.shape), p.dtype) for p in primals]
    tangent_kinds = [(tuple(p.shape), p.dtype) for p in tangents]
    if primal_kinds != tangent_kinds:
        raise ValueError(f"primals {primal_kinds} and tangents {tangent_kinds} must agree in number, shape and dtype")
    if method == "auto" and not torch._C._are_functorch_transforms_active():
        return pairs.evaluate(function, primals, tangents)
    value, tangent = torch.func.jvp(function, tuple(primals), tuple(tangents))[:2]
    return value, tangent.detach()
