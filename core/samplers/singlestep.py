"""The third-order single-step solver of the probability-flow ODE, DPM-Solver-3 (arXiv 2206.00927, Alg. 2)."""

import torch
from jaxtyping import Float
from torch import Tensor

from trigbench.core.trigflow import Batch, Field, Times, any_positive, cos_sin, rotate

FIRST, SECOND = 1 / 3, 2 / 3
"""r_1 and r_2: how far the two points between lie, in ln tan."""


def dpm_solver_3s_step(field: Field, x: Batch, t: Times, u: Times) -> Batch:
    """From x at t to u by the noise predicted at t and at two angles between: three evaluations, one where u is 0.

    t, u are angles in [0, pi/2] with u < t; a step to 0, where ln tan diverges, is DDIM, sample by sample. It has no
    value at t = pi/2.
    """
    F = field(x, t)
    ddim = rotate(x, F, t, u)
    if not any_positive(u):
        return ddim
    c, s = cos_sin(t, x)
    noise = s * x + c * F
    below = torch.where(u > 0, u, t / 2)  # any angle: what comes of it is not taken

    def change(point: Tensor, angle: Times) -> Tensor:
        cosine, sine = cos_sin(angle, x)
        return sine * point + cosine * field(point, angle) - noise

    first, second = (_between(t, below, ratio) for ratio in (FIRST, SECOND))
    bend = change(rotate(x, F, t, first), first)
    point = rotate(x, F, t, second) - SECOND / FIRST * _second_order(t, second, x) * bend
    ends = ddim - _second_order(t, below, x) / SECOND * change(point, second)
    return torch.where((u > 0).reshape(-1, *[1] * (x.ndim - 1)), ends, ddim)


def _second_order(t: Times, u: Times, like: Batch) -> Float[Tensor, "batch ..."]:
    """sin(u) ((e^h - 1) / h - 1), h = ln tan t - ln tan u."""
    h = t.tan().log() - u.tan().log()
    found = torch.sin(t - u) / (h * torch.cos(t)) - torch.sin(u)
    return found.reshape(-1, *[1] * (like.ndim - 1)).to(like.dtype)


def _between(t: Times, u: Times, ratio: float) -> Times:
    return torch.atan(torch.exp((1 - ratio) * t.tan().log() + ratio * u.tan().log()))
