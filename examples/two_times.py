"""An objective of two times of one's own: a flow map that learns velocities, and that two maps in a row are one.

No teacher. In half of the samples u = t, and the field is the pair's velocity; in the others the map from t
to u ends where the student's own maps from t to m and from m to u end. One network then samples in 1, 2, 4 or 8 steps:

    snakemake --config study=examples/two_times.yaml
"""

import torch
from torch import Tensor

from trigbench import (
    Direction,
    Draws,
    Fields,
    Regression,
    TwoAngles,
    interpolate,
    regress,
    semigroup_direction,
    two_angles,
    velocity,
)


def in_a_row(fields: Fields, x0: Tensor, draws: Draws, settings: TwoAngles) -> Regression:
    """The semigroup's direction where u < t, that of flow matching where u = t."""
    if fields.student_to is None or draws.middle is None:
        raise ValueError("in_a_row needs fields.student_to and draws.middle: say two_times: true")
    t, u = two_angles(draws, settings, law="uniform", same=0.5)
    x, v = interpolate(x0, draws.noise, t), velocity(x0, draws.noise, t)
    m = u + draws.middle * (t - u)
    found = semigroup_direction(fields.student_to, x, t, m, u)
    same = (u == t).reshape(-1, *[1] * (x.ndim - 1))
    return regress(Direction(found.F, torch.where(same, v - found.F.detach(), found.g)), t, fields.log_weight)
