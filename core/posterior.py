"""Data given a linear observation, where that is known exactly: of isotropic mixtures, and of any Gaussian.

In unit variance, with the observations of core.operators: orthonormal rows, without noise. Beside it the law of CM's
zero-shot edits of a Gaussian, in closed form, by its exact map.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from trigbench.core.operators import Observation, Operator, bases, fill
from trigbench.core.oracle import Mixture, Points
from trigbench.core.trigflow import check_angles, cos_sin

Covariance = Float[Tensor, "size size"]
Law = tuple[Float[Tensor, " size"], Covariance]
"""Mean and covariance."""


@dataclass(frozen=True)
class Posterior:
    """For each observation sum_k weights_k N(means_k, stds_k^2 null^T null): a mixture in the null space alone."""

    weights: Float[Tensor, "batch components"]
    means: Float[Tensor, "batch components size"]
    stds: Float[Tensor, " components"]
    null: Float[Tensor, "unobserved size"]
    """Orthonormal rows that span what is not seen."""


def given(mixture: Mixture, operator: Operator, observation: Observation) -> Posterior:
    """The mixture given each observation.

    A component is isotropic, so that what is seen tells which one it is, and of what is not seen nothing else. Raises
    ValueError unless the operator's points are vectors of the mixture's dimension, and every std is positive.
    """
    size = mixture.means.shape[1]
    if operator.shape != (size,) or not bool((mixture.stds > 0).all()):
        problem = f"need an operator on ({size},) and positive stds, got {operator.shape} and {mixture.stds.tolist()}"
        raise ValueError(problem)
    seen, null = (rows.to(mixture.means) for rows in bases(operator))
    observation = observation.to(mixture.means)
    away = (observation[:, None, :] - mixture.means @ seen.T).square().sum(-1)
    log_weights = mixture.weights.log() - away / (2 * mixture.stds.square()) - operator.observed * mixture.stds.log()
    means = fill(operator, observation)[:, None, :] + mixture.means @ null.T @ null
    return Posterior(log_weights.softmax(1), means, mixture.stds, null)


def sample_given(
    posterior: Posterior, uniform: Float[Tensor, " batch"], noise: Float[Tensor, "batch unobserved"]
) -> Points:
    """A draw for each observation: uniform draws in (0, 1) choose the component, the noise is standard normal."""
    last = posterior.weights.shape[1] - 1
    component = torch.searchsorted(posterior.weights.cumsum(1), uniform[:, None]).clamp(max=last)
    means = posterior.means.take_along_dim(component[:, :, None], 1)[:, 0]
    return means + posterior.stds[component] * (noise @ posterior.null)


def gaussian_map(covariance: Covariance, x: Points, t: Float[Tensor, " batch"]) -> Points:
    """The exact consistency map of data N(0, covariance): in each principal direction as of a Gaussian there."""
    variances, directions = torch.linalg.eigh(covariance)
    c, s = cos_sin(t, x)
    return (x @ directions) * (variances / (c.square() * variances + s.square())).sqrt() @ directions.T


def gaussian_given(covariance: Covariance, operator: Operator, observation: Float[Tensor, " observed"]) -> Law:
    """Data N(0, covariance) given one observation."""
    seen, _ = (rows.to(covariance) for rows in bases(operator))
    gain = covariance @ seen.T @ torch.linalg.inv(seen @ covariance @ seen.T)
    return gain @ observation, covariance - gain @ seen @ covariance


def gaussian_edits(
    covariance: Covariance, operator: Operator, observation: Float[Tensor, " observed"], times: Sequence[float]
) -> Law:
    """What CM's Alg. 4 (core.samplers.editing.edit) makes of one observation with the exact map of N(0, covariance).

    Every step is linear in a Gaussian, so its law is known: it tends to `gaussian_given` in many steps, and in few it
    is another one. Raises ValueError unless times are angles that descend in [0, pi/2].
    """
    check_angles(times, "descending")
    _, null = (rows.to(covariance) for rows in bases(operator))
    hidden, one = null.T @ null, torch.eye(len(covariance)).to(covariance)
    variances, directions = torch.linalg.eigh(covariance)
    start = fill(operator, observation.to(covariance)[None])[0]
    mean, spread = start, torch.zeros_like(covariance)
    for time in times:
        c, s = math.cos(time), math.sin(time)
        by = directions * (variances / (c**2 * variances + s**2)).sqrt() @ directions.T
        mean = start + hidden @ (by @ (c * mean))
        spread = hidden @ by @ (c**2 * spread + s**2 * one) @ by @ hidden
    return mean, spread
