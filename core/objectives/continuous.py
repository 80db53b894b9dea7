"""Continuous-time consistency distillation and training: sCD, sCT (arXiv 2410.11081, Alg. 1), multi-step sCD."""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from trigbench.core.constants import PROPOSAL_MEAN, PROPOSAL_STD, SIGMA_D
from trigbench.core.fields import Draws, Fields
from trigbench.core.objectives.regression import NORMALISED, Regression, regress
from trigbench.core.tangents import Control, Derivative, Number, derivative_along, segment_direction
from trigbench.core.trigflow import Batch, Field, interpolate, lognormal_angle, lower_edge, velocity


@dataclass(frozen=True)
class ContinuousSettings:
    """Of `scd` and `sct`, in unit variance; as in core.objectives.regression.Settings."""

    sigma_d: float = SIGMA_D
    """Standard deviation of the data in data units, above 0; noise level sigma is at tan t = sigma / sigma_d."""
    proposal_mean: float = PROPOSAL_MEAN
    """P_mean: the mean of ln sigma of the drawn t."""
    proposal_std: float = PROPOSAL_STD
    """P_std: its standard deviation, greater than 0."""
    warmup: Number = 1.0
    """r of this step, from 0 to 1 (core.schedules.tangent_warmup)."""
    control: Control = NORMALISED
    """What is done to the direction g in unit variance; the paper's is g / (|g| + 0.1 / sigma_d)."""
    derivative: Derivative = derivative_along
    """Takes F and its derivative along the flow in one call."""
    log_weight_max: float | None = None
    """Upper bound of w(t); None leaves it free, as the paper does."""


@dataclass(frozen=True)
class SegmentSettings:
    """Of `ms_scd`: the segments, and sCD's."""

    segments: Float[Tensor, " edges"]
    """Lower edges, ascending from 0."""
    consistency: ContinuousSettings = field(default_factory=ContinuousSettings)
    """What sCD is told, too."""


def scd(fields: Fields, x0: Batch, draws: Draws, settings: ContinuousSettings) -> Regression:
    """sCD: the tangent follows the teacher's velocity. Raises ValueError without a teacher."""
    if fields.teacher is None:
        raise ValueError("scd needs fields.teacher")
    t = lognormal_angle(draws.uniform, settings.proposal_mean, settings.proposal_std, settings.sigma_d)
    x = interpolate(x0, draws.noise, t)
    with torch.no_grad():
        v = fields.teacher(x, t)
    return _regress_map(fields.student, fields, x, t, torch.zeros_like(t), v, settings)


def ms_scd(fields: Fields, x0: Batch, draws: Draws, settings: SegmentSettings) -> Regression:
    """Multi-step sCD: within each segment, the map from t down to the segment's lower edge.

    The paper gives results (Table 6) and no algorithm; this is sCD with t - u for t, and sCD bit for
    bit when the only edge is 0. Raises ValueError without a teacher, or a student that is told its edge.
    """
    if fields.teacher is None or fields.student_to is None:
        raise ValueError("ms_scd needs fields.teacher and fields.student_to")
    told = settings.consistency
    t = lognormal_angle(draws.uniform, told.proposal_mean, told.proposal_std, told.sigma_d)
    x = interpolate(x0, draws.noise, t)
    u = lower_edge(settings.segments, t)
    with torch.no_grad():
        v = fields.teacher(x, t)
    return _regress_map(fields.student_to(u), fields, x, t, u, v, told)


def sct(fields: Fields, x0: Batch, draws: Draws, settings: ContinuousSettings) -> Regression:
    """sCT: the tangent follows the velocity of the drawn pair (x0, z)."""
    t = lognormal_angle(draws.uniform, settings.proposal_mean, settings.proposal_std, settings.sigma_d)
    x = interpolate(x0, draws.noise, t)
    return _regress_map(fields.student, fields, x, t, torch.zeros_like(t), velocity(x0, draws.noise, t), settings)


def _regress_map(
    student: Field,
    fields: Fields,
    x: Batch,
    t: Tensor,
    u: Tensor,
    v: Batch,
    settings: ContinuousSettings,
) -> Regression:
    direction = segment_direction(student, x, t, u, v, settings.warmup, settings.derivative)
    return regress(direction, t, fields.log_weight, settings.log_weight_max, settings.control)
