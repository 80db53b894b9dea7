"""The derivative of a function along a direction, with a value that can still be trained."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from core import pairs

Function = Callable[..., Tensor]
Tensors = Sequence[Tensor]
Method = Literal["auto", "pairs", "func", "two_pass", "difference"]


def value_and_tangent(
    function: Function, primals: Tensors, tangents: Tensors, method: Method = "auto"
) -> tuple[Tensor, Tensor]:
    """function(*primals) and its derivative along `tangents`; the value keeps its gradient, the tangent has none.

    All methods draw one dropout mask for both. Costs are of one forward evaluation of a network:

    - "pairs" (`core.pairs`): exact, about two and no memory for the tangent's graph;
    - "func" (torch.func.jvp): exact, the reference; about three to four, and records the tangent too; takes attention
      unfused, and knows no batch norm in training;
    - "two_pass": torch.func.jvp without gradients, then the value; exact, about four to five;
    - "difference": central differences within half the direction, about three; error of the order of the rounding
      to the power 2/3, so of no use in half precision, and a batch norm in training sees three batches;
    - "auto": pairs, or func inside torch.func's transforms, which pairs do not know.

    Inside torch.compile it runs uncompiled, between two compiled graphs.

    Raises ValueError when primals and tangents differ in number, shape or dtype, and RuntimeError
    when `function` does what pairs cannot follow (see `core.pairs.evaluate`).
    """
    if method not in METHODS and method != "auto":
        raise ValueError(f"unknown method {method!r}; choose of: auto, {', '.join(METHODS)}")
    primal_kinds = [(tuple(p.shape), p.dtype) for p in primals]
    tangent_kinds = [(tuple(p.shape), p.dtype) for p in tangents]
    if primal_kinds != tangent_kinds:
        raise ValueError(f"primals {primal_kinds} and tangents {tangent_kinds} must agree in number, shape and dtype")
    if method == "auto":
        method = "func" if torch._C._are_functorch_transforms_active() else "pairs"
    evaluate: Any = METHODS[method]
    if torch.compiler.is_compiling():  # torch compiles no forward mode reliably: it runs as it is, between two graphs
        evaluate = torch.compiler.disable(evaluate)
    return evaluate(function, primals, tangents)


def _func(function: Function, primals: Tensors, tangents: Tensors) -> tuple[Tensor, Tensor]:
    with sdpa_kernel(SDPBackend.MATH):  # fused attention has no forward mode
        value, tangent = torch.func.jvp(function, tuple(primals), tuple(tangents))[:2]
    return value, tangent.detach()


def _two_pass(function: Function, primals: Tensors, tangents: Tensors) -> tuple[Tensor, Tensor]:
    with torch.no_grad(), draws_again(primals):
        tangent = _func(function, primals, tangents)[1]
    return function(*primals), tangent


def _difference(function: Function, primals: Tensors, tangents: Tensors) -> tuple[Tensor, Tensor]:
    sides = []
    with torch.no_grad():
        precision = max(torch.finfo(p.dtype).eps for p in primals)
        size = max(p.abs().amax().clamp(min=1).double() for p in primals)
        speed = max(d.abs().amax().double() for d in tangents).clamp(min=torch.finfo(torch.float32).tiny)
        step = (precision ** (1 / 3) * size / speed).clamp(max=0.5)  # times stay within (0, pi/2), see derivative_along
        for signed in (step, -step):
            with draws_again(primals):
                sides.append(function(*((p + signed * d).to(p.dtype) for p, d in zip(primals, tangents, strict=True))))
        tangent = ((sides[0] - sides[1]) / (2 * step)).to(sides[0].dtype)
    return function(*primals), tangent


def draws_again(primals: Tensors):
    """A place whose random draws, such as dropout masks, are drawn again after it."""
    return torch.random.fork_rng({p.device for p in primals if p.is_cuda})


METHODS: dict[Method, Callable[[Function, Tensors, Tensors], tuple[Tensor, Tensor]]] = {
    "pairs": pairs.evaluate, "func": _func, "two_pass": _two_pass, "difference": _difference,
}  # fmt: skip
