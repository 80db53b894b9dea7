"""DDIM at even angles, the steps that progressive distillation halves (arXiv 2202.00512)."""

import torch
from jaxtyping import Float
from torch import Tensor

from trigbench.core.samplers import Callback
from trigbench.core.samplers.ode import ddim_step, solve
from trigbench.core.trigflow import Batch, Field


def solve_ddim_even(field: Field, x: Batch, times: Float[Tensor, " edges"], callback: Callback | None = None) -> Batch:
    """DDIM in as many steps as `times` makes, all of one angle, from the first of them to the last.

    The cosine schedule's steps, even in its time. What lies between the first time and the last is not looked at.
    `callback` as of core.samplers.ode.solve, which also says what raises ValueError.
    """
    ramp = torch.linspace(1, 0, len(times), dtype=torch.float64, device=times.device)
    return solve(ddim_step, field, x, times[-1] + (times[0] - times[-1]) * ramp, callback)
