"""Shortcut models: maps over halved steps, each learned from two of half its length."""

import math
from dataclasses import dataclass, field

import torch

from trigbench.core.constants import SIGMA_D
from trigbench.core.fields import Draws, Fields
from trigbench.core.flow_maps import (
    DirectionControl,
    control_of,
    of_average_velocity,
    semigroup_direction,
    weight_of_pair,
)
from trigbench.core.objectives.regression import Regression, regress
from trigbench.core.schedules import largest_angle
from trigbench.core.trigflow import Batch, Times, interpolate, velocity
from trigbench.core.two_angles import angle_of_flow_time


@dataclass(frozen=True)
class ShortcutSettings:
    """Of `shortcut`."""

    sigma_d: float = SIGMA_D
    """Standard deviation of the data in data units, above 0."""
    halvings: int = 7
    """The shortest step is 2^-halvings of the whole way: 1/128."""
    share_shortest: float = 0.75
    """Of samples that learn the velocity, as the shortest step."""
    direction: DirectionControl = field(default_factory=DirectionControl)
    """What is done to the direction."""
    log_weight_max: float | None = None
    """Upper bound of the adaptive log weight; None leaves it free."""


def shortcut(fields: Fields, x0: Batch, draws: Draws, settings: ShortcutSettings) -> Regression:
    """Shortcut models: a step's velocity is the mean of those of two steps of half its length.

    u onto the mean of two, without gradient, over steps that are halved on a grid of the flow's time (arXiv 2410.12557,
    Alg. 1). The shortest has the pair's velocity for a target, and is not told apart from a step: the map that all of
    them rest at is that of so many Euler steps. The two are the average's, `target_decay`, where there is one.

    Where we differ: the grid ends at t_max; targets are not clipped; no guidance. Raises ValueError without a student
    that is told its target time, and without draws.lower.
    """
    if fields.student_to is None or draws.lower is None:
        raise ValueError("shortcut needs fields.student_to and draws.lower")
    t, m, u = halved_steps(draws.uniform, draws.lower, settings)
    x, to = interpolate(x0, draws.noise, t), fields.target_to or fields.student_to
    with torch.no_grad():
        is_shortest = (m == u).reshape(-1, *[1] * (x.ndim - 1))
        first = torch.where(is_shortest, velocity(x0, draws.noise, t), to(m)(x, t))
    direction = of_average_velocity(semigroup_direction(fields.student_to, x, t, m, u, first, to), t)
    return regress(direction, t, weight_of_pair(fields, u), settings.log_weight_max, control_of(settings.direction))


def halved_steps(uniform: Times, lower: Times, settings: ShortcutSettings) -> tuple[Times, Times, Times]:
    """(t, m, u): a step from t to u and its middle, m = u for the shortest, all on a grid of the flow's time.

    `lower` chooses the length: each of the longer ones is as likely, of which there are as many as halvings.
    """
    share, halvings = settings.share_shortest, settings.halvings
    rest = ((lower - share) / max(1 - share, 1e-12)).clamp(0, 1)
    is_shortest = lower < share
    halved = torch.where(is_shortest, halvings, (rest * halvings).floor().clamp(max=halvings - 1))
    length = torch.exp2(-halved)
    start = length * (1 + (uniform / length).floor().clamp(max=1 / length - 1))
    end = start - length
    middle = torch.where(is_shortest, end, start - length / 2)
    sigma = math.tan(largest_angle(settings.sigma_d))
    t, m, u = (angle_of_flow_time(sigma / (1 + sigma) * time) for time in (start, middle, end))
    return t, m, u
