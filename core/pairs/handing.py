"""What torch does past `__torch_function__`, on pairs: autograd functions, vmap, DDP's search for tensors.

Each is torch's own for all but pairs. They take their places when pairs are first evaluated, and stay, as a checkpoint
computes again in a backward pass, when no evaluation runs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from inspect import unwrap
from types import FunctionType
from typing import Any

from torch import Tensor
from torch._functorch import apis
from torch.autograd import Function
from torch.autograd.function import _SingleLevelFunction
from torch.nn.parallel import distributed
from torch.overrides import handle_torch_function
from torch.utils import checkpoint
from torch.utils._pytree import tree_flatten, tree_unflatten

from trigbench.core.pairs.kernels import by_forward_mode
from trigbench.core.pairs.pair import WHOLE, Pair, join, parts_of

PASSED_ON = frozenset({
    "torch.nn.modules._functions.BackwardHookFunction",
    "torch.nn.parallel.distributed._DDPSink",
    "torch.distributed.fsdp._fully_shard._fsdp_param_group.RegisterPostBackwardFunction",
})  # fmt: skip
"""Functions that return their last arguments and act in the backward pass only."""
_vmap = apis.vmap_impl  # type: ignore
_find_tensors = distributed._find_tensors  # type: ignore
_make_saved_tensor: Any = getattr(checkpoint, "_make_saved_tensor", None)  # since torch 2.13


@cache
def hand_on() -> None:
    """From here on pairs are followed there."""
    _SingleLevelFunction.apply = classmethod(custom)  # type: ignore  # what Function.apply ends in, however it is called
    apis.vmap_impl = _vmap_of_any  # type: ignore
    distributed._find_tensors = _values_found  # type: ignore
    checkpoint._make_saved_tensor = _saved  # type: ignore


def custom(function: Any, *args: Any, **kwargs: Any) -> Any:
    """torch.autograd.Function.apply."""
    if pairs := [a for a in args if isinstance(a, Pair)]:
        return handle_torch_function(custom, pairs, function, *args, **kwargs)
    return super(_SingleLevelFunction, function).apply(*args, **kwargs)  # type: ignore


def _custom_on_pairs(function: Any, *args: Any) -> Any:
    """Value and tangent of a torch.autograd.Function: by its own jvp, in one evaluation."""
    name = f"{function.__module__}.{function.__qualname__}"
    if name in PASSED_ON:
        values = custom(function, *(parts_of(a)[0] for a in args))
        moved = [parts_of(a)[1] for a in args[len(args) - len(values) :]]
        return tuple(y if dy is None else join(y, dy) for y, dy in zip(values, moved, strict=True))
    if name == "torch.utils.checkpoint._NoopSaveInputs":
        return _saved_before_2_13(function, args)
    if name == "torch.utils.checkpoint.CheckpointFunction":
        raise RuntimeError(
            "pairs cannot follow a re-entrant checkpoint; say use_reentrant=False, or method='difference'"
        )
    if function.jvp is Function.jvp:
        raise RuntimeError(
            f"pairs cannot follow {function.__name__}, a torch.autograd.Function without jvp; define one, or use "
            "method='difference'"
        )
    if _writes_to_inputs(function):
        raise RuntimeError(f"{function.__name__} writes to its inputs in place; use method='func' or 'difference'")
    at = [i for i, a in enumerate(args) if type(a) is Pair]  # alone: autograd does not look into lists

    def of_pairs(*duals: Tensor) -> Any:
        filled = dict(enumerate(args)) | dict(zip(at, duals, strict=True))
        return custom(function, *filled.values())

    return by_forward_mode(of_pairs, [args[i] for i in at])


def _writes_to_inputs(function: Any) -> bool:
    """As far as it says so, which torch asks for."""
    parts = [unwrap(part) for part in (function.forward, function.setup_context)]
    return any("mark_dirty" in part.__code__.co_names for part in parts if isinstance(part, FunctionType))


def _vmap_of_any(func: Any, in_dims: Any, out_dims: Any, randomness: str, chunk: Any, *args: Any, **kwargs: Any) -> Any:
    leaves, spec = tree_flatten((args, kwargs))

    def vmap(*leaves: Any) -> Any:
        if pairs := [leaf for leaf in leaves if isinstance(leaf, Pair)]:
            return handle_torch_function(vmap, pairs, *leaves)
        args, kwargs = tree_unflatten(leaves, spec)
        return _vmap(func, in_dims, out_dims, randomness, chunk, *args, **kwargs)

    return vmap(*leaves)


def _values_found(held: Any) -> list[Tensor]:
    """DDP looks from an output which parameters it depends on: values are recorded, pairs are not."""
    return [parts_of(a)[0] for a in _find_tensors(held)]


def _saved(tensor: Tensor, *, is_output: bool = False) -> Any:
    """What a checkpoint begins from, which within another checkpoint would come back without its tangent."""
    return tensor if isinstance(tensor, Pair) else _make_saved_tensor(tensor, is_output=is_output)


@dataclass(frozen=True)
class _Kept:
    """A pair that does not look like a tensor."""

    pair: Pair


def _saved_before_2_13(function: Any, args: Sequence[Any]) -> Any:
    """As `_saved`, where an autograd function keeps a checkpoint's inputs."""
    kept = [_Kept(a) if isinstance(a, Pair) else a for a in args]
    found = super(_SingleLevelFunction, function).apply(*kept)  # type: ignore
    if found.grad_fn is not None:  # or nothing is recorded, nor computed again
        inputs = found.grad_fn.get_args
        found.grad_fn.get_args = lambda saved: [a.pair if type(a) is _Kept else a for a in inputs(saved)]
    return found


WHOLE[custom] = _custom_on_pairs
