"""The derivative of a function along a direction, with a value that can still be trained."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from trigbench.core import holdings, pairs

Function = Callable[..., Any]
Tensors = Sequence[Tensor]
TangentMethod = Literal["auto", "pairs", "func", "two_pass", "difference"]


def value_and_tangent(
    function: Function, primals: Tensors, tangents: Tensors, method: TangentMethod = "auto"
) -> tuple[Any, Any]:
    """function(*primals) and its derivative along `tangents`; the value keeps its gradient, the tangent has none.

    All methods draw one dropout mask for both. Costs are of one forward evaluation of a network:

    - "pairs" (`core.pairs`): exact, about two and no memory for the tangent's graph;
    - "func" (torch.func.jvp): exact, the reference; about three to four, and records the tangent too; takes attention
      unfused, and knows no batch norm in training;
    - "two_pass": torch.func.jvp without gradients, then the value; exact, about four to five;
    - "difference": central differences within half the direction, about three; error of the order of the rounding
      to the power 2/3, so of no use in half precision, and a batch norm in training normalises three batches;
    - "auto": pairs, or func inside torch.func's transforms, which pairs do not know, and with a FallbackWarning where
      pairs refuse.

    Where `function` returns tuples, lists or dicts of tensors, so are both. State that it holds in modules is
    written once, and what it detaches stands still, but for "difference" (see docs/tangent.md).

    Inside torch.compile it runs uncompiled, between two compiled graphs.

    Raises ValueError when primals and tangents differ in number, shape or dtype or the function returns something
    else, and RuntimeError or TypeError that names another method when `function` does what the method cannot follow.
    """
    if method not in METHODS and method != "auto":
        raise ValueError(f"unknown method {method!r}; choose of: auto, {', '.join(METHODS)}")
    primal_kinds = [(tuple(p.shape), p.dtype) for p in primals]
    tangent_kinds = [(tuple(p.shape), p.dtype) for p in tangents]
    if primal_kinds != tangent_kinds:
        raise ValueError(f"primals {primal_kinds} and tangents {tangent_kinds} must agree in number, shape and dtype")
    evaluate: Any = _auto if method == "auto" else METHODS[method]
    if torch.compiler.is_compiling():  # torch compiles no forward mode reliably: it runs as it is, between two graphs
        evaluate = torch.compiler.disable(evaluate)
    return evaluate(function, primals, tangents)


def _auto(function: Function, primals: Tensors, tangents: Tensors) -> tuple[Any, Any]:
    """Pairs; where they fail, torch.func.jvp from the same state and draws."""
    if torch._C._are_functorch_transforms_active():
        return _func(function, primals, tangents)
    held = holdings.held_by(function)
    before = holdings.noted(held)
    generators = _generator_states(primals)
    try:
        with holdings.watched(held, before):
            return pairs.evaluate(function, primals, tangents)
    except (Warning, torch.OutOfMemoryError, pairs.NestingError):
        raise
    except Exception as refusal:
        if not before.put_back():
            refusal.add_note(
                "a tensor that the function holds has changed by then, so that 'auto' cannot go on; "
                "name method='func', or method='difference' where that refuses to change it"
            )
            raise
        for generator, state in generators:
            generator.set_state(state)
        found = _func_or(refusal, function, primals, tangents)
        warnings.warn(
            "pairs cannot follow the function, so that torch.func.jvp takes all of it, which is right and slower "
            f"(method='func' spares the attempt): {refusal}",
            pairs.FallbackWarning,
            stacklevel=3,
        )
        return found


def _func_or(refusal: Exception, function: Function, primals: Tensors, tangents: Tensors) -> tuple[Any, Any]:
    """func, or the refusal where that fails too, with the reason."""
    try:
        return _func(function, primals, tangents)
    except Exception as error:
        reason = str(error).partition("\n")[0]
        if reason != str(refusal).partition("\n")[0]:  # not a fault of the function's own
            refusal.add_note(f"nor can torch.func.jvp ({reason}); method='difference' needs its values alone")
        raise refusal from None


def _func(function: Function, primals: Tensors, tangents: Tensors) -> tuple[Any, Any]:
    holdings.refuse_scripts(holdings.held_by(function))
    # fused attention has no forward mode; a script that was not found is right where it is not optimised
    with sdpa_kernel(SDPBackend.MATH), torch.jit.optimized_execution(False), pairs.out_of_inference():  # type: ignore
        own, along = (tuple(a.clone() for a in both) for both in (primals, tangents))  # changed where the function does
        value, tangent = torch.func.jvp(function, own, along)[:2]
    return value, pairs.map_tensors(Tensor.detach, tangent)


def _two_pass(function: Function, primals: Tensors, tangents: Tensors) -> tuple[Any, Any]:
    with torch.no_grad(), draws_again(primals), holdings.unchanged(function):
        tangent = _func(function, primals, tangents)[1]
    return function(*primals), tangent


def _difference(function: Function, primals: Tensors, tangents: Tensors) -> tuple[Any, Any]:
    with torch.no_grad():
        precision = max(torch.finfo(p.dtype).eps for p in primals)
        size = max(p.abs().amax().clamp(min=1).double() for p in primals)
        speed = max(d.abs().amax().double() for d in tangents).clamp(min=torch.finfo(torch.float32).tiny)
        step = (precision ** (1 / 3) * size / speed).clamp(max=0.5)  # times stay within (0, pi/2), see derivative_along
    moved = [[(p + s * d).to(p.dtype) for p, d in zip(primals, tangents, strict=True)] for s in (step, -step)]
    sides = [_values(function, side) for side in moved]
    tangent = pairs.map_tensors(lambda up, down: ((up - down) / (2 * step)).to(up.dtype), *sides)
    return function(*primals), tangent


def _values(function: Function, primals: Tensors) -> Any:
    """The function's values alone; recorded only where it asks for a gradient itself, as that of an energy."""
    try:
        with torch.no_grad(), draws_again(primals), holdings.unchanged(function):
            return function(*primals)
    except RuntimeError as error:
        if "does not require grad" not in str(error):
            raise
    with draws_again(primals), holdings.unchanged(function):
        return pairs.map_tensors(Tensor.detach, function(*primals))


def draws_again(primals: Tensors):
    """A place whose random draws, such as dropout masks, are drawn again after it."""
    return torch.random.fork_rng({p.device for p in primals if p.is_cuda})


def _generator_states(primals: Tensors) -> list[tuple[Any, Tensor]]:
    devices = {p.device for p in primals if p.is_cuda}
    if devices and torch.cuda.is_current_stream_capturing():  # where none may be read, and errors are final
        return []
    generators = [torch.default_generator, *(torch.cuda.default_generators[d.index] for d in devices)]
    return [(generator, generator.get_state()) for generator in generators]


METHODS: dict[TangentMethod, Callable[[Function, Tensors, Tensors], tuple[Any, Any]]] = {
    "pairs": pairs.evaluate, "func": _func, "two_pass": _two_pass, "difference": _difference,
}  # fmt: skip
