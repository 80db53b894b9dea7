"""Directions of maps of two times, f(x, t, u) = rotate(x, F(x, t; u), t, u), and what is done to them.

The exact map satisfies three identities, each a direction that is zero there (and a fourth on the diagonal: F(x, t; t)
is the velocity):

Eulerian     df/dt = -cos(t-u) (F - v) - sin(t-u) (x + dF/dt) = 0 along dx/dt = v
Lagrangian   R = df/du - v(f, u) = sin(t-u) x + cos(t-u) F - sin(t-u) dF/du - v(f, u) = 0
semigroup    f(f(x, t, m), m, u) = f(x, t, u)

core.tangents.segment_direction is cos(t-u) times the first, with sCM's warm-up. Methods of one time import nothing of
this, so that it may grow and their finished runs stay fresh.
"""

from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from trigbench.core.constants import NORMALISER, SIGMA_D
from trigbench.core.fields import Fields, Jump
from trigbench.core.tangents import Clip, Control, Derivative, Direction, derivative_along, normalise
from trigbench.core.trigflow import Batch, Field, TimeFunction, Times, cos_sin, rotate

ControlName = Literal["none", "clip", "normalise", "power", "huber"]


def eulerian_direction(
    field: Field,
    x: Batch,
    t: Times,
    u: Times,
    v: Batch,
    factor: Times,
    derivative: Derivative = derivative_along,
    along: Batch | None = None,
) -> Direction:
    """factor * df/dt of the map from t down to u, whose field is `field`: students move along dx/dt = v.

    `factor` (batch,) stands inside the derivative's tangents, as sCM's cos t sin t does; cos(t-u) is sCM's
    (core.tangents.segment_direction). `along` is another velocity for the derivative of the network alone.
    """
    c, s = cos_sin(t - u, x)
    k = factor.reshape(c.shape).to(x.dtype)
    F, scaled_dF = derivative(field, x, t, v if along is None else along, factor * torch.sin(t - u))
    with torch.no_grad():
        return Direction(F, -k * c * (F - v) - (k * s * x + scaled_dF))


def lagrangian_direction(
    student_to: Jump,
    x: Batch,
    t: Times,
    u: Times,
    velocity: Field,
    derivative: Derivative = derivative_along,
) -> Direction:
    """-R = v(f, u) - df/du, with the derivative in the map's end u; `velocity` is asked at (f, u).

    Align Your Flow's LMD (arXiv 2506.14603), and the flow-map matching of arXiv 2406.07507 without the gradient
    through the derivative.
    """

    def ending(x: Tensor, u: Tensor) -> Tensor:
        return student_to(u)(x, t)

    F, scaled_dF = derivative(ending, x, u, torch.zeros_like(x), torch.sin(t - u))
    with torch.no_grad():
        c, s = cos_sin(t - u, x)
        return Direction(F, velocity(rotate(x, F, t, u), u) - (s * x + c * F - scaled_dF))


def semigroup_direction(
    student_to: Jump,
    x: Batch,
    t: Times,
    m: Times,
    u: Times,
    first: Batch | None = None,
    target_to: Jump | None = None,
) -> Direction:
    """The F whose map ends where two maps end, from t to m and from m to u, less F itself; u <= m <= t.

    `first` is the field of the first map: a velocity (one DDIM step), the chord of a solver's steps
    (core.objectives.discrete.chord_velocity), or None for the network's own, F(x, t; m). The second map is the
    network's, or that of `target_to`. Shortcut models, progressive distillation, CTM, PCM and alpha-Flow.
    """
    to = target_to or student_to
    with torch.no_grad():
        first = to(m)(x, t) if first is None else first
        second = to(u)(rotate(x, first, t, m), m)
    F = student_to(u)(x, t)
    return Direction(F, semigroup_target(x, first, second, t, m, u) - F.detach())


def semigroup_target(x: Batch, first: Batch, second: Batch, t: Times, m: Times, u: Times) -> Batch:
    """The F of the map from t to u that two maps in a row make: of `first` from t to m, and of `second` from m to u.

    (sin(t-m) cos(m-u) F1 + sin(m-u) F2 - sin(t-m) sin(m-u) x) / sin(t-u), which subtracts no points, so that short
    maps lose no digits; at the midpoint F1 / 2 + F2 / (2 cos(h)) - tan(h) x / 2, h = (t-u) / 2. Where m = u it is F1
    whatever `second` is, so at u = t, too.
    """
    _, s_first = cos_sin(t - m, x)
    c_second, s_second = cos_sin(m - u, x)
    _, s_whole = cos_sin(t - u, x)
    both = s_first * c_second * first + s_second * second - s_first * s_second * x
    return torch.where(s_second == 0, first, both / torch.where(s_whole == 0, 1.0, s_whole))


def flow_factor(t: Times, u: Times) -> Times:
    """k = (cos t + sin t) / (cos u + sin u): of df/dt in u's direction, less cos t + sin t (`of_average_velocity`)."""
    return (torch.cos(t) + torch.sin(t)) / (torch.cos(u) + torch.sin(u))


def of_average_velocity(direction: Direction, t: Times) -> Direction:
    """The direction of (c + S) F - (c - S) x, the average velocity of x' = (1 - tau) x0 + tau z, tau = S / (c + S).

    In these units MeanFlow and what followed it have their losses. Its part in x has no gradient, and is left out.
    """
    c, s = cos_sin(t, direction.F)
    return Direction((c + s) * direction.F, (c + s) * direction.g)


def power(g: Batch, exponent: float, constant: float) -> Batch:
    """g D / (|g|^2 + constant)^exponent: of the loss |g|^2 / sg((|g|^2 + c)^p), a sum over D elements (MeanFlow).

    With p = 1/2 its length tends to D, as of `core.tangents.normalise`; with p = 1 it falls as D / |g|.
    """
    square = g.flatten(1).square().sum(1)
    return g * (g[0].numel() / (square + constant) ** exponent).reshape(-1, *[1] * (g.ndim - 1))


def huber(g: Batch, constant: float, each: bool = False) -> Batch:
    """g D / (2 sqrt(|g|^2 + c^2)): of the loss sqrt(|g|^2 + c^2) - c of the whole vector (iCT).

    With `each` g / (2 sqrt(g^2 + c^2)), of the mean of that loss over elements (LCM and PCM).
    """
    if each:
        return g / (2 * (g.square() + constant**2).sqrt())
    length = (g.flatten(1).square().sum(1) + constant**2).sqrt()
    return g * (g[0].numel() / (2 * length)).reshape(-1, *[1] * (g.ndim - 1))


@dataclass(frozen=True)
class DirectionControl:
    """What an arm says of what is done to a direction; None is as the method has it."""

    sigma_d: float = SIGMA_D
    """Standard deviation of the data in data units, above 0."""
    direction_control: ControlName | None = None
    """Its name; None is what the method's paper has."""
    direction_constant: float | None = None
    """c of `normalise`, in the paper's units, and of `power` and `huber`, in unit variance."""
    direction_power: float | None = None
    """p of `power`."""


CONSTANTS: dict[ControlName, float] = {"normalise": NORMALISER, "power": 1e-3, "huber": 1e-3}


def control_of(
    settings: DirectionControl, *, control: ControlName = "none", exponent: float = 1.0, constant: float | None = None
) -> Control | None:
    """What regress is given: the arm's control, or the method's where it says nothing.

    The method's `constant` is that of its own control: another one has its usual constant.
    """
    name = settings.direction_control or control
    usual = CONSTANTS.get(name, 0.0) if constant is None or name != control else constant
    constant = usual if settings.direction_constant is None else settings.direction_constant
    exponent = exponent if settings.direction_power is None else settings.direction_power
    known: dict[str, Control | None] = {
        "none": None,
        "clip": Clip(settings.sigma_d),
        "normalise": partial(normalise, constant=constant / settings.sigma_d),
        "power": partial(power, exponent=exponent, constant=constant),
        "huber": partial(huber, constant=constant),
    }
    if name not in known:
        raise ValueError(f"unknown control {name!r}; choose {', '.join(known)}")
    return known[name]


def weight_of_pair(fields: Fields, u: Times) -> TimeFunction | None:
    """t -> w(t, u) = a(t) + b(t - u) for these u, for regress: the adaptive weight of two times (None without one).

    a is fields.log_weight, b fields.score_log_weight, which a method of two times has for this alone: its entry of the
    table names both in `log_weights`. At u = 0 and u = t it is free to be another, as the loss there is.
    """
    of_start, of_gap = fields.log_weight, fields.score_log_weight
    if of_start is None or of_gap is None:
        return of_start
    return lambda t: of_start(t) + of_gap(t - u)
