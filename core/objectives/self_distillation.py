"""Flow maps that teach themselves: their own velocity, at u = t, is where the map's end should move.

The derivative of the map in its end keeps its gradient here, so that losses are squares of a residual and not of a
target; core.flow_maps.lagrangian_direction is the same without that gradient.
"""

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from trigbench.core.fields import Draws, Fields, Jump
from trigbench.core.flow_maps import DirectionControl, control_of, of_average_velocity, weight_of_pair
from trigbench.core.objectives.regression import Regression, regress
from trigbench.core.pairs import out_of_inference
from trigbench.core.tangents import Direction
from trigbench.core.trigflow import Batch, Times, cos_sin, interpolate, lognormal_angle, rotate, velocity
from trigbench.core.two_angles import TwoAngles, two_angles


@dataclass(frozen=True)
class LSDSettings:
    """Of `lsd`."""

    angles: TwoAngles = field(default_factory=TwoAngles)
    """How t and u <= t are drawn."""
    direction: DirectionControl = field(default_factory=DirectionControl)
    """What is done to the direction."""
    log_weight_max: float | None = None
    """Upper bound of the adaptive log weight; None leaves it free."""


def lsd(fields: Fields, x0: Batch, draws: Draws, settings: LSDSettings) -> Regression:
    """Lagrangian self-distillation: where the map ends, it moves with the map's own velocity, that of u = t.

    |df/drho - sg(v(f, rho))|^2, v the map's own at rho = tau (arXiv 2505.18825), in the flow's coordinates, where it is
    c_u + S_u times R of core.flow_maps. Three samples of four have u = t, where the residual is that of flow matching.
    The gradient passes through df/drho, and not through where the map ends.

    Where we differ: the law of times; the adaptive weight is a sum of two of one time, and off unless told. Raises
    ValueError without a student that is told its target time.
    """
    if fields.student_to is None:
        raise ValueError("lsd needs fields.student_to")
    t, u = two_angles(draws, settings.angles, law="uniform", same=0.75)
    x, v = interpolate(x0, draws.noise, t), velocity(x0, draws.noise, t)
    end, rate = end_and_rate(fields.student_to, x, t, u)
    with torch.no_grad():
        own = fields.student_to(u)(end.detach(), u)
        wanted = torch.where((u == t).reshape(-1, *[1] * (x.ndim - 1)), v, own)
    control = control_of(settings.direction)
    direction = to_zero(residual_in_flow(end, rate, wanted, u))
    return regress(direction, t, weight_of_pair(fields, u), settings.log_weight_max, control)


@dataclass(frozen=True)
class TVMSettings:
    """Of `tvm`."""

    angles: TwoAngles = field(default_factory=TwoAngles)
    """How t and u <= t are drawn."""


def tvm(fields: Fields, x0: Batch, draws: Draws, settings: TVMSettings) -> Regression:
    """Terminal velocity matching: `lsd`'s residual where u < t, and flow matching at another time.

    |df/drho - sg(v(f, rho))|^2 + |u(x'', s, s) - (z - x0)|^2 (arXiv 2511.19797), s of the proposal by draws.middle, x''
    of the same pair, v the average's, `target_decay`, where there is one. The gradient passes through df/drho. Norms
    are of the first term.

    Where we differ: rho is even below its most, not logit-normal; no guidance; the network is the study's. Raises
    ValueError without a student that is told its target time, and without draws.middle.
    """
    if fields.student_to is None or draws.middle is None:
        raise ValueError("tvm needs fields.student_to and draws.middle")
    told = settings.angles
    t, u = two_angles(draws, told, law="gap")
    end, rate = end_and_rate(fields.student_to, interpolate(x0, draws.noise, t), t, u)
    with torch.no_grad():
        wanted = (fields.target_to or fields.student_to)(u)(end.detach(), u)
    residual = residual_in_flow(end, rate, wanted, u)
    moves = (u < t).reshape(-1, *[1] * (x0.ndim - 1))
    terminal = regress(to_zero(torch.where(moves, residual, torch.zeros_like(residual))), t)

    s = lognormal_angle(draws.middle, told.proposal_mean, told.proposal_std, told.sigma_d)
    x, v = interpolate(x0, draws.noise, s), velocity(x0, draws.noise, s)
    F = fields.student_to(s)(x, s)
    matching = regress(of_average_velocity(Direction(F, v - F.detach()), s), s)
    return replace(terminal, loss=terminal.loss + matching.loss)


def end_and_rate(student_to: Jump, x: Batch, t: Times, u: Times) -> tuple[Batch, Batch]:
    """Where the map from t down to u ends, and df/du, both with their gradient."""

    def ending(u: Tensor) -> Tensor:
        return student_to(u)(x, t)

    # fused attention has no forward mode
    with sdpa_kernel(SDPBackend.MATH), torch.jit.optimized_execution(False), out_of_inference():  # type: ignore
        F, dF = torch.func.jvp(ending, (u,), (torch.ones_like(u),))[:2]
    c, s = cos_sin(t - u, x)
    return rotate(x, F, t, u), s * x + c * F - s * dF


def residual_in_flow(end: Batch, rate: Batch, wanted: Batch, u: Times) -> Batch:
    """df/drho - sg(v) of the end in x' = x / (c + S), c and S of u: c + S times df/du - v, and of the gradient more.

    There df/drho holds the end itself beside its rate, and so does v, but without gradient.
    """
    c, s = cos_sin(u, end)
    return (c + s) * (rate - wanted) - (c - s) * (end - end.detach())


def to_zero(residual: Batch) -> Direction:
    """The direction whose regression is the residual's mean square, with all of its gradient."""
    return Direction(residual, -residual.detach())
