"""Multi-step consistency models of Heek, Hoogeboom and Salimans (arXiv 2403.06807), distilled with their aDDIM."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from trigbench.core.constants import SIGMA_D
from trigbench.core.fields import Draws, Fields
from trigbench.core.flow_maps import huber, semigroup_direction, weight_of_pair
from trigbench.core.objectives.discrete import chord_velocity
from trigbench.core.objectives.regression import Regression, regress
from trigbench.core.phases import check_edges, grid_of_segments
from trigbench.core.trigflow import Batch, ProposalGrid, Times, cos_sin, draw_interval, interpolate
from trigbench.core.two_angles import edge_below

FIRST = 64
"""T at the start of the paper's training."""


@dataclass(frozen=True)
class MSCMSettings:
    """Of `mscm`, in unit variance; as in core.objectives.regression.Settings."""

    segments: Float[Tensor, " edges"]
    """Lower edges of the steps, ascending from 0."""
    sigma_d: float = SIGMA_D
    """Standard deviation of the data in data units, above 0."""
    grid: ProposalGrid | None = None
    """None is the paper's, even in time, here the angle, and as likely: 64 intervals, doubled at every stage, or the
    next multiple of the steps."""
    stage: int = 0
    """How often the number of grid points was doubled."""
    noise_share: float = 0.75
    """eta of aDDIM: the share of |x0 - teacher's x0|^2 by which its noise is lengthened; 0 is DDIM."""
    distance: Literal["squared", "norm"] = "squared"
    """Of the two ends: squared, or its root as the paper is printed."""
    log_weight_max: float | None = None
    """Upper bound of the adaptive log weight; None leaves it free."""

    def __post_init__(self) -> None:
        check_edges(self.grid_on(self.segments.device), self.segments)

    def grid_on(self, device: torch.device) -> ProposalGrid:
        """The told one where it is, or the paper's on the device."""
        return self.grid or grid_of_segments(self.segments, FIRST * 2**self.stage, self.sigma_d, device)


def mscm(fields: Fields, x0: Batch, draws: Draws, settings: MSCMSettings) -> Regression:
    """Multi-step CM: within each step, DDIM from t ends where the map from just below does, by the teacher's aDDIM.

    (SNR + 1) |xhat - xhat_target|^2 / D, which is |F - F_target|^2 / D: the teacher's aDDIM goes from x_t to x_m, one
    interval below (or to the step's lower edge u, if that is higher); the student's own map goes on to u, and the DDIM
    step from x_t that ends there gives the target. With as many steps as intervals, and DDIM, it is velocity matching.
    `norm` is the distance without its square, as the paper is printed, |F - F_target| / sin t.

    Where we differ: the network is told u; T doubles in stages of equal length and is not annealed; the squared norm
    is the default, as only so it is diffusion in the limit that the paper names. Raises ValueError without a teacher
    or student_to (its settings do for a grid without the edges).
    """
    if fields.teacher is None or fields.student_to is None:
        raise ValueError("mscm needs fields.teacher and fields.student_to")
    t, below = draw_interval(settings.grid_on(draws.uniform.device), draws.uniform)
    u = edge_below(settings.segments, t)
    m = torch.maximum(below, u)  # below, but for rounding: edges are points of the grid
    x = interpolate(x0, draws.noise, t)
    with torch.no_grad():
        x_m = addim(fields.teacher(x, t), x, t, m, x0, settings.noise_share)
    first = chord_velocity(x, x_m, t, m)
    direction = semigroup_direction(fields.student_to, x, t, m, u, first, fields.target_to)
    _, s = cos_sin(t, x)
    control = None if settings.distance == "squared" else lambda g: huber(g, 1e-12) / s
    return regress(direction, t, weight_of_pair(fields, u), settings.log_weight_max, control)


def addim(v: Batch, x: Batch, t: Times, m: Times, x0: Batch, share: float) -> Batch:
    """The DDIM step of the velocity v from t to m, its noise longer by what averaging over x0 took of its square.

    cos(m) xhat + sqrt(sin(m)^2 + (D / |eps|^2) (sin(t-m) / sin(t))^2 share |x0 - xhat|^2 / D) eps.
    It keeps the mean square where xhat and eps are orthogonal, with `share` 1, and is above it where they are not.
    """
    c, s = cos_sin(t, x)
    clean, noise = c * x - s * v, s * x + c * v
    c_m, s_m = cos_sin(m, x)
    _, s_step = cos_sin(t - m, x)
    lost = share * _square(x0 - clean) / _square(noise).clamp(min=1e-12) * (s_step / s).square()
    return c_m * clean + (s_m.square() + lost).sqrt() * noise


def _square(part: Batch) -> Float[Tensor, "batch ..."]:
    """|.|^2 of each sample, shaped to multiply it."""
    return part.flatten(1).square().sum(1).reshape(-1, *[1] * (part.ndim - 1))
