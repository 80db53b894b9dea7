"""What a network is told besides point and time."""

import dataclasses
import inspect
import re
import typing
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch.utils._pytree as pytree
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Condition:
    """One row a sample; None is the null of each, for what the network is not told. `UNTOLD` is nothing at all.

    A pytree whose leaves are the tensors that are there, so that torch.func's transforms pass through it.
    """

    label: Tensor | None = None
    """(batch,) whole numbers, from 0 to classes - 1, and `classes` for none."""
    scale: Tensor | None = None
    """(batch,), the guidance that the network imitates; 1 is none."""
    target_time: Tensor | None = None
    """(batch,), the angle u to which the network's map goes from t; 0 is data."""
    observation: Tensor | None = None
    """(batch, *any), what samples have to agree with, as another image or a robot's camera."""


UNTOLD = Condition()
PARTS = tuple(field.name for field in dataclasses.fields(Condition))


def parts_of(condition: Condition) -> dict[str, Tensor]:
    """By name what is told."""
    told = {name: getattr(condition, name) for name in PARTS}
    return {name: part for name, part in told.items() if part is not None}


def _flatten(condition: Condition) -> tuple[list[Any], tuple[str, ...]]:
    names = tuple(name for name in PARTS if getattr(condition, name) is not None)
    return [getattr(condition, name) for name in names], names


def _flatten_with_keys(condition: Condition) -> tuple[list[Any], tuple[str, ...]]:
    parts, names = _flatten(condition)
    return [(pytree.GetAttrKey(name), part) for name, part in zip(names, parts, strict=True)], names


def _unflatten(parts: Any, names: Any) -> Condition:
    told, made = dict(zip(names, parts, strict=True)), object.__new__(Condition)
    for name in PARTS:  # torch.func makes trees of places and of flags as well, which are no tensors
        object.__setattr__(made, name, told.get(name))
    return made


pytree.register_pytree_node(
    Condition,
    _flatten,
    _unflatten,
    serialized_type_name="trigbench.core.condition.Condition",
    flatten_with_keys_fn=_flatten_with_keys,
)


def given_to(network: Callable[..., Any], condition: Any) -> Any:
    """What a network is called with: the Condition where it takes one, else its label alone.

    A network takes a Condition if it says so: if the third parameter of its `forward` is annotated as one, alone or
    in a union; labels, a tensor or None, are then made one. Any other network takes labels. What is neither is given
    as it is. Raises ValueError for a network of labels that would have to be told more, as it could only ignore that.
    """
    if takes_condition(network):
        return Condition(label=condition) if condition is None or isinstance(condition, Tensor) else condition
    if not isinstance(condition, Condition):
        return condition
    if more := [name for name in parts_of(condition) if name != "label"]:
        problem = f"{type(network).__name__} takes labels alone and would not hear of its {' and '.join(more)}"
        raise ValueError(f"{problem}: annotate the third parameter of its forward as trigbench.Condition")
    return condition.label


def takes_condition(network: Callable[..., Any]) -> bool:
    """Whether the third parameter of `forward`, of a network or of its class, or of a function, is annotated so."""
    network = getattr(network, "_orig_mod", network)  # of torch.compile
    forward = getattr(network, "forward", network)
    method = isinstance(network, type) or hasattr(forward, "__func__")
    return _annotated(getattr(forward, "__func__", forward), method)


@lru_cache(maxsize=256)
def _annotated(function: Callable[..., Any], method: bool) -> bool:
    try:
        parameters = list(inspect.signature(function).parameters.values())[method:]
    except (TypeError, ValueError):  # of some compiled functions nothing is known
        return False
    if len(parameters) < 3:
        return False
    hint = parameters[2].annotation
    try:
        hint = typing.get_type_hints(function).get(parameters[2].name, hint)
    except Exception:  # names that only a type checker knows
        return re.search(r"\bCondition\b", str(hint)) is not None
    return hint is Condition or Condition in typing.get_args(hint)
