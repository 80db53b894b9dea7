"""alpha-Flow: from flow matching along trajectories to MeanFlow, by how far the first of two maps goes."""

import math
from dataclasses import dataclass, field

import torch

from trigbench.core.fields import Draws, Fields
from trigbench.core.flow_maps import (
    DirectionControl,
    control_of,
    eulerian_direction,
    flow_factor,
    of_average_velocity,
    semigroup_direction,
    weight_of_pair,
)
from trigbench.core.objectives.meanflow import MeanFlowSettings
from trigbench.core.objectives.regression import Regression, regress
from trigbench.core.tangents import Control
from trigbench.core.trigflow import Batch, Times, interpolate, velocity
from trigbench.core.two_angles import angle_of_flow_time, two_angles

STEEPNESS, NEAR = 25.0, 0.005
"""Of the fall of alpha, and within which of 0 and 1 it is one of these."""


@dataclass(frozen=True)
class AlphaFlowSettings:
    """Of `alphaflow`."""

    stage: int = 0
    """Of `stages`, that of this step, from 0."""
    stages: int | None = None
    """In which alpha falls from 1 to 0; None has it stay."""
    alpha: float = 1 / 32
    """Where it stays."""
    map: MeanFlowSettings = field(default_factory=MeanFlowSettings)
    """What MeanFlow is told."""


def alphaflow(fields: Fields, x0: Batch, draws: Draws, settings: AlphaFlowSettings) -> Regression:
    """alpha-Flow: the average velocity by the pair's over a share of the way, and by itself over the rest.

    u onto alpha v + (1 - alpha) u(x' - (tau - s) v, s, rho), v the pair's, s = tau - alpha (tau - rho) (arXiv
    2510.20771). The step to s is straight in x', which is rotate by v. alpha 1 is flow matching whatever the end, alpha
    0 MeanFlow. Half the samples have u = t; the others count alpha times as much, and the loss is a mean square over
    itself without gradient, plus 1e-3.

    Where we differ: alpha falls in `stages`, and stays at 1 / 32 where an arm has none; targets are not clipped; no
    guidance. Raises ValueError as `meanflow`.
    """
    if fields.student_to is None:
        raise ValueError("alphaflow needs fields.student_to")
    told = settings.map
    alpha = settings.alpha if settings.stages is None else annealed(settings.stage / settings.stages)
    t, u = two_angles(draws, told.angles, law="lognormal", same=0.5)
    x, v = interpolate(x0, draws.noise, t), velocity(x0, draws.noise, t)
    if alpha == 0:
        direction = eulerian_direction(fields.student_to(u), x, t, u, v, flow_factor(t, u), told.derivative)
    else:
        direction = semigroup_direction(fields.student_to, x, t, part_way(t, u, alpha), u, v)
    share = torch.where(u < t, alpha or 1.0, 1.0).reshape(-1, *[1] * (x.ndim - 1)).to(x.dtype)
    control = over_share(told.direction, share, 1e-3 * x0[0].numel())
    return regress(of_average_velocity(direction, t), t, weight_of_pair(fields, u), told.log_weight_max, control)


def over_share(told: DirectionControl, share: Batch, constant: float) -> Control:
    """The control of a direction which is `share` (of the way, alpha) times one of MeanFlow's length, above 0.

    Of loss |g|^2 / share, and with the power control |g|^2 share^(2p - 1) / sg((|g|^2 + c)^p), c of g as it is: with
    p = 1 as published. Other controls are of g / share, which does not vanish with the share.
    """
    control = control_of(told, control="power", constant=constant)
    if told.direction_control in (None, "power") and control is not None:
        exponent = 1.0 if told.direction_power is None else told.direction_power
        return lambda g: share ** (2 * exponent - 1) * control(g)
    return lambda g: g / share if control is None else control(g / share)


def part_way(t: Times, u: Times, alpha: float) -> Times:
    """The angle of tau - alpha (tau - rho): t itself where u is, and u where alpha is 1."""
    if alpha == 1:
        return u
    tau, rho = (a.sin() / (a.sin() + a.cos()) for a in (t, u))
    return torch.where(u == t, t, angle_of_flow_time(tau - alpha * (tau - rho)))


def annealed(progress: float) -> float:
    """alpha at this share of training: 1 / (1 + e^(25 (progress - 1/2))), and 0 or 1 where it is within 0.005 of them.

    >>> annealed(0.0), annealed(0.5), annealed(0.75)
    (1.0, 0.5, 0.0)
    """
    alpha = 1 / (1 + math.exp(STEEPNESS * (progress - 0.5)))
    return 0.0 if alpha < NEAR else 1.0 if alpha > 1 - NEAR else alpha
