"""Tensors held against a layout: which names there are, and of which shapes."""

from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor

State = Mapping[str, Tensor]
Shapes = Mapping[str, Sequence[int]]
LISTED = 5
"""Names that an error gives of each kind."""


def shapes_of(state: State) -> Shapes:
    """The layout that these tensors have."""
    return {name: tensor.shape for name, tensor in state.items()}


def difference(expected: Shapes, state: State) -> str | None:
    """How tensors differ from a layout, by name and shape, in words; None where they do not."""
    problems = {
        "missing": [name for name in expected if name not in state],
        "unexpected": [name for name in state if name not in expected],
        "of another shape": [
            f"{name} {tuple(state[name].shape)} instead of {tuple(shape)}"
            for name, shape in expected.items()
            if name in state and tuple(state[name].shape) != tuple(shape)
        ],
    }
    return "; ".join(f"{kind}: {listed(names)}" for kind, names in problems.items() if names) or None


def check_layout(state: State, expected: Shapes, layout: str) -> None:
    """Raise ValueError, which names the first tensors of each kind, unless names and shapes are those of a layout."""
    if wrong := difference(expected, state):
        raise ValueError(f"these tensors are not {layout}; {wrong}")


def listed(names: Collection[str]) -> str:
    """The first names, and how many more there are."""
    shown = ", ".join(list(names)[:LISTED])
    return shown + (f" and {len(names) - LISTED} more" if len(names) > LISTED else "")


def single(tensor: Tensor) -> Tensor:
    """Half precision becomes single."""
    return tensor.float() if tensor.dtype.is_floating_point and tensor.itemsize < torch.float32.itemsize else tensor
