"""How normalising sCT's noisy direction biases it, where the exact map is known.

At the exact map the posterior mean of sCT's direction is zero. Normalised per sample it is not:

normalisation_bias   length of the mean normalised direction over its root mean square, at fixed points
critical_batch       the batch at which the noise of the mean is as large as this bias; beyond it the
                     bias, not the noise, decides where training ends

both against the dimension (x). Directions are affine in the drawn velocity v: one Jacobian a point.
"""

import statistics

import torch
from torch import Tensor

from trigbench.core import oracle
from trigbench.core.constants import NORMALISER
from trigbench.core.tangent_bias import affine_derivative
from trigbench.core.tangents import normalise
from trigbench.core.trigflow import cos_sin, interpolate
from trigbench.workflow.data.randomness import generator
from trigbench.workflow.run.measurements.measured import Measured, Row
from trigbench.workflow.study.records import Value
from trigbench.workflow.study.study import Study

DIMENSIONS = (1, 2, 4, 8, 16, 32)
ANGLES = (0.4, 0.8, 1.2)
POINTS, DRAWS, STEPS = 8, 20_000, 48
"""Points an angle, posterior draws a point, and Runge-Kutta steps of the exact map."""


def measure(study: Study, experiment: str) -> Measured:
    """Means over angles and points, a mixture of its own for every dimension and seed."""
    rows = []
    for seed in study.seeds_of(experiment):
        for dimension in DIMENSIONS:
            bias, batch = _in_dimension(dimension, seed, NORMALISER / study.sigma_d)
            for metric, value in (("normalisation_bias", bias), ("critical_batch", batch)):
                rows.append(Row(Value(metric=metric, x=float(dimension), value=value), seed=seed, objective="sct"))
    return Measured(curves=rows)


def _in_dimension(dimension: int, seed: int, constant: float) -> tuple[float, float]:
    """(mean bias, median critical batch) over points at all angles."""
    g = generator(seed, "normalisation bias", dimension)
    mixture = drawn_mixture(dimension, g)
    t = torch.tensor(ANGLES, dtype=torch.float64).repeat_interleave(POINTS)
    x0 = oracle.sample(mixture, rand(g, len(t)), randn(g, len(t), dimension))
    x = interpolate(x0, randn(g, len(t), dimension), t)
    base, matrix = _affine_direction(mixture, x, t)
    biases, batches = [], []
    for i in range(len(t)):
        v = _posterior_velocities(mixture, x[i], t[i], g)
        normalised = normalise(base[i] + v @ matrix[i].T, constant)
        square = float(normalised.square().sum(1).mean())
        noise = square / DRAWS  # of the mean of DRAWS draws: the estimate's own share is taken off
        bias_square = max(float(normalised.mean(0).square().sum()) - noise, 0.0)
        biases.append((bias_square / square) ** 0.5)
        batches.append(square / max(bias_square, noise))
    return sum(biases) / len(biases), statistics.median(batches)


def _affine_direction(mixture: oracle.Mixture, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """g = cos(t) df/dt = base + matrix v at the exact map f, for r = 1."""
    base, matrix = affine_derivative(mixture, x, t, STEPS)
    c, _ = cos_sin(t, matrix)
    return c[:, 0] * base, c * matrix


def _posterior_velocities(mixture: oracle.Mixture, x: Tensor, t: Tensor, g: torch.Generator) -> Tensor:
    """Velocities of pairs (x0, z) drawn from the posterior given x at t."""
    c, s = torch.cos(t), torch.sin(t)
    weights = oracle.posterior(mixture, x[None], t[None])[0]
    component = torch.multinomial(weights, DRAWS, replacement=True, generator=g)
    variance = mixture.stds[component, None].square()
    precision = 1 / variance + (c / s) ** 2
    mean = (mixture.means[component] / variance + c * x / s**2) / precision
    x0 = mean + randn(g, DRAWS, len(x)) / precision.sqrt()
    return (c * x - x0) / s  # v = cos(t) z - sin(t) x0 with z = (x - cos(t) x0) / sin(t)


def drawn_mixture(dimension: int, g: torch.Generator) -> oracle.Mixture:
    """Three components of random weights and centres, of unit variance together."""
    weights = 1 + rand(g, 3)
    stds = torch.full((3,), 0.4, dtype=torch.float64)
    return oracle.standardised(oracle.Mixture(weights / weights.sum(), randn(g, 3, dimension), stds))


def rand(g: torch.Generator, *shape: int) -> Tensor:
    """Uniforms in float64."""
    return torch.rand(*shape, generator=g, dtype=torch.float64)


def randn(g: torch.Generator, *shape: int) -> Tensor:
    """Standard normal numbers in float64."""
    return torch.randn(*shape, generator=g, dtype=torch.float64)
