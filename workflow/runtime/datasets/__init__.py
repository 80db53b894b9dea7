"""Data sets: the table of kinds, and what training and sampling see of one.

A kind is a module with `prepare(data, evaluation, sigma_d)`, which makes arrays and facts,
`open_dataset(arrays, sigma_d)`, `judge_samples(dataset, samples)`, `judge_map(dataset, field)`,
`floors(dataset)`, and METRICS, the names of what the judges return. Adding one is such a module
and one line here.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from core.trigflow import Field

KINDS = {
    "mixture": "workflow.runtime.datasets.mixture",
    "digits": "workflow.runtime.datasets.digits",
}
Arrays = dict[str, np.ndarray]


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


def kind_module(kind: str) -> Any:
    """The module of a kind."""
    return importlib.import_module(KINDS[kind])
