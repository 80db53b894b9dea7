"""Align Your Flow: a flow map distilled from a teacher's velocity, by its derivative in the start or in the end.

Its F is the average velocity of x' = (1 - tau) x0 + tau z, and errors are in its units (core.flow_maps).
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from trigbench.core.fields import Draws, Fields
from trigbench.core.flow_maps import (
    DirectionControl,
    control_of,
    eulerian_direction,
    flow_factor,
    lagrangian_direction,
    of_average_velocity,
    weight_of_pair,
)
from trigbench.core.objectives.regression import Regression, regress
from trigbench.core.tangents import Derivative, Direction, Number, derivative_along
from trigbench.core.trigflow import Batch, interpolate
from trigbench.core.two_angles import TwoAngles, two_angles


@dataclass(frozen=True)
class LagrangianSettings:
    """Of `ayf_lagrangian`."""

    angles: TwoAngles = field(default_factory=TwoAngles)
    """How t and u <= t are drawn."""
    direction: DirectionControl = field(default_factory=DirectionControl)
    """What is done to the direction."""
    derivative: Derivative = derivative_along
    """Takes F and its derivative along the flow in one call."""
    log_weight_max: float | None = None
    """Upper bound of the adaptive log weight; None leaves it free."""


@dataclass(frozen=True)
class EulerianSettings:
    """Of `ayf`: the warm-up of the derivative, and what both are told."""

    warmup: Number = 1.0
    """r of this step."""
    warmup_most: float = 0.99
    """Where it ends."""
    map: LagrangianSettings = field(default_factory=LagrangianSettings)
    """What both of its forms are told."""


def ayf(fields: Fields, x0: Batch, draws: Draws, settings: EulerianSettings) -> Regression:
    """Align Your Flow, Eulerian: a teacher's flow map, by the map's derivative along the teacher's flow.

    F onto F - g / (|g| + 0.1), g = F - v + r (tau - rho) dF/dtau, v the teacher's (AYF-EMD, arXiv 2506.14603, Alg. 1).
    r rises to 0.99 and no further: at r < 1 the loss does not rest at the flow map, but at a mean of velocities that
    counts those near t more. In our units -g is c + S times r k df/dt + (1 - r) (v - F).

    The paper's teacher is guided by a weak one, which is a field like another here (core.guidance.guided). Where we
    differ: no adversarial finish. Raises ValueError without a teacher or a student that is told its target time.
    """
    if fields.teacher is None or fields.student_to is None:
        raise ValueError("ayf needs fields.teacher and fields.student_to")
    t, u = two_angles(draws, settings.map.angles, law="gap")
    x, r = interpolate(x0, draws.noise, t), _at_most(settings.warmup_most, settings.warmup)
    with torch.no_grad():
        v = fields.teacher(x, t)
    moved = eulerian_direction(fields.student_to(u), x, t, u, v, r * flow_factor(t, u), settings.map.derivative)
    direction = Direction(moved.F, moved.g + (1 - r) * (v - moved.F.detach()))
    return _regress(fields, of_average_velocity(direction, t), t, u, settings.map)


def ayf_lagrangian(fields: Fields, x0: Batch, draws: Draws, settings: LagrangianSettings) -> Regression:
    """Align Your Flow, Lagrangian: a teacher's flow map, by the teacher's velocity where the map ends.

    F onto F - g / (|g| + 0.1), g = df/drho - v(f, rho), f the map and v the teacher's (AYF-LMD, arXiv 2506.14603). In
    the flow's coordinates that g is c_u + S_u times R, and its F has the factor c + S. The map's start stands still.

    Where we differ: the published factor of |tau - rho| is 1. Raises ValueError as `ayf`.
    """
    if fields.teacher is None or fields.student_to is None:
        raise ValueError("ayf_lagrangian needs fields.teacher and fields.student_to")
    t, u = two_angles(draws, settings.angles, law="gap")
    x = interpolate(x0, draws.noise, t)
    ending = lagrangian_direction(fields.student_to, x, t, u, fields.teacher, settings.derivative)
    of_end = (1 / flow_factor(t, u)).reshape(-1, *[1] * (x.ndim - 1)).to(x.dtype)
    return _regress(fields, of_average_velocity(Direction(ending.F, of_end * ending.g), t), t, u, settings)


def _regress(fields: Fields, direction: Direction, t: Tensor, u: Tensor, settings: LagrangianSettings) -> Regression:
    control = control_of(settings.direction, control="normalise")
    return regress(direction, t, weight_of_pair(fields, u), settings.log_weight_max, control)


def _at_most(most: float, r: Number) -> Number:
    return r.clamp(max=most) if isinstance(r, Tensor) else min(r, most)
