"""Velocity matching: how teachers are trained (arXiv 2410.11081, Eq. 4 with App. D's weight)."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from trigbench.core.constants import PROPOSAL_MEAN, PROPOSAL_STD, SIGMA_D
from trigbench.core.fields import Draws, Fields
from trigbench.core.objectives.regression import Regression, regress
from trigbench.core.tangents import Direction
from trigbench.core.trigflow import interpolate, lognormal_angle, velocity


@dataclass(frozen=True)
class DiffusionSettings:
    """Of `diffusion`, in unit variance; as in core.objectives.regression.Settings."""

    sigma_d: float = SIGMA_D
    """Standard deviation of the data in data units, above 0; noise level sigma is at tan t = sigma / sigma_d."""
    proposal_mean: float = PROPOSAL_MEAN
    """P_mean: the mean of ln sigma of the drawn t."""
    proposal_std: float = PROPOSAL_STD
    """P_std: its standard deviation, greater than 0."""
    log_weight_max: float | None = None
    """Upper bound of w(t); None leaves it free, as the paper does."""


def diffusion(
    fields: Fields, x0: Float[Tensor, "batch *shape"], draws: Draws, settings: DiffusionSettings
) -> Regression:
    """e^w / D ||F(x_t, t) - v_t||^2 - w; x0 in unit variance."""
    t = lognormal_angle(draws.uniform, settings.proposal_mean, settings.proposal_std, settings.sigma_d)
    F = fields.student(interpolate(x0, draws.noise, t), t)
    direction = Direction(F, velocity(x0, draws.noise, t) - F.detach())
    return regress(direction, t, fields.log_weight, settings.log_weight_max)
