"""DDIM at even angles, the steps that progressive distillation halves (arXiv 2202.00512)."""

import torch
from jaxtyping import Float
from torch import Tensor

from trigbench.core.samplers.ode import ddim_step, solve
from trigbench.core.trigflow import Field


def solve_ddim_even(
    field: Field, x: Float[Tensor, "batch *shape"], times: Float[Tensor, " edges"]
) -> Float[Tensor, "batch *shape"]:
    """DDIM in as many steps as `times` has, all of one angle, between the first and the last of them.

    The cosine schedule's steps, even in its time. What lies between the first time and the last is not looked at.
    Raises ValueError as core.samplers.ode.solve does.
    """
    ramp = torch.linspace(1, 0, len(times), dtype=torch.float64, device=times.device)
    return solve(ddim_step, field, x, times[-1] + (times[0] - times[-1]) * ramp)
