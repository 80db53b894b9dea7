"""An objective of one's own: sCT, written out, to be changed.

trigbench check mine.py:mine      does it hold what training relies on?

A study names it by its path: `objective: "mine:mine"`.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from trigbench import Draws, Fields, Regression, interpolate, lognormal_angle, regress, segment_direction, velocity
from trigbench.core.objectives.regression import NORMALISED
from trigbench.core.tangents import Control, Derivative, derivative_along


@dataclass(frozen=True)
class Settings:
    """What it is told: a field is filled by its name, with what the arm says, in unit variance.

    Names of your own are settings in the study: `objective: {path: "mine:mine", settings: {strength: 0.5}}`.
    """

    sigma_d: float = 0.5
    proposal_mean: float = -1.0
    proposal_std: float = 1.4
    warmup: float = 1.0
    """r of this step, from 0 to 1."""
    control: Control = NORMALISED
    """What is done to the direction before it is followed."""
    derivative: Derivative = derivative_along
    log_weight_max: float | None = None
    strength: float = 1.0
    """Yours."""


def mine(fields: Fields, x0: Tensor, draws: Draws, settings: Settings) -> Regression:
    """x0 of (batch, *shape) in unit variance; all randomness is in draws; a row's loss is of that row alone."""
    t = lognormal_angle(draws.uniform, settings.proposal_mean, settings.proposal_std, settings.sigma_d)
    x = interpolate(x0, draws.noise, t)  # cos(t) x0 + sin(t) noise
    v = velocity(x0, draws.noise, t)  # of the drawn pair; a teacher's is fields.teacher(x, t), under torch.no_grad()
    # how F should change, so that the map f = cos(t) x - sin(t) F stays the same along the path; without gradient
    direction = segment_direction(fields.student, x, t, torch.zeros_like(t), v, settings.warmup, settings.derivative)

    def control(g: Tensor) -> Tensor:
        return settings.strength * settings.control(g)

    return regress(direction, t, fields.log_weight, settings.log_weight_max, control)
