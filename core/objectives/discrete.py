"""Discrete-time counterparts on any time grid: dsCD (arXiv 2410.11081, App. E) and its sCT twin."""

from dataclasses import dataclass

import torch
from torch import Tensor

from trigbench.core.fields import Draws, Fields
from trigbench.core.objectives.regression import NORMALISED, Regression, regress
from trigbench.core.samplers import Step
from trigbench.core.tangents import Control, Direction, Number
from trigbench.core.trigflow import (
    Batch,
    Field,
    ProposalGrid,
    Times,
    cos_sin,
    draw_interval,
    interpolate,
    rotate,
    velocity,
)


@dataclass(frozen=True)
class DiscreteSettings:
    """Of `dscd` and `dsct`, in unit variance; as in core.objectives.regression.Settings."""

    grid: ProposalGrid
    """Holds the proposal already split over its intervals."""
    solver: Step | None = None
    """The teacher's step in dsCD; None is the paper's DDIM, whose velocity needs no (rounded) difference."""
    warmup: Number = 1.0
    """r of this step, from 0 to 1 (core.schedules.tangent_warmup)."""
    control: Control = NORMALISED
    """What is done to the direction g in unit variance; the paper's is g / (|g| + 0.1 / sigma_d)."""
    log_weight_max: float | None = None
    """Upper bound of w(t); None leaves it free, as the paper does."""


def chord_velocity(x: Batch, x_u: Batch, t: Times, u: Times) -> Batch:
    """The v whose rotation carries x at t to x_u at u: (cos(t-u) x - x_u) / sin(t-u)."""
    c, s = cos_sin(t - u, x)
    return (c * x - x_u) / s


def discrete_direction(field: Field, x: Batch, t: Times, u: Times, v: Batch, r: Number = 1.0) -> Direction:
    """g = cos(t) (f-(x_t, t) - f-(x_u, u)) / sin(t - u), x_u = rotate(x, v, t, u), for u < t.

    Computed as Eq. 37, which subtracts outputs of the network before it divides by sin(t - u):
    -cos(u) (F_t - v) - r sin(u) (x + (cos(t-u) F_t - F_u) / sin(t-u)). First-order close to
    core.tangents.segment_direction as u -> t.
    """
    with torch.no_grad():
        F_u = field(rotate(x, v, t, u), u)
        # sin(u) removes it at u = 0, where a network that is told ln(sigma) has no value
        F_u = torch.where((u > 0).reshape(-1, *[1] * (x.ndim - 1)), F_u, 0)
    F_t = field(x, t)
    c, _ = cos_sin(t, x)
    c_u, s_u = cos_sin(u, x)
    c_step, s_step = cos_sin(t - u, x)
    with torch.no_grad():
        quotient = -c_u * (F_t - v) - r * s_u * (x + (c_step * F_t - F_u) / s_step)
        return Direction(F_t, c * quotient)


def dscd(fields: Fields, x0: Batch, draws: Draws, settings: DiscreteSettings) -> Regression:
    """dsCD: the lower end of each interval is one solver step of the teacher away (Alg. 2).

    Raises ValueError without a teacher.
    """
    if fields.teacher is None:
        raise ValueError("dscd needs fields.teacher")
    t, u = draw_interval(settings.grid, draws.uniform)
    x = interpolate(x0, draws.noise, t)
    with torch.no_grad():
        if settings.solver is None:
            v = fields.teacher(x, t)
        else:
            v = chord_velocity(x, settings.solver(fields.teacher, x, t, u), t, u)
    return _regress_chord(fields, x, t, u, v, settings)


def dsct(fields: Fields, x0: Batch, draws: Draws, settings: DiscreteSettings) -> Regression:
    """Discrete sCT: both ends of the interval lie on the drawn pair (x0, z)."""
    t, u = draw_interval(settings.grid, draws.uniform)
    x = interpolate(x0, draws.noise, t)
    return _regress_chord(fields, x, t, u, velocity(x0, draws.noise, t), settings)


def _regress_chord(fields: Fields, x: Batch, t: Tensor, u: Tensor, v: Batch, settings: DiscreteSettings) -> Regression:
    direction = discrete_direction(fields.student, x, t, u, v, settings.warmup)
    return regress(direction, t, fields.log_weight, settings.log_weight_max, settings.control)
