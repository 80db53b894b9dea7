"""Continuous-time consistency distillation and training: sCD and sCT (arXiv 2410.11081, Alg. 1)."""

import torch
from jaxtyping import Float
from torch import Tensor

from core.fields import Draws, Fields
from core.objectives.regression import Regression, Settings, regress
from core.tangents import segment_direction
from core.trigflow import interpolate, lognormal_angle, velocity

Batch = Float[Tensor, "batch *shape"]


def scd(fields: Fields, x0: Batch, draws: Draws, settings: Settings) -> Regression:
    """sCD: the tangent follows the teacher's velocity. Raises ValueError without a teacher."""
    if fields.teacher is None:
        raise ValueError("scd needs fields.teacher")
    t = lognormal_angle(draws.uniform, settings.proposal_mean, settings.proposal_std, settings.sigma_d)
    x = interpolate(x0, draws.noise, t)
    with torch.no_grad():
        v = fields.teacher(x, t)
    return _regress_map(fields, x, t, v, settings)


def sct(fields: Fields, x0: Batch, draws: Draws, settings: Settings) -> Regression:
    """sCT: the tangent follows the velocity of the drawn pair (x0, z)."""
    t = lognormal_angle(draws.uniform, settings.proposal_mean, settings.proposal_std, settings.sigma_d)
    x = interpolate(x0, draws.noise, t)
    return _regress_map(fields, x, t, velocity(x0, draws.noise, t), settings)


def _regress_map(fields: Fields, x: Batch, t: Tensor, v: Batch, settings: Settings) -> Regression:
    direction = segment_direction(fields.student, x, t, torch.zeros_like(t), v, settings.warmup, settings.derivative)
    return regress(direction, t, fields.log_weight, settings.log_weight_max, settings.control)
