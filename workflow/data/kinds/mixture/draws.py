"""Draws of a Gaussian mixture."""

import torch
from torch import Tensor

from trigbench.core import oracle
from trigbench.core.condition import UNTOLD, Condition
from trigbench.workflow.data.dataset import Dataset
from trigbench.workflow.machine.files import Arrays


def mixture_of(arrays: Arrays, dtype: torch.dtype = torch.float64) -> oracle.Mixture:
    """The mixture that was prepared; its parts are kept in float64."""
    return oracle.Mixture(*(torch.from_numpy(arrays[name]).to(dtype) for name in ("weights", "means", "stds")))


def open_dataset(arrays: Arrays, sigma_d: float) -> Dataset:
    """Draws are fresh at every step: the data set is infinite."""
    mixture = mixture_of(arrays, torch.float32)
    dimension = mixture.means.shape[1]

    def draw(g: torch.Generator, batch: int) -> tuple[Tensor, Condition]:
        uniform, noise = torch.rand(batch, generator=g), torch.randn(batch, dimension, generator=g)
        return oracle.sample(mixture, uniform, noise), UNTOLD

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        there = oracle.Mixture(*(part.to(x) for part in (mixture.weights, mixture.means, mixture.stds)))
        return oracle.velocity(there, x, t.to(x.dtype))

    return Dataset((dimension,), 0, draw, velocity, arrays)
