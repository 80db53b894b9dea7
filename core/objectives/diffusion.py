"""Velocity matching: how teachers are trained (arXiv 2410.11081, Eq. 4 with App. D's weight)."""

from jaxtyping import Float
from torch import Tensor

from trigbench.core.fields import Draws, Fields
from trigbench.core.objectives.regression import Regression, Settings, regress
from trigbench.core.tangents import Direction
from trigbench.core.trigflow import interpolate, lognormal_angle, velocity


def diffusion(fields: Fields, x0: Float[Tensor, "batch *shape"], draws: Draws, settings: Settings) -> Regression:
    """e^w / D ||F(x_t, t) - v_t||^2 - w; x0 in unit variance."""
    t = lognormal_angle(draws.uniform, settings.proposal_mean, settings.proposal_std, settings.sigma_d)
    F = fields.student(interpolate(x0, draws.noise, t), t)
    direction = Direction(F, velocity(x0, draws.noise, t) - F.detach())
    return regress(direction, t, fields.log_weight, settings.log_weight_max)
