"""MeanFlow and its successor, iMF: maps of two times trained on data alone, by the derivative along the flow.

Their networks give the average velocity u = (c + S) F - (c - S) x between two times tau = S / (c + S) of
x' = (1 - tau) x0 + tau z, c and S of the angle; losses are in u's units, as published.
"""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from trigbench.core.fields import Draws, Fields
from trigbench.core.flow_maps import (
    DirectionControl,
    control_of,
    eulerian_direction,
    flow_factor,
    of_average_velocity,
    weight_of_pair,
)
from trigbench.core.objectives.regression import Regression, regress
from trigbench.core.tangents import Derivative, Direction, derivative_along
from trigbench.core.trigflow import interpolate, velocity
from trigbench.core.two_angles import TwoAngles, two_angles

Batch = Float[Tensor, "batch *shape"]


@dataclass(frozen=True)
class MeanFlowSettings:
    """Of `meanflow` and `imf`."""

    angles: TwoAngles = field(default_factory=TwoAngles)
    direction: DirectionControl = field(default_factory=DirectionControl)
    derivative: Derivative = derivative_along
    log_weight_max: float | None = None


def meanflow(fields: Fields, x0: Batch, draws: Draws, settings: MeanFlowSettings) -> Regression:
    """MeanFlow: the average velocity between two times, by its own derivative along the flow.

    u onto v - (tau - rho) du/dtau, v of the drawn pair (arXiv 2505.13447, Alg. 1): that less u is c + S times k df/dt,
    k = (c + S) / (c_u + S_u). Three samples of four have u = t, where it is flow matching; the loss is
    |error|^2 / sg(|error|^2 + 1e-3), the power control of p = 1.

    Where we differ: the law of times is the study's proposal; the network is told u and not t - u; no guidance in
    training. Raises ValueError without a student that is told its target time.
    """
    if fields.student_to is None:
        raise ValueError("meanflow needs fields.student_to")
    t, u = two_angles(draws, settings.angles, law="lognormal", same=0.75)
    x, v = interpolate(x0, draws.noise, t), velocity(x0, draws.noise, t)
    direction = eulerian_direction(fields.student_to(u), x, t, u, v, flow_factor(t, u), settings.derivative)
    return _regress(fields, direction, t, u, settings, constant=1e-3)


def imf(fields: Fields, x0: Batch, draws: Draws, settings: MeanFlowSettings) -> Regression:
    """Improved MeanFlow: a regression onto the velocity, with the derivative along the network's own.

    V = u + (tau - rho) sg(du/dtau) onto the pair's v (arXiv 2512.02012, Alg. 1), du/dtau along w = F(x, t; t), so that
    V is a function of x_t: F moves by k df/dt + v - w, df/dt along w alone. Half the samples have u = t; the power
    control has p = 1 and c = 0.01.

    Where we differ: w is the map's own at u = t and of no head beside; no guidance. Raises ValueError as `meanflow`.
    """
    if fields.student_to is None:
        raise ValueError("imf needs fields.student_to")
    t, u = two_angles(draws, settings.angles, law="lognormal", same=0.5)
    x, v = interpolate(x0, draws.noise, t), velocity(x0, draws.noise, t)
    with torch.no_grad():
        w = fields.student_to(t)(x, t)
    along_own = eulerian_direction(fields.student_to(u), x, t, u, w, flow_factor(t, u), settings.derivative)
    direction = Direction(along_own.F, along_own.g + v - w)
    return _regress(fields, direction, t, u, settings, constant=0.01)


def _regress(
    fields: Fields, direction: Direction, t: Tensor, u: Tensor, settings: MeanFlowSettings, constant: float
) -> Regression:
    control = control_of(settings.direction, control="power", constant=constant)
    of_u = of_average_velocity(direction, t)
    return regress(of_u, t, weight_of_pair(fields, u), settings.log_weight_max, control)
