"""How far weighting directions by their own length moves the mean that should be zero at the exact map.

The derivative df/dt of the exact map to data along a pair (x0, z) is affine in the pair's velocity, and its mean over
pairs that meet at x is zero. So is that of MeanFlow's direction, (cos t + sin t)^2 df/dt, and of sCM's, cos t df/dt.
Weighted by a power of its own length (or normalised) it need not be.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from trigbench.core import oracle
from trigbench.core.forward_mode import value_and_tangent
from trigbench.core.oracle import Points
from trigbench.core.tangents import Control
from trigbench.core.trigflow import Times

Components = Float[Tensor, "batch components"]
Centres = Float[Tensor, "batch components dimension"]
Draws = Float[Tensor, "batch draws dimension"]
Weights = Float[Tensor, "batch draws"]


def affine_derivative(
    mixture: oracle.Mixture, x: Points, t: Times, steps: int = 48
) -> tuple[Points, Float[Tensor, "batch dimension dimension"]]:
    """(base, matrix): df/dt of a pair of velocity v is base + matrix v, by derivatives of the exact map."""
    count, dimension = x.shape
    ways = torch.eye(dimension + 1, dtype=x.dtype).repeat(count, 1)  # along each axis, and along t, in one evaluation
    many = x.repeat_interleave(dimension + 1, 0), t.repeat_interleave(dimension + 1)

    def exact(x: Points, t: Times) -> Points:
        return oracle.consistency_map(mixture, x, t, steps)

    found = value_and_tangent(exact, many, (ways[:, :-1], ways[:, -1]), "func")[1].reshape(
        count, dimension + 1, dimension
    )
    return found[:, -1], found[:, :-1].mT


def posterior_of_data(mixture: oracle.Mixture, x: Points, t: Times) -> tuple[Components, Centres, Components]:
    """(weights, means, stds) of the mixture that x0 has, given x at t in (0, pi/2]."""
    c, s = (part[:, None] for part in (torch.cos(t), torch.sin(t)))
    variance = 1 / (1 / mixture.stds.square() + (c / s).square())
    pulled = mixture.means / mixture.stds.square()[:, None] + (c / s.square())[:, :, None] * x[:, None]
    return oracle.posterior(mixture, x, t), variance[:, :, None] * pulled, variance.sqrt()


def quadrature(mixture: oracle.Mixture, x: Points, t: Times, nodes: int = 8001) -> tuple[Draws, Weights]:
    """x0 given x in one dimension, and weights that sum to 1: nodes even over 9 standard deviations of each component.

    The trapezoidal rule, which errs for smooth functions by less than any power of the spacing. A direction's length to
    the power of 2 p is smooth only where it is longer than sqrt(c), so nodes are many. Raises ValueError for more
    dimensions than one.
    """
    if x.shape[1] != 1:
        raise ValueError(f"quadrature is of one dimension, got points in {x.shape[1]}")
    weights, means, stds = posterior_of_data(mixture, x, t)
    at = torch.linspace(-9, 9, nodes, dtype=x.dtype)
    shares = (-at.square() / 2).exp()
    x0 = means + stds[:, :, None] * at  # (batch, components, nodes)
    return x0.reshape(len(x), -1, 1), (weights[:, :, None] * shares / shares.sum()).reshape(len(x), -1)


def velocities(x: Points, t: Times, x0: Draws) -> Draws:
    """Of pairs of these data that meet at x."""
    c, s = (part[:, None, None] for part in (torch.cos(t), torch.sin(t)))
    return (c * x[:, None] - x0) / s  # cos(t) z - sin(t) x0 with z = (x - cos(t) x0) / sin(t)


def bias(g: Draws, weights: Weights, control: Control | None) -> Float[Tensor, " batch"]:
    """Length of the mean controlled direction over its root mean square: 0 where the exact map is at rest.

    The mean of 1 / bias^2 pairs has as much noise as bias.
    """
    kept = g if control is None else control(g.flatten(0, 1)).reshape(g.shape)
    mean = (weights[:, :, None] * kept).sum(1)
    return mean.norm(dim=1) / (weights * kept.square().sum(2)).sum(1).sqrt().clamp(min=math.ulp(0.0))
