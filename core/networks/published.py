"""What the readers of published networks of two times share: tensors held against the names and shapes of a layout."""

from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor

State = Mapping[str, Tensor]
Shapes = Mapping[str, Sequence[int]]
LISTED = 5
"""Names that an error gives of each kind."""


def check_layout(state: State, expected: Shapes, layout: str) -> None:
    """Raise ValueError, which names the first tensors of each kind, unless names and shapes are those of a layout."""
    problems = {
        "missing": [name for name in expected if name not in state],
        "unexpected": [name for name in state if name not in expected],
        "of another shape": [
            f"{name} {tuple(state[name].shape)} instead of {tuple(shape)}"
            for name, shape in expected.items()
            if name in state and tuple(state[name].shape) != tuple(shape)
        ],
    }
    found = [f"{kind}: {listed(names)}" for kind, names in problems.items() if names]
    if found:
        raise ValueError(f"these tensors are not {layout}; {'; '.join(found)}")


def listed(names: Collection[str]) -> str:
    """The first names, and how many more there are."""
    shown = ", ".join(list(names)[:LISTED])
    return shown + (f" and {len(names) - LISTED} more" if len(names) > LISTED else "")


def single(tensor: Tensor) -> Tensor:
    """Half precision becomes single."""
    return tensor.float() if tensor.dtype.is_floating_point and tensor.itemsize < torch.float32.itemsize else tensor
