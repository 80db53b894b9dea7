"""Consistency trajectory models, CTM (arXiv 2310.02279): soft consistency between any two angles, and diffusion."""

from dataclasses import dataclass, field, replace
from functools import cache
from typing import Literal

import torch
from torch import Tensor

from trigbench.core.constants import PROPOSAL_MEAN, PROPOSAL_STD, SIGMA_D
from trigbench.core.fields import Draws, Fields, Jump
from trigbench.core.flow_maps import weight_of_pair
from trigbench.core.objectives.regression import Regression, regress
from trigbench.core.samplers import Step
from trigbench.core.samplers.ode import heun_step
from trigbench.core.schedules import karras_angles
from trigbench.core.tangents import Direction
from trigbench.core.trigflow import (
    Batch,
    Field,
    ProposalGrid,
    Times,
    cos_sin,
    even_grid,
    interpolate,
    lognormal_angle,
    rotate,
    velocity,
)

INTERVALS = 18
"""N of the paper's grid for CIFAR-10."""


@dataclass(frozen=True)
class Path:
    """How far the teacher goes before the target's map takes over."""

    solver: Step | None = None
    """None is the paper's, Heun's."""
    reach: Literal["local", "soft", "global"] = "soft"
    """To the next edge of the grid, to a drawn one, or to the end of the student's map."""
    solver_steps: int = 4
    """Of `soft`: edges, and so steps, at most."""


@dataclass(frozen=True)
class CTMSettings:
    """Of `ctm`, in unit variance; as in core.objectives.regression.Settings."""

    sigma_d: float = SIGMA_D
    """Standard deviation of the data in data units, above 0."""
    proposal_mean: float = PROPOSAL_MEAN
    """P_mean: the mean of ln sigma of the drawn t."""
    proposal_std: float = PROPOSAL_STD
    """P_std: its standard deviation, greater than 0."""
    grid: ProposalGrid | None = None
    """None is the paper's: Karras' with N = 18, of which every interval is as likely."""
    path: Path = field(default_factory=Path)
    """How far the teacher goes."""
    dsm_weight: float = 1.0
    """lambda_DSM."""
    log_weight_max: float | None = None
    """Upper bound of the adaptive log weight; None leaves it free."""


def ctm(fields: Fields, x0: Batch, draws: Draws, settings: CTMSettings) -> Regression:
    """CTM: maps from x_t, and from where the teacher's solver takes it, end at one; with diffusion where t = u.

    |f-(f(x_t, t, u), u, 0) - f-(f-(x_m, m, u), u, 0)|^2 / D, and lambda_DSM |F(x_t, t, t) - v|^2 / D. The solver goes
    from x_t to x_m, u <= m < t; angles are edges of the grid, u even among those below t and m among those between.
    Both ends are taken to data by the student's own map, whose gradient passes to its input alone, and compared there.
    The diffusion loss is at an angle of the proposal, nearly the same t. Norms watched are those of the first loss.

    Where we differ: the distance is squared and not LPIPS; no GAN, by which the paper's best numbers are; `soft`
    takes 4 of the teacher's steps at most, not 17; lambda_DSM is a constant, not a ratio of gradients in the last
    layer, by which rows would mix. Raises ValueError without a teacher, student_to, draws.lower or draws.middle.
    """
    if fields.teacher is None or fields.student_to is None or draws.lower is None or draws.middle is None:
        raise ValueError("ctm needs fields.teacher, fields.student_to, draws.lower and draws.middle")
    t, m, u, x, x_m = _followed(fields.teacher, x0, draws, settings)
    to, target_to = fields.student_to, fields.target_to or fields.student_to
    with torch.no_grad():
        target = _where(m > u, rotate(x_m, target_to(u)(x_m, m), m, u), x_m)
    F = to(u)(x, t)
    g = _pulled_back(target_to, rotate(x, F.detach(), t, u), target, t, u)
    _, s = cos_sin(t - u, x)
    found = regress(Direction(F, s * g), t, weight_of_pair(fields, u), settings.log_weight_max)
    return replace(found, loss=found.loss + settings.dsm_weight * _denoising(fields, x0, draws, settings))


def _followed(
    teacher: Field, x0: Batch, draws: Draws, settings: CTMSettings
) -> tuple[Times, Times, Times, Batch, Batch]:
    """Angles t > m >= u, the point x_t of the pair, and x_m, where the teacher's solver takes it along the grid."""
    assert draws.lower is not None and draws.middle is not None
    grid, path = settings.grid or _papers_grid(settings.sigma_d), settings.path
    angles, last = grid.angles.to(draws.uniform.device), grid.angles.numel() - 1
    start = torch.searchsorted(grid.cumulative.to(draws.uniform), draws.uniform, right=True).clamp(1, last)
    end = (draws.lower * start).long().clamp(max=start - 1)
    steps = {"local": 1, "soft": path.solver_steps, "global": last}[path.reach]
    lowest = torch.maximum(end, start - steps)
    drawn = (lowest + (draws.middle * (start - lowest)).long()).clamp(max=start - 1)
    middle = {"local": start - 1, "soft": drawn, "global": end}[path.reach]
    x = x_m = interpolate(x0, draws.noise, angles[start])
    now = start
    with torch.no_grad():
        for _ in range(steps):  # rows that have arrived stay
            then = torch.maximum(now - 1, middle)
            x_m = _where(now > middle, (path.solver or heun_step)(teacher, x_m, angles[now], angles[then]), x_m)
            now = then
    return angles[start], angles[middle], angles[end], x, x_m


def _pulled_back(target_to: Jump, end: Batch, target: Batch, t: Times, u: Times) -> Batch:
    """J^T (f-(end, u, 0) - f-(target, u, 0)), J the derivative of f-(., u, 0) at `end`; at u = 0 their difference."""
    zero, inside = torch.zeros_like(u), torch.where(u > 0, u, t)  # at 0 a network may have no value, and no gradient

    def to_data(point: Tensor) -> Tensor:
        return _where(u > 0, rotate(point, target_to(zero)(point, inside), u, zero), point)

    with torch.no_grad():
        data = to_data(target)
    with torch.enable_grad():
        end = end.detach().requires_grad_()
        found = to_data(end)
        (pulled,) = torch.autograd.grad(found, end, found.detach() - data)
    return pulled


def _denoising(fields: Fields, x0: Batch, draws: Draws, settings: CTMSettings) -> Tensor:
    """The diffusion loss of the map that does not move, F(x, t; t); EDM's weight on the error of x0 is 1 on F's."""
    assert fields.student_to is not None
    t = lognormal_angle(draws.uniform, settings.proposal_mean, settings.proposal_std, settings.sigma_d)
    F = fields.student_to(t)(interpolate(x0, draws.noise, t), t)
    direction = Direction(F, velocity(x0, draws.noise, t) - F.detach())
    return regress(direction, t, weight_of_pair(fields, t), settings.log_weight_max).loss


def _where(rows: Tensor, there: Batch, elsewhere: Batch) -> Batch:
    return torch.where(rows.reshape(-1, *[1] * (there.ndim - 1)), there, elsewhere)


@cache
def _papers_grid(sigma_d: float) -> ProposalGrid:
    return even_grid(karras_angles(INTERVALS, sigma_d))
