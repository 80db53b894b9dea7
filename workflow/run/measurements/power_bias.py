"""How weighting directions by a power of their length biases them, where the exact map is known.

At the exact map the mean direction over pairs that meet at one point is zero. Of each control:

power_bias_<control>             length of the mean over its root mean square: root mean square over points
power_critical_batch_<control>   the batch whose mean has as much noise as bias, by that number; left out where the
                                 bias is within the noise of its estimate, as of no weight, whose batch has no end

against the dimension (x). In one dimension by quadrature, of one mixture whose modes stand apart, at points that are no
seed's: the number is exact, and further seeds would add nothing. In more dimensions of pairs that are drawn, less the
noise of such an estimate, with a mixture and points of its own for every seed. Powers are of MeanFlow's direction,
(cos t + sin t)^2 df/dt, and the normalisation is sCM's, of cos t df/dt, to which its constant belongs.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from trigbench.core import oracle
from trigbench.core.constants import NORMALISER
from trigbench.core.flow_maps import power
from trigbench.core.tangent_bias import affine_derivative, bias, posterior_of_data, quadrature, velocities
from trigbench.core.tangents import Control, normalise
from trigbench.core.trigflow import interpolate
from trigbench.workflow.data.randomness import generator
from trigbench.workflow.run.measurements.measured import Measured, Row
from trigbench.workflow.run.measurements.normalisation_bias import ANGLES, DIMENSIONS, drawn_mixture, rand, randn
from trigbench.workflow.study.records import Value
from trigbench.workflow.study.study import Study

POINTS, DRAWS = 8, 10_000
"""Points an angle, and pairs that are drawn at each where there is no quadrature."""
SURE = 3.0
"""Standard errors of the squared bias, above which there is one."""
SOLVED = 1e-10
"""Squared bias that the exact map's solver leaves by quadrature, and much more."""


@dataclass(frozen=True)
class ControlBias:
    """Of one control, as means over points."""

    square: float
    """Of the bias, less the noise of its estimate: below 0 where that is large."""
    least: float
    """Below which it is within noise."""

    def values(self) -> dict[str, float]:
        """The numbers that are measured, by the middle of their names."""
        found = {"bias": math.sqrt(max(self.square, 0.0))}
        return found | ({"critical_batch": 1 / self.square} if self.square > self.least else {})


@dataclass(frozen=True)
class Way:
    """A direction, as a factor of df/dt by the angle, and what is done to it."""

    factor: Callable[[Tensor], Tensor]
    control: Control | None


def measure(study: Study, experiment: str) -> Measured:
    """In one dimension of no seed, in more of each of the experiment's."""
    rows, ways = [], ways_of(study.sigma_d)
    for dimension in DIMENSIONS:
        for seed in (None,) if dimension == 1 else study.seeds_of(experiment):
            for name, found in biases(dimension, seed, ways).items():
                for metric, value in found.values().items():
                    about = Value(metric=f"power_{metric}_{name}", x=float(dimension), value=value)
                    rows.append(Row(about, seed=seed, objective="meanflow"))
    return Measured(curves=rows)


def ways_of(sigma_d: float) -> dict[str, Way]:
    """MeanFlow's powers with its c, and sCM's normalisation."""

    def meanflow(t: Tensor) -> Tensor:
        return (t.cos() + t.sin()).square()

    powers = {"half": 0.5, "one": 1.0}
    found = {name: Way(meanflow, partial(power, exponent=p, constant=1e-3)) for name, p in powers.items()}
    normalised = Way(torch.cos, partial(normalise, constant=NORMALISER / sigma_d))
    return {"none": Way(meanflow, None), **found, "normalised": normalised}


def biases(dimension: int, seed: int | None, ways: dict[str, Way]) -> dict[str, ControlBias]:
    """By control, over points at all angles.

    The noise of N pairs adds 1/N to a point's squared bias on average, and deviates by sqrt(2)/N at most.
    """
    g = generator(*(() if seed is None else (seed,)), "power bias", dimension)
    mixture = apart() if dimension == 1 else drawn_mixture(dimension, g)
    t = torch.tensor(ANGLES, dtype=torch.float64).repeat_interleave(POINTS)
    x0 = oracle.sample(mixture, rand(g, len(t)), randn(g, len(t), dimension))
    x = interpolate(x0, randn(g, len(t), dimension), t)
    base, matrix = affine_derivative(mixture, x, t)
    noise = 0.0 if dimension == 1 else 1 / DRAWS
    squares = dict.fromkeys(ways, 0.0)
    for i in range(len(t)):
        point, angle = x[i : i + 1], t[i : i + 1]
        pairs, weights = quadrature(mixture, point, angle) if dimension == 1 else _drawn(mixture, point, angle, g)
        slopes = base[i] + velocities(point, angle, pairs) @ matrix[i].T
        for name, way in ways.items():
            found = float(bias(way.factor(angle) * slopes, weights, way.control))
            squares[name] += (found**2 - noise) / len(t)  # clipped as a mean: each point's is as often below as above
    least = SURE * math.sqrt(2 / len(t)) * noise if noise else SOLVED
    return {name: ControlBias(square, least) for name, square in squares.items()}


def apart() -> oracle.Mixture:
    """In one dimension, with modes apart: near a single Gaussian no control has a bias."""
    weights, means = torch.tensor([[0.3, 0.45, 0.25], [-1.5, 0.2, 1.3]], dtype=torch.float64)
    return oracle.standardised(oracle.Mixture(weights, means[:, None], torch.full_like(means, 0.3)))


def _drawn(mixture: oracle.Mixture, x: Tensor, t: Tensor, g: torch.Generator) -> tuple[Tensor, Tensor]:
    weights, means, stds = posterior_of_data(mixture, x, t)
    component = torch.multinomial(weights[0], DRAWS, replacement=True, generator=g)
    x0 = means[0, component] + stds[0, component, None] * randn(g, DRAWS, x.shape[1])
    return x0[None], torch.full((1, DRAWS), 1 / DRAWS, dtype=x.dtype)
