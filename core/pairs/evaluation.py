"""A whole function on pairs: its value and tangent, and everything that it holds left without pairs."""

import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from trigbench.core.holdings import held_by, refuse_scripts
from trigbench.core.pairs.handing import hand_on
from trigbench.core.pairs.pair import RUNNING, Evaluation, NestingError, Pair, Spent, depth, is_over, join


def evaluate(function: Callable[..., Any], primals: Sequence[Tensor], tangents: Sequence[Tensor]) -> tuple[Any, Any]:
    """function(*primals), recorded, and its derivative along `tangents`, not recorded.

    What torch.compile has made of a part of the function runs eagerly, and what the function leaves in modules or in
    tensors that it did not make is left there without a tangent. Raises RuntimeError when `function` itself comes
    here (pairs of two directions would mix), changes in place what shares memory with other tensors, holds
    TorchScript, or hides operations in a torch.autograd.Function (their values would lose the gradient).
    """
    if RUNNING.get() is not None:
        raise NestingError("pairs do not nest; evaluate the outer function with method='func'")
    hand_on()
    running = Evaluation(depth=depth())
    token = RUNNING.set(running)
    try:
        with _eager():
            output = function(*map(join, primals, tangents))
        return map_tensors(_value_of, output), map_tensors(_tangent_of, output)
    except Exception as error:
        if "TorchScript" in str(error):  # by the name of what the function holds
            refuse_scripts(held_by(function))
        if "method=" not in str(error):
            error.add_note(
                "pairs took the place of tensors here; method='func' may do, and 'difference' where that fails"
            )
        raise
    finally:
        RUNNING.reset(token)
        output = None
        running.over = True
        _leave_plain(function, running)


def map_tensors(change: Callable[..., Tensor], *outputs: Any) -> Any:
    """`change` of each tensor of an output, or of several alike: tensors, or tuples, lists or dicts of them."""

    def one(*parts: Any) -> Tensor:
        if not isinstance(parts[0], Tensor):
            raise ValueError(
                f"the function returns {type(parts[0]).__name__} where a tensor is expected, or tuples, lists or dicts "
                "of tensors; choose from what it returns, as in lambda *inputs: function(*inputs)[0]"
            )
        return change(*parts)

    return one(*outputs) if isinstance(outputs[0], Tensor) else tree_map(one, *outputs)


def _value_of(output: Tensor) -> Tensor:
    return output.primal if isinstance(output, Pair) else output


def _tangent_of(output: Tensor) -> Tensor:
    return output.tangent if isinstance(output, Pair) and not is_over(output) else torch.zeros_like(_value_of(output))


def _leave_plain(function: Callable[..., Any], evaluation: Evaluation) -> None:
    """What was changed in place is left as it is for checkpoints and others; a module's attributes are tensors."""
    while evaluation.changed:
        entry = evaluation.changed.pop()
        if isinstance(entry, Pair):
            entry.__class__ = Spent
        elif (pair := entry()) is not None:
            del entry  # what is weakly referred to is not swapped
            _return(pair)
    if evaluation.kept:
        for module in held_by(function).modules:
            for place in (vars(module), module._buffers):
                place.update({name: value.primal for name, value in place.items() if isinstance(value, Pair)})


def _return(pair: Tensor) -> None:
    """A tensor that was taken as a pair is a tensor again, with what was written to it."""
    primal, own = pair.primal, pair.own  # type: ignore
    try:
        torch.utils.swap_tensors(pair, own)
    except RuntimeError:  # others refer to it
        pair.__class__ = Spent
    else:
        pair.copy_(primal)


def _eager() -> AbstractContextManager:
    # only who has compiled something pays for looking; the import alone takes seconds
    return torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext()
