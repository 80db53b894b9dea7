"""Continuous-time consistency distillation and training: sCD, sCT (arXiv 2410.11081, Alg. 1), multi-step sCD."""

import torch
from jaxtyping import Float
from torch import Tensor

from trigbench.core.fields import Draws, Fields
from trigbench.core.objectives.regression import Regression, Settings, regress
from trigbench.core.tangents import segment_direction
from trigbench.core.trigflow import Field, interpolate, lognormal_angle, lower_edge, velocity

Batch = Float[Tensor, "batch *shape"]


def scd(fields: Fields, x0: Batch, draws: Draws, settings: Settings) -> Regression:
    """sCD: the tangent follows the teacher's velocity. Raises ValueError without a teacher."""
    if fields.teacher is None:
        raise ValueError("scd needs fields.teacher")
    t = lognormal_angle(draws.uniform, settings.proposal_mean, settings.proposal_std, settings.sigma_d)
    x = interpolate(x0, draws.noise, t)
    with torch.no_grad():
        v = fields.teacher(x, t)
    return _regress_map(fields.student, fields, x, t, torch.zeros_like(t), v, settings)


def ms_scd(fields: Fields, x0: Batch, draws: Draws, settings: Settings) -> Regression:
    """Multi-step sCD: within each segment, the map from t down to the segment's lower edge.

    The paper gives results (Table 6) and no algorithm; this is sCD with t - u for t, and sCD bit for
    bit when the only edge is 0. Raises ValueError without a teacher, segments, or a student that is
    told its edge.
    """
    if fields.teacher is None or fields.student_to is None or settings.segments is None:
        raise ValueError("ms_scd needs fields.teacher, fields.student_to and settings.segments")
    t = lognormal_angle(draws.uniform, settings.proposal_mean, settings.proposal_std, settings.sigma_d)
    x = interpolate(x0, draws.noise, t)
    u = lower_edge(settings.segments, t)
    with torch.no_grad():
        v = fields.teacher(x, t)
    return _regress_map(fields.student_to(u), fields, x, t, u, v, settings)


def sct(fields: Fields, x0: Batch, draws: Draws, settings: Settings) -> Regression:
    """sCT: the tangent follows the velocity of the drawn pair (x0, z)."""
    t = lognormal_angle(draws.uniform, settings.proposal_mean, settings.proposal_std, settings.sigma_d)
    x = interpolate(x0, draws.noise, t)
    return _regress_map(fields.student, fields, x, t, torch.zeros_like(t), velocity(x0, draws.noise, t), settings)


def _regress_map(
    student: Field, fields: Fields, x: Batch, t: Tensor, u: Tensor, v: Batch, settings: Settings
) -> Regression:
    direction = segment_direction(student, x, t, u, v, settings.warmup, settings.derivative)
    return regress(direction, t, fields.log_weight, settings.log_weight_max, settings.control)
