"""The objectives before sCM, as directions: CD and CT (arXiv 2303.01469), iCT (2310.14189), ECT (2406.14548).

Each compares the map at a point with the map at a lower noise level of the same path. The published
losses are written in EDM's points; sigma_d and the angle are all that changes here, and the gradient
is that of the published loss (in data units, so CD's and CT's is sigma_d^2 times ours). CM's boundary
at sigma_min is the field's business (core.conversions.field_with_boundary).
"""

import math
from dataclasses import dataclass

import torch

from trigbench.core.constants import PROPOSAL_MEAN, PROPOSAL_STD, SIGMA_D
from trigbench.core.fields import Draws, Fields
from trigbench.core.objectives.regression import Regression, regress
from trigbench.core.samplers import Step
from trigbench.core.samplers.ode import heun_step
from trigbench.core.schedules import ect_lower_level
from trigbench.core.tangents import Direction
from trigbench.core.trigflow import (
    Batch,
    ProposalGrid,
    Times,
    consistency_map,
    cos_sin,
    draw_interval,
    interpolate,
    lognormal_angle,
    rotate,
)

PSEUDO_HUBER = 0.00054
"""iCT's c over sqrt(D), in data units."""


@dataclass(frozen=True)
class CDSettings:
    """Of `cd`."""

    grid: ProposalGrid
    """The intervals of this step, drawn from as it says."""
    solver: Step | None = None
    """The teacher's step; None is CM's own, Heun's."""


@dataclass(frozen=True)
class CTSettings:
    """Of `ct`."""

    grid: ProposalGrid
    """The intervals of this step, drawn from as it says."""


@dataclass(frozen=True)
class ICTSettings:
    """Of `ict`."""

    grid: ProposalGrid
    """The intervals of this step, drawn from as it says."""
    sigma_d: float = SIGMA_D
    """Standard deviation of the data in data units, above 0."""


@dataclass(frozen=True)
class ECTSettings:
    """Of `ect`."""

    sigma_d: float = SIGMA_D
    """Standard deviation of the data in data units, above 0."""
    proposal_mean: float = PROPOSAL_MEAN
    """P_mean: the mean of ln sigma of the drawn t."""
    proposal_std: float = PROPOSAL_STD
    """P_std: its standard deviation, greater than 0."""
    stage: int = 0
    """How often the gap between its two noise levels was halved."""


def cd(fields: Fields, x0: Batch, draws: Draws, settings: CDSettings) -> Regression:
    """Consistency distillation: the lower point is one solver step of the teacher away, Heun's unless told.

    Squared distance, lambda = 1. Raises ValueError without a teacher.
    """
    if fields.teacher is None:
        raise ValueError("cd needs fields.teacher")
    t, u = draw_interval(settings.grid, draws.uniform)
    x = interpolate(x0, draws.noise, t)
    with torch.no_grad():
        x_u = (settings.solver or heun_step)(fields.teacher, x, t, u)
    return _compare(fields, x, t, x_u, u, torch.ones_like(t))


def ct(fields: Fields, x0: Batch, draws: Draws, settings: CTSettings) -> Regression:
    """Consistency training: both points lie on the drawn pair (x0, z)."""
    t, u = draw_interval(settings.grid, draws.uniform)
    return _compare_pair(fields, x0, draws.noise, t, u, torch.ones_like(t))


def ict(fields: Fields, x0: Batch, draws: Draws, settings: ICTSettings) -> Regression:
    """Improved consistency training: Pseudo-Huber over the whole vector, weight 1 / (sigma_t - sigma_u)."""
    t, u = draw_interval(settings.grid, draws.uniform)
    huber = PSEUDO_HUBER * math.sqrt(x0[0].numel()) / settings.sigma_d
    return _compare_pair(fields, x0, draws.noise, t, u, 1 / (torch.tan(t) - torch.tan(u)), huber)


def ect(fields: Fields, x0: Batch, draws: Draws, settings: ECTSettings) -> Regression:
    """Easy consistency tuning: continuous t, lower level by its stage, the plain norm over sigma_t - sigma_u."""
    t = lognormal_angle(draws.uniform, settings.proposal_mean, settings.proposal_std, settings.sigma_d)
    lower = ect_lower_level(settings.sigma_d * torch.tan(t), settings.stage)
    u = torch.atan(lower / settings.sigma_d)
    return _compare_pair(fields, x0, draws.noise, t, u, 1 / (torch.tan(t) - torch.tan(u)), huber=0.0)


def _compare_pair(
    fields: Fields, x0: Batch, z: Batch, t: Times, u: Times, weight: Times, huber: float | None = None
) -> Regression:
    return _compare(fields, interpolate(x0, z, t), t, interpolate(x0, z, u), u, weight, huber)


def _compare(
    fields: Fields, x: Batch, t: Times, x_u: Batch, u: Times, weight: Times, huber: float | None = None
) -> Regression:
    """weight times d(f(x, t), f-(x_u, u)): d the mean square, or sqrt(||.||^2 + huber^2) where huber is given.

    Since f = cos(t) x - sin(t) F, the gradient in F of d is -sin(t) times that in f; regress' own is -2 g / D.
    """
    F = fields.student(x, t)
    with torch.no_grad():
        target = consistency_map(fields.target or fields.student, x_u, u)
        # at u = 0 the map is the identity for every network, also for one that has no value there
        target = torch.where((u > 0).reshape(-1, *[1] * (x.ndim - 1)), target, x_u)
        gap = rotate(x, F, t, torch.zeros_like(t)) - target
        _, s = cos_sin(t, x)
        slope = weight.to(x.dtype)
        if huber is not None:
            length = (gap.flatten(1).square().sum(1) + huber**2).sqrt()
            slope = slope * gap[0].numel() / (2 * length.clamp(min=1e-12))
        g = slope.reshape(s.shape) * s * gap
    return regress(Direction(F, g), t)
