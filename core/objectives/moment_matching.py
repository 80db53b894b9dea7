"""Inductive moment matching: maps of two times whose samples have one law, by a kernel over groups of particles."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from trigbench.core.constants import SIGMA_D, SIGMA_MAX
from trigbench.core.fields import Draws, Fields
from trigbench.core.objectives.regression import Regression, regress
from trigbench.core.tangents import Direction
from trigbench.core.trigflow import Batch, Times, cos_sin, inside, interpolate, rotate
from trigbench.core.two_angles import angle_of_flow_time

Particles = Float[Tensor, "groups particles size"]
Kernel = Literal["laplace", "energy"]
SMALLEST = 1e-8
"""Square of the distance of ends in data units, below which the kernel is flat: a guard of the root at 0. The published
code has it of x' = x / (cos s + sin s), where it is up to twice as much of x."""
NEAREST = 1e-12
"""Sine of the angle between two ends at least, where it divides."""


@dataclass(frozen=True)
class IMMSettings:
    """Of `imm`."""

    sigma_d: float = SIGMA_D
    """Standard deviation of the data in data units, above 0."""
    particles: int = 4
    """M, rows in a row that share their three times and are compared with each other."""
    kernel: Kernel = "laplace"
    """laplace is the paper's; energy has no width."""
    gap_halvings: int = 15
    """k: tan t - tan r is the largest noise level over 2^k."""
    weight_power: float = 1.0
    """a of the weight."""
    weight_shift: float = 5.0
    """b of the weight."""


def imm(fields: Fields, x0: Batch, draws: Draws, settings: IMMSettings) -> Regression:
    """IMM: what the map makes of M points at t should have the law of what it makes of the same M pairs at r < t.

    w(t) MMD^2 of {f(x_t, t, s)} and {sg f(x_r, r, s)}, x_t and x_r of one pair, over groups of M = 4 rows in a row that
    share t, s and r (arXiv 2503.07565, Alg. 1). The kernel is exp(-|x - y| / (D sin(t-s))). In the flow
    x' = (1 - tau) x0 + tau z, of which the weight is, t is even up to the largest noise level and s even below t;
    tan r is tan t less a constant, and r is s at least. Each row moves along the gradient of its group's term.

    Where we differ: a batch, and each part of it, is of whole groups; rows of one may have different labels (as in the
    published code), and laws are compared whatever these are. Raises ValueError for rows that make no whole groups, and
    without a student that is told its target time or draws.lower.
    """
    if fields.student_to is None or draws.lower is None:
        raise ValueError("imm needs fields.student_to and draws.lower")
    t, r, s = three_angles(draws.uniform, draws.lower, settings)
    x, x_r = interpolate(x0, draws.noise, t), interpolate(x0, draws.noise, r)
    with torch.no_grad():
        moves = (r > s).reshape(-1, *[1] * (x.ndim - 1))  # where r is s the map moves nothing, whatever a network has
        target = torch.where(moves, rotate(x_r, fields.student_to(s)(x_r, r), r, s), x_r)
    F = fields.student_to(s)(x, t)
    pulled = _pulled(rotate(x, F.detach(), t, s), target, t, s, settings)
    _, gap = cos_sin(t - s, x)
    return regress(Direction(F, x[0].numel() * settings.particles / 2 * gap * pulled), t)


def three_angles(uniform: Times, lower: Times, settings: IMMSettings) -> tuple[Times, Times, Times]:
    """t > r >= s, of a group's first row for all its rows. Raises ValueError where rows are no multiple of groups."""
    count, rows = settings.particles, len(uniform)
    if count < 1 or rows % count:
        remedy = "let batch, microbatch and each process's share of the batch be multiples of `particles`"
        raise ValueError(f"imm compares {count} rows with each other, got {rows}: {remedy}")
    uniform, lower = (each[::count].repeat_interleave(count) for each in (uniform, lower))
    largest = SIGMA_MAX / settings.sigma_d
    tau = uniform * largest / (1 + largest)
    t, s = inside(angle_of_flow_time(tau)), angle_of_flow_time(lower * tau)
    return t, torch.maximum(torch.atan((torch.tan(t) - largest / 2**settings.gap_halvings).clamp(min=0)), s), s


def weight(t: Times, settings: IMMSettings) -> Times:
    """sigmoid(b - l) (-dl/dtau) alpha^a / (alpha^2 + tau^2) / 2, with alpha = 1 - tau and l = 2 ln(alpha / tau)."""
    c, s = torch.cos(t), torch.sin(t)
    weighed = torch.sigmoid(settings.weight_shift + 2 * torch.log(s / c))
    return weighed * (c + s) ** (4 - settings.weight_power) * c ** (settings.weight_power - 1) / s


def squared_mmd(ours: Particles, theirs: Particles, scale: Float[Tensor, " groups"], settings: IMMSettings) -> Tensor:
    """Of each group, the mean of the kernel over all pairs of ours, and of theirs, less twice that of one with another.

    `laplace` is exp(-|x - y| / (D scale)), `energy` -|x - y|^2 / D, by which one particle is consistency training.
    """

    def mean(one: Particles, other: Particles) -> Tensor:
        square = (one[:, :, None] - other[:, None, :]).square()
        if settings.kernel == "energy":
            return -square.mean(-1).mean((1, 2))
        length = square.sum(-1).clamp(min=SMALLEST / settings.sigma_d**2).sqrt()
        return torch.exp(-length / (one.shape[-1] * scale[:, None, None])).mean((1, 2))

    return mean(ours, ours) + mean(theirs, theirs) - 2 * mean(ours, theirs)


def _pulled(ends: Batch, target: Batch, t: Times, s: Times, settings: IMMSettings) -> Batch:
    """Each row's gradient of its group's w MMD^2."""
    groups = len(ends) // settings.particles
    of_group = [
        times[:: settings.particles].to(ends.dtype)
        for times in (weight(t, settings), torch.sin(t - s).clamp(min=NEAREST))
    ]
    with torch.enable_grad():
        ends = ends.detach().requires_grad_()
        grouped = [each.reshape(groups, settings.particles, -1) for each in (ends, target)]
        found = of_group[0] * squared_mmd(grouped[0], grouped[1], of_group[1], settings)
        return torch.autograd.grad(found.sum(), ends)[0]
