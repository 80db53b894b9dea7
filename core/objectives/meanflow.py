"""MeanFlow and its successor, iMF: maps of two times trained on data alone, by the derivative along the flow.

Their networks give the average velocity u = (c + S) F - (c - S) x between two times tau = S / (c + S) of
x' = (1 - tau) x0 + tau z, c and S of the angle; losses are in u's units, as published.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from trigbench.core.fields import Draws, Fields, OwnGuidance
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
from trigbench.core.trigflow import Batch, Times, interpolate, velocity
from trigbench.core.two_angles import TwoAngles, two_angles


@dataclass(frozen=True)
class MeanFlowSettings:
    """What `meanflow` and `imf` are both told, guided or not."""

    angles: TwoAngles = field(default_factory=TwoAngles)
    """How t and u <= t are drawn."""
    direction: DirectionControl = field(default_factory=DirectionControl)
    """What is done to the direction."""
    derivative: Derivative = derivative_along
    """Takes F and its derivative along the flow in one call."""
    log_weight_max: float | None = None
    """Upper bound of the adaptive log weight; None leaves it free."""


@dataclass(frozen=True)
class GuidedInterval:
    """The flow times tau at which guidance is trained in; beyond them the map is not guided."""

    guided_from: float = 0.0
    """In flow time, from 0 (data) to 1 (noise)."""
    guided_to: float = 1.0
    """Where it ends, above `guided_from`."""


@dataclass(frozen=True)
class OneScale:
    """Of `meanflow`: guidance at one scale, omega / (1 - kappa); 1 and 0 are none."""

    omega: float = 1.0
    """Weight of the drawn pair's velocity."""
    kappa: float = 0.0
    """Weight of the student's own velocity, below 1."""
    interval: GuidedInterval = field(default_factory=GuidedInterval)
    """Where it is guided."""
    map: MeanFlowSettings = field(default_factory=MeanFlowSettings)
    """The rest, as without guidance."""


@dataclass(frozen=True)
class AnyScale:
    """Of `imf`: guidance at the scales that the student is told, if it is."""

    interval: GuidedInterval = field(default_factory=GuidedInterval)
    """Where it is guided."""
    map: MeanFlowSettings = field(default_factory=MeanFlowSettings)
    """The rest, as without guidance."""


def meanflow(fields: Fields, x0: Batch, draws: Draws, settings: OneScale) -> Regression:
    """MeanFlow: the average velocity between two times, by its own derivative along the flow.

    u onto v - (tau - rho) du/dtau, v of the drawn pair (arXiv 2505.13447, Alg. 1): that less u is c + S times k df/dt,
    k = (c + S) / (c_u + S_u). Three samples of four have u = t, where it is flow matching; the loss is
    |error|^2 / sg(|error|^2 + 1e-3), the power control of p = 1. Guided, the same holds of `guided_velocity` in both
    places of v: one evaluation of the map then samples at the scale omega / (1 - kappa).

    Where we differ: the law of times is the study's proposal; the network is told u and not t - u. Raises ValueError
    without a student that is told its target time, and guided without fields.own_guidance.
    """
    if fields.student_to is None:
        raise ValueError("meanflow needs fields.student_to")
    told, omega, kappa = settings.map, settings.omega, settings.kappa
    t, u = two_angles(draws, told.angles, law="lognormal", same=0.75)
    x, v = interpolate(x0, draws.noise, t), velocity(x0, draws.noise, t)
    if (omega, kappa) != (1.0, 0.0):
        with torch.no_grad():
            own = fields.student_to(t)(x, t) if kappa else v
            v = guided_velocity(fields.own_guidance, x, v, t, own, omega, t.new_full(t.shape, kappa), settings.interval)
    direction = eulerian_direction(fields.student_to(u), x, t, u, v, flow_factor(t, u), told.derivative)
    return _regress(fields, direction, t, u, told, constant=1e-3)


def imf(fields: Fields, x0: Batch, draws: Draws, settings: AnyScale) -> Regression:
    """Improved MeanFlow: a regression onto the velocity, with the derivative along the network's own.

    V = u + (tau - rho) sg(du/dtau) onto the pair's v (arXiv 2512.02012, Alg. 1), du/dtau along w = F(x, t; t), so that
    V is a function of x_t: F moves by k df/dt + v - w, df/dt along w alone. Half the samples have u = t; the power
    control has p = 1 and c = 0.01. Told a scale s, V is a regression onto v + (1 - 1 / s) (w - F_none), which is
    `guided_velocity` of omega = 1 and kappa = 1 - 1 / s.

    Guidance is off where fields.own_guidance is None or has no scale: a student that is told one must be given both,
    for what its maps are told cannot be seen here.

    Where we differ: w is the map's own at u = t and of no head beside; the interval of guidance is the arm's, and not
    told. Raises ValueError without a student that is told its target time.
    """
    if fields.student_to is None:
        raise ValueError("imf needs fields.student_to")
    told, own = settings.map, fields.own_guidance
    t, u = two_angles(draws, told.angles, law="lognormal", same=0.5)
    x, v = interpolate(x0, draws.noise, t), velocity(x0, draws.noise, t)
    with torch.no_grad():
        w = fields.student_to(t)(x, t)
        if own is not None and own.scale is not None:
            v = guided_velocity(own, x, v, t, w, 1.0, 1 - 1 / own.scale, settings.interval)
    along_own = eulerian_direction(fields.student_to(u), x, t, u, w, flow_factor(t, u), told.derivative)
    direction = Direction(along_own.F, along_own.g + v - w)
    return _regress(fields, direction, t, u, told, constant=0.01)


@torch.no_grad()
def guided_velocity(
    guidance: OwnGuidance | None,
    x: Batch,
    v: Batch,
    t: Times,
    own: Batch,
    omega: float,
    kappa: Times,
    interval: GuidedInterval,
) -> Batch:
    """omega v + kappa F + (1 - omega - kappa) F_none inside the interval and where there is a label, else v.

    `own` is F, the student's field at u = t, and F_none the same without a label (arXiv 2505.13447, Eq. 21). Learned, F
    is this itself, F_none + omega / (1 - kappa) (v - F_none). The coefficients' sum is 1, so that velocities in angles
    are mixed as those of the flow are. Raises ValueError without `guidance`.
    """
    if guidance is None:
        raise ValueError("guidance in training needs fields.own_guidance")
    column = (-1, *[1] * (x.ndim - 1))
    tau = torch.sin(t) / (torch.cos(t) + torch.sin(t))
    guided = guidance.labelled & (tau >= interval.guided_from) & (tau <= interval.guided_to)
    share = kappa.reshape(column).to(x.dtype)
    mixed = omega * v + share * own + (1 - omega - share) * guidance.unlabelled_to(t)(x, t)
    return torch.where(guided.reshape(column), mixed, v)


def _regress(
    fields: Fields, direction: Direction, t: Tensor, u: Tensor, settings: MeanFlowSettings, constant: float
) -> Regression:
    control = control_of(settings.direction, control="power", constant=constant)
    of_u = of_average_velocity(direction, t)
    return regress(of_u, t, weight_of_pair(fields, u), settings.log_weight_max, control)
