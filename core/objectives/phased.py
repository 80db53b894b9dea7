"""Consistency in phases of time, each with an end of its own: PCM (arXiv 2405.18407)."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from trigbench.core.constants import SIGMA_D
from trigbench.core.fields import Draws, Fields
from trigbench.core.flow_maps import huber, weight_of_pair
from trigbench.core.objectives.regression import Regression, regress
from trigbench.core.phases import check_edges, grid_of_segments
from trigbench.core.samplers import Step
from trigbench.core.samplers.ode import ddim_step
from trigbench.core.tangents import Direction
from trigbench.core.trigflow import Batch, ProposalGrid, cos_sin, draw_interval, interpolate, rotate
from trigbench.core.two_angles import edge_below

INTERVALS = 50
"""N of the paper's DDIM solver."""


@dataclass(frozen=True)
class PCMSettings:
    """Of `pcm`, in unit variance; as in core.objectives.regression.Settings."""

    segments: Float[Tensor, " edges"]
    """Lower edges of the phases, ascending from 0."""
    sigma_d: float = SIGMA_D
    """Standard deviation of the data in data units, above 0."""
    grid: ProposalGrid | None = None
    """None is the paper's, even in time, here the angle, and as likely: N = 50, or the next multiple of the phases."""
    solver: Step | None = None
    """The teacher's step; None is the paper's DDIM."""
    huber: float = 1e-3
    """c of the loss, in unit variance, as latents are of about."""
    log_weight_max: float | None = None
    """Upper bound of the adaptive log weight; None leaves it free."""

    def __post_init__(self) -> None:
        check_edges(self.grid_on(self.segments.device), self.segments)

    def grid_on(self, device: torch.device) -> ProposalGrid:
        """The told one where it is, or the paper's on the device."""
        return self.grid or grid_of_segments(self.segments, INTERVALS, self.sigma_d, device)


def pcm(fields: Fields, x0: Batch, draws: Draws, settings: PCMSettings) -> Regression:
    """PCM: within each phase, maps from x_t and from one step of the teacher below end at one, at the phase's edge u.

    The mean over elements of sqrt((f(x_t, t, u) - f-(x_m, m, u))^2 + c^2) - c: t is an edge of the grid, m the one
    below it, and the teacher's step goes from x_t to x_m. The paper's F_theta(x, t, s) by its noise prediction is f
    itself; sampling goes from edge to edge, and nothing is re-noised. With one phase it is consistency distillation,
    with as many as intervals the teacher's own step.

    Where we differ: the network is told the edge u, which the paper's finds from t; no adversarial loss, which needs
    a discriminator. Raises ValueError without a teacher or student_to (its settings do for a grid without the edges).
    """
    if fields.teacher is None or fields.student_to is None:
        raise ValueError("pcm needs fields.teacher and fields.student_to")
    t, below = draw_interval(settings.grid_on(draws.uniform.device), draws.uniform)
    u = edge_below(settings.segments, t)
    m = torch.maximum(below, u)  # below, but for rounding: edges are points of the grid
    x = interpolate(x0, draws.noise, t)
    with torch.no_grad():
        x_m = (settings.solver or ddim_step)(fields.teacher, x, t, m)
        moved = rotate(x_m, (fields.target_to or fields.student_to)(u)(x_m, m), m, u)
        target = torch.where((m > u).reshape(-1, *[1] * (x.ndim - 1)), moved, x_m)
    F = fields.student_to(u)(x, t)
    _, s = cos_sin(t - u, x)
    g = s * huber(rotate(x, F.detach(), t, u) - target, settings.huber, each=True)
    return regress(Direction(F, g), t, weight_of_pair(fields, u), settings.log_weight_max)
