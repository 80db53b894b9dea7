"""The one loss of the whole family: regress the recorded output onto itself plus a direction.

An objective computes a Direction; `regress` turns it into the loss. Diffusion, sCD, sCT and the
discrete methods differ in the direction alone.
"""

from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from trigbench.core.constants import NORMALISER, PROPOSAL_MEAN, PROPOSAL_STD, SIGMA_D
from trigbench.core.samplers.ode import Step
from trigbench.core.tangents import Control, Derivative, Direction, derivative_along, normalise
from trigbench.core.trigflow import ProposalGrid, TimeFunction


@dataclass(frozen=True)
class Settings:
    """What an objective may be told besides its fields; the defaults are the paper's, in unit variance."""

    sigma_d: float = SIGMA_D
    proposal_mean: float = PROPOSAL_MEAN
    proposal_std: float = PROPOSAL_STD
    warmup: float = 1.0
    """r of this step (core.schedules.tangent_warmup)."""
    control: Control = field(default_factory=lambda: partial(normalise, constant=NORMALISER / SIGMA_D))
    """0.1 / 0.5 = 0.2."""
    derivative: Derivative = derivative_along
    grid: ProposalGrid | None = None
    """Discrete objectives only; holds the proposal already split over its intervals."""
    solver: Step | None = None
    """The teacher's step in dsCD; None is the paper's DDIM, whose velocity needs no (rounded) difference."""
    log_weight_max: float | None = None
    """Upper bound of w(t); None leaves it free, as the paper does."""
    segments: Float[Tensor, " edges"] | None = None
    """Lower edges of the segments of multi-step sCD, ascending from 0."""
    stage: int = 0
    """Of ECT's schedule: how often the gap between its two noise levels was halved."""
    score_proposal: tuple[float, float] = (0.4, 2.0)
    """Mean and standard deviation of ln sigma at which scores are compared (Table 5)."""
    fake_proposal: tuple[float, float] = (-0.8, 1.6)
    """The same, at which the fake learns (Table 5)."""
    score_scale: Literal["adaptive", "dmd"] = "adaptive"
    """What scales the difference of scores: the learned e^w, or DMD's mean distance to the teacher's estimate."""
    score_weight: float = SIGMA_D
    """lambda_VSD: the paper's 1.0 times sigma_d = 0.5, since its residual mixes data units and F."""


@dataclass(frozen=True)
class Regression:
    """A loss and what is worth watching beside it."""

    loss: Float[Tensor, ""]
    direction_norm: Float[Tensor, " batch"]
    """L2 norm of the direction before any control; the loss value itself does not measure progress."""


def regress(
    direction: Direction,
    t: Float[Tensor, " batch"],
    log_weight: TimeFunction | None = None,
    log_weight_max: float | None = None,
    control: Control | None = None,
) -> Regression:
    """mean of e^w(t) / D * ||F - sg(F) - g||^2 - w(t) (arXiv 2410.11081, Eq. 8 and App. D).

    Its gradient in F is -2 e^w g / D per sample. Without `log_weight`, w = 0.
    """
    g = direction.g if control is None else control(direction.g)
    residual = (direction.F - direction.F.detach() - g).flatten(1).square().mean(1)
    norm = direction.g.flatten(1).norm(dim=1)
    if log_weight is None:
        return Regression(residual.mean(), norm)
    w = log_weight(t)
    if log_weight_max is not None:
        w = w.clamp(max=log_weight_max)
    return Regression((w.exp() * residual - w).mean(), norm)
