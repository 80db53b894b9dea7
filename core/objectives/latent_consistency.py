"""Latent consistency distillation: CD in noise prediction, with skipped timesteps (arXiv 2310.04378)."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from trigbench.core.constants import BOUNDARY_STD, SIGMA_D
from trigbench.core.fields import Draws, Fields
from trigbench.core.flow_maps import huber
from trigbench.core.objectives.regression import Regression, regress
from trigbench.core.samplers import Step
from trigbench.core.samplers.ode import ddim_step
from trigbench.core.schedules import largest_angle
from trigbench.core.tangents import Direction
from trigbench.core.trigflow import Batch, Times, cos_sin, interpolate, rotate

Column = Float[Tensor, "batch ..."]
Distance = Literal["huber", "squared"]
SCALED = 1000 * 10
"""The last timestep in the units of the boundary's scalings: the published code's ten times a whole number to 1000."""


@dataclass(frozen=True)
class LCMSettings:
    """Of `lcm`, in unit variance, which latents have."""

    sigma_d: float = SIGMA_D
    """Standard deviation of the data in data units, above 0."""
    solver: Step | None = None
    """The teacher's step; None is DDIM's."""
    timesteps: int = 1000
    """Of the grid, even in the angle from 0 to t_max."""
    skip: int = 20
    """k: timesteps of one step of the teacher."""
    distance: Distance = "squared"
    """The paper's, or the published code's, of each element, which is the norm beyond c and so weighs a small bias, as
    of a skipped step, by up to 1 / c."""
    distance_constant: float = 1e-3
    """c of the Huber distance sqrt(d^2 + c^2) - c."""


def lcm(fields: Fields, x0: Batch, draws: Draws, settings: LCMSettings) -> Regression:
    """Latent consistency distillation: the lower point is `skip` timesteps away, in one step of the guided teacher.

    In our angles the paper's noise is sin(t) x + cos(t) F, so that (x - sin(t) noise) / cos(t) is cos(t) x - sin(t) F,
    its DDIM step a rotation, and its guidance, (1 + omega) of one noise less omega of the other, fields.teacher's at
    s = 1 + omega. Nothing is divided by cos t here.

    The paper draws n from 1 to N - k and compares t_{n+k} with t_n, which trains no map from below t_{k+1}; its code
    goes down to 0 from there, and so does this. Raises ValueError without a teacher.
    """
    if fields.teacher is None:
        raise ValueError("lcm needs fields.teacher")
    t_max = largest_angle(settings.sigma_d)
    t, u = skipped_pair(draws.uniform, settings.timesteps, settings.skip, t_max)
    x = interpolate(x0, draws.noise, t)
    with torch.no_grad():
        x_u = (settings.solver or ddim_step)(fields.teacher, x, t, u)
        target = latent_map(x_u, (fields.target or fields.student)(x_u, u), u, t_max)
        # at u = 0 the map is the identity for every network, also for one that has no value there
        target = torch.where((u > 0).reshape(-1, *[1] * (x.ndim - 1)), target, x_u)
    F = fields.student(x, t)
    with torch.no_grad():
        _, s = cos_sin(t, x)
        _, c_out = boundary_scalings(t, t_max, x)
        gap = latent_map(x, F, t, t_max) - target
        slope = _slope(gap, settings.distance, settings.distance_constant)
    return regress(Direction(F, c_out * s * slope), t)


def skipped_pair(uniform: Times, timesteps: int, skip: int, t_max: float) -> tuple[Times, Times]:
    """t_n and t_{n-k}, 0 where there is none, of n drawn evenly from 1 to `timesteps`: t_n = n t_max / timesteps."""
    upper = (uniform * timesteps).floor().clamp(max=timesteps - 1) + 1
    return upper * (t_max / timesteps), (upper - skip).clamp(min=0) * (t_max / timesteps)


def latent_map(x: Batch, F: Batch, t: Times, t_max: float) -> Batch:
    """f = c_skip x + c_out (cos(t) x - sin(t) F), the identity at 0 (Eq. 9)."""
    c_skip, c_out = boundary_scalings(t, t_max, x)
    return c_skip * x + c_out * rotate(x, F, t, torch.zeros_like(t))


def boundary_scalings(t: Times, t_max: float, like: Batch) -> tuple[Column, Column]:
    """c_skip and c_out of the published code, whose timestep 1000 is t_max.

    c_skip is 0.0025 at its first timestep and 2.5e-9 at its last: above the very smallest angles the map is that of
    sCM, cos(t) x - sin(t) F, which the student is sampled as.
    """
    scaled = (SCALED / t_max * t).reshape(-1, *[1] * (like.ndim - 1))
    square = scaled.square() + BOUNDARY_STD**2
    return (BOUNDARY_STD**2 / square).to(like.dtype), (scaled / square.sqrt()).to(like.dtype)


def _slope(gap: Batch, distance: Distance, constant: float) -> Batch:
    """Half the derivative of the distance of each element. Raises ValueError for an unknown distance."""
    if distance == "huber":
        return huber(gap, constant, each=True)
    if distance == "squared":
        return gap
    raise ValueError(f"unknown distance {distance!r}; choose huber or squared")
