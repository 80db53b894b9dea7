"""What training, sampling and judging see of a data set."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from core.trigflow import Field
from workflow.runtime.files import Arrays


@dataclass(frozen=True)
class Dataset:
    """A prepared data set, in unit variance."""

    shape: tuple[int, ...]
    classes: int
    draw: Callable[[torch.Generator, int], tuple[Tensor, Tensor | None]]
    """(generator, batch) -> (x0 of (batch, *shape), labels of (batch,) or None)."""
    velocity: Field | None
    """The exact diffusion field, where it is known."""
    arrays: Arrays
    """As prepared, for the judges."""
