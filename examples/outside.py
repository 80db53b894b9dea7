"""A model from outside, judged as the study `oracle` judges its own: a small sampler that knows nothing of trigbench.

Of 2,000 points it learns a mixture by expectation maximisation, and goes down the ODE of that mixture by Heun's method:

    trigbench judge oracle examples/outside.py:sample --name em-heun --data mixture-2d --by "the example"
"""

import functools
import math
from pathlib import Path

import numpy as np
import torch

SIGMA_D = 0.5
STEPS = 24
SHOWN = 2000


def training_data() -> torch.Tensor:
    """Points in unit variance, of the mixture that the study prepared (of every budget the same)."""
    prepared = np.load(next(Path("results").glob("oracle*/data/mixture-2d.npz")), allow_pickle=False)
    draw = np.random.default_rng(0)
    chosen = draw.choice(len(prepared["weights"]), SHOWN, p=prepared["weights"])
    noise = draw.normal(size=(SHOWN, 2))
    return torch.from_numpy(prepared["means"][chosen] + prepared["stds"][chosen, None] * noise)


@functools.cache
def learned(components: int = 3, rounds: int = 60) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(weights, means, variances) of data, in unit variance."""
    data = training_data()
    weights, variances = torch.full((components,), 1 / components).double(), torch.ones(components).double()
    means = [data[0]]  # each start as far as can be from those before
    for _ in range(components - 1):
        means.append(data[torch.cdist(data, torch.stack(means)).amin(1).argmax()])
    means = torch.stack(means)
    for _ in range(rounds):
        owned = posterior(data, weights, means, variances)
        weights = owned.mean(0)
        means = owned.T @ data / owned.sum(0)[:, None]
        square = torch.cdist(data, means).square()
        variances = (owned * square).sum(0) / (data.shape[1] * owned.sum(0))
    return weights, means, variances


def posterior(x: torch.Tensor, weights: torch.Tensor, means: torch.Tensor, variances: torch.Tensor) -> torch.Tensor:
    """Which component each point is of."""
    square = torch.cdist(x, means).square()
    return (weights.log() - square / (2 * variances) - x.shape[1] / 2 * variances.log()).softmax(1)


def velocity(x: torch.Tensor, t: float) -> torch.Tensor:
    """dx/dt = cos(t) E[z | x] - sin(t) E[x0 | x] of the mixture that was learned."""
    weights, means, variances = learned()
    c, s = math.cos(t), math.sin(t)
    spread = c**2 * variances + s**2
    owned = posterior(x, weights, c * means, spread)
    gain = c * variances / spread
    x0 = (owned[..., None] * (means + gain[:, None] * (x[:, None] - c * means))).sum(1)
    return (c * x - x0) / s  # z = (x - c x0) / s


def sample(noise: torch.Tensor, times: torch.Tensor, labels: torch.Tensor | None) -> torch.Tensor:
    """Samples in the units of the data: from each of `times` down the ODE to 0, re-noised in between."""
    x0 = torch.zeros_like(noise[0]).double()
    for z, time in zip(noise, times.tolist(), strict=True):
        x = math.cos(time) * x0 + math.sin(time) * z
        grid = [math.atan(math.tan(time) * (1 - i / STEPS) ** 4) for i in range(STEPS)]  # finer where data are near
        for t, u in zip(grid, [*grid[1:], 0.0], strict=True):
            here = velocity(x, t)
            there = x + (u - t) * here
            x = x + (u - t) * (here if u == 0 else (here + velocity(there, u)) / 2)
        x0 = x
    return SIGMA_D * x0.to(noise.dtype)
