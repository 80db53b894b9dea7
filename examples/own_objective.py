"""An objective of one's own: consistency distillation along a blend of two velocities.

sCD follows the teacher's velocity, which has no variance and the teacher's errors; sCT follows the drawn
pair's, which has no error and much variance. This one follows their mean. Try it beside both:

    snakemake --config study=examples/own_objective.yaml
"""

import torch
from torch import Tensor

from trigbench import (
    Draws,
    Fields,
    Regression,
    Settings,
    interpolate,
    lognormal_angle,
    regress,
    segment_direction,
    velocity,
)


def blended(fields: Fields, x0: Tensor, draws: Draws, settings: Settings) -> Regression:
    """The continuous-time direction along the mean of the teacher's and the pair's velocity."""
    if fields.teacher is None:
        raise ValueError("blended needs fields.teacher")
    t = lognormal_angle(draws.uniform, settings.proposal_mean, settings.proposal_std, settings.sigma_d)
    x = interpolate(x0, draws.noise, t)
    with torch.no_grad():
        v = (fields.teacher(x, t) + velocity(x0, draws.noise, t)) / 2
    direction = segment_direction(fields.student, x, t, torch.zeros_like(t), v, settings.warmup, settings.derivative)
    return regress(direction, t, fields.log_weight, settings.log_weight_max, settings.control)
