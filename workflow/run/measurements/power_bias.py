"""How weighting MeanFlow's directions by a power of their length biases them, where the exact map is known.

At the exact map the mean direction over pairs that meet at one point is zero. Of each control:

power_bias_<control>             length of the mean over its root mean square, mean over fixed points
power_critical_batch_<control>   the batch whose mean has as much noise as bias, by that mean

against the dimension (x). In one dimension by quadrature, in more of pairs that are drawn, less the estimate's noise.
"""

from functools import partial

import torch
from torch import Tensor

from trigbench.core import oracle
from trigbench.core.constants import NORMALISER
from trigbench.core.flow_maps import power
from trigbench.core.tangent_bias import affine_direction, bias, posterior_of_data, quadrature, velocities
from trigbench.core.tangents import Control, normalise
from trigbench.core.trigflow import interpolate
from trigbench.workflow.data.randomness import generator
from trigbench.workflow.run.measurements.measured import Measured, Row
from trigbench.workflow.study.records import Value
from trigbench.workflow.study.study import Study

DIMENSIONS = (1, 2, 4, 8, 16, 32)
ANGLES = (0.4, 0.8, 1.2)
POINTS, DRAWS = 8, 10_000
"""Points an angle, and pairs that are drawn at each where there is no quadrature."""


def measure(study: Study, experiment: str) -> Measured:
    """A mixture of its own for every dimension and seed."""
    controls = controls_of(study.sigma_d)
    rows = []
    for seed in study.seeds_of(experiment):
        for dimension in DIMENSIONS:
            for name, found in biases(dimension, seed, controls).items():
                for metric, value in (("bias", found), ("critical_batch", 1 / max(found, 1e-12) ** 2)):
                    about = Value(metric=f"power_{metric}_{name}", x=float(dimension), value=value)
                    rows.append(Row(about, seed=seed, objective="meanflow"))
    return Measured(curves=rows)


def controls_of(sigma_d: float) -> dict[str, Control | None]:
    """MeanFlow's powers with its c, and sCM's normalisation."""
    powers = {"half": 0.5, "one": 1.0}
    found: dict[str, Control | None] = {n: partial(power, exponent=p, constant=1e-3) for n, p in powers.items()}
    return {"none": None, **found, "normalised": partial(normalise, constant=NORMALISER / sigma_d)}


def biases(dimension: int, seed: int, controls: dict[str, Control | None]) -> dict[str, float]:
    """By control, the root mean square over points at all angles."""
    g = generator(seed, "power bias", dimension)
    mixture = _mixture(dimension, g)
    t = torch.tensor(ANGLES, dtype=torch.float64).repeat_interleave(POINTS)
    x0 = oracle.sample(mixture, _rand(g, len(t)), _randn(g, len(t), dimension))
    x = interpolate(x0, _randn(g, len(t), dimension), t)
    base, matrix = affine_direction(mixture, x, t)
    squares = dict.fromkeys(controls, 0.0)
    for i in range(len(t)):
        point, angle = x[i : i + 1], t[i : i + 1]
        pairs, weights = quadrature(mixture, point, angle) if dimension == 1 else _drawn(mixture, point, angle, g)
        directions = base[i] + velocities(point, angle, pairs) @ matrix[i].T
        noise = 0.0 if dimension == 1 else 1 / DRAWS
        for name, control in controls.items():
            squares[name] += max(float(bias(directions, weights, control)) ** 2 - noise, 0.0) / len(t)
    return {name: square**0.5 for name, square in squares.items()}


def _drawn(mixture: oracle.Mixture, x: Tensor, t: Tensor, g: torch.Generator) -> tuple[Tensor, Tensor]:
    weights, means, stds = posterior_of_data(mixture, x, t)
    component = torch.multinomial(weights[0], DRAWS, replacement=True, generator=g)
    x0 = means[0, component] + stds[0, component, None] * _randn(g, DRAWS, x.shape[1])
    return x0[None], torch.full((1, DRAWS), 1 / DRAWS, dtype=x.dtype)


def _mixture(dimension: int, g: torch.Generator) -> oracle.Mixture:
    weights = 1 + _rand(g, 3)
    stds = torch.full((3,), 0.4, dtype=torch.float64)
    return oracle.standardised(oracle.Mixture(weights / weights.sum(), _randn(g, 3, dimension), stds))


def _rand(g: torch.Generator, *shape: int) -> Tensor:
    return torch.rand(*shape, generator=g, dtype=torch.float64)


def _randn(g: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=g, dtype=torch.float64)
