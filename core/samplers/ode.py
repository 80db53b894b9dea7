"""Solvers of the probability-flow ODE in TrigFlow: one step each, and loops that apply them.

DDIM is a rotation; the second-order steps correct it with a finite difference of the predicted
noise or of the predicted data (arXiv 2410.11081, Eqs. 26-28). Any step to u = 0 is a plain DDIM
step, as in EDM's sampler, because log tan u diverges there.
"""

import itertools
import math

import torch
from jaxtyping import Float
from torch import Tensor

from trigbench.core.samplers import Callback, Step
from trigbench.core.trigflow import Batch, Field, Times, any_positive, check_angles, consistency_map, cos_sin, rotate


def ddim_step(field: Field, x: Batch, t: Times, u: Times) -> Batch:
    """First order: rotate along F(x, t) (Eq. 26)."""
    return rotate(x, field(x, t), t, u)


def dpm_solver_2s_step(field: Field, x: Batch, t: Times, u: Times, ratio: float = 0.5) -> Batch:
    """Single-step DPM-Solver-2 (Eq. 27): one extra evaluation at `ratio` of the way in log tan t."""
    F = field(x, t)
    ddim = rotate(x, F, t, u)
    if not any_positive(u):
        return ddim
    middle = _between(t, u, ratio)
    x_middle = rotate(x, F, t, middle)
    c, s = cos_sin(t, x)
    c_m, s_m = cos_sin(middle, x)
    change = (s_m * x_middle + c_m * field(x_middle, middle)) - (s * x + c * F)
    _, s_step = cos_sin(t - u, x)
    return _unless_zero(u, ddim - s_step / (2 * ratio * c) * change, ddim)


def heun_step(field: Field, x: Batch, t: Times, u: Times) -> Batch:
    """EDM's Heun step: DPM-Solver-2S with its middle at the end (App. G.1)."""
    return dpm_solver_2s_step(field, x, t, u, ratio=1.0)


def dpm_solver_pp_2s_step(field: Field, x: Batch, t: Times, u: Times, ratio: float = 0.5) -> Batch:
    """Single-step DPM-Solver++-2 (Eq. 28): as 2S, with the predicted data in place of the noise."""
    F = field(x, t)
    zero = torch.zeros_like(t)
    ddim = rotate(x, F, t, u)
    if not any_positive(u):
        return ddim
    middle = _between(t, u, ratio)
    x_middle = rotate(x, F, t, middle)
    change = consistency_map(field, x_middle, middle) - rotate(x, F, t, zero)
    _, s = cos_sin(t, x)
    _, s_step = cos_sin(t - u, x)
    return _unless_zero(u, ddim + s_step / (2 * ratio * s) * change, ddim)


def solve(
    step: Step, field: Field, x: Batch, times: Float[Tensor, " edges"], callback: Callback | None = None
) -> Batch:
    """Apply a single-step solver along descending `times` (first: where x is; last: where to end).

    `callback` gets each step with the point that it starts from and the data predicted there (core.samplers.Callback).
    Raises ValueError unless these are two or more angles that descend in [0, pi/2]; pi/2 itself, where ln tan t
    diverges, is for DDIM alone.
    """
    _check(times, from_noise=step is ddim_step)
    for number, (now, then) in enumerate(itertools.pairwise(times)):
        t, u = now.expand(len(x)), then.expand(len(x))
        if callback is None:
            x = step(field, x, t, u)
            continue
        start, outputs = x, list[Tensor]()
        x = step(_noted(field, start, t, outputs), start, t, u)
        data = rotate(start, outputs[0], t, torch.zeros_like(t)) if outputs else None
        callback(number, t, start, data)
    return x


def solve_dpm_solver_pp_2m(
    field: Field, x: Batch, times: Float[Tensor, " edges"], callback: Callback | None = None
) -> Batch:
    """Multi-step DPM-Solver++-2 (Eq. 28 with s' > s): one evaluation a step, the first step DDIM.

    `callback` as of `solve`. Raises ValueError unless `times` are two or more angles that descend in [0, pi/2), as
    of `solve`.
    """
    _check(times, from_noise=False)
    previous: tuple[Tensor, Tensor] | None = None
    for number, (now, then) in enumerate(itertools.pairwise(times)):
        t, u = now.expand(len(x)), then.expand(len(x))
        F = field(x, t)
        data = rotate(x, F, t, torch.zeros_like(t))
        x_next = rotate(x, F, t, u)
        if previous is not None and bool(then > 0):
            t_before, data_before = previous
            ratio = (_log_tan(now) - _log_tan(t_before)) / (_log_tan(now) - _log_tan(then))
            _, s = cos_sin(t, x)
            _, s_step = cos_sin(t - u, x)
            x_next = x_next + s_step / (2 * ratio.to(x.dtype) * s) * (data_before - data)
        if callback is not None:
            callback(number, t, x, data)
        previous = (now, data)
        x = x_next
    return x


def _noted(field: Field, x: Batch, t: Times, outputs: list[Tensor]) -> Field:
    """The field, its outputs at (x, t) kept."""

    def noted(point: Tensor, time: Tensor) -> Tensor:
        F = field(point, time)
        if point is x and time is t:
            outputs.append(F)
        return F

    return noted


def _check(times: Float[Tensor, " edges"], from_noise: bool) -> None:
    check_angles(times, "descending", at_least=2)
    if not from_noise and not times.is_meta and float(times[0]) >= math.pi / 2:
        raise ValueError(
            f"a step of second order has no value at pi/2, got times from {float(times[0]):.6g}; start at largest_angle"
        )


def _log_tan(t: Tensor) -> Tensor:
    return torch.tan(t).log()


def _between(t: Times, u: Times, ratio: float) -> Times:
    """The angle at `ratio` of the way from t to u in log tan; u itself at ratio 1, and where u = 0."""
    if ratio == 1.0:
        return u
    inside = torch.atan(torch.exp((1 - ratio) * _log_tan(t) + ratio * _log_tan(u)))
    return torch.where(u > 0, inside, u)


def _unless_zero(u: Times, corrected: Batch, ddim: Batch) -> Batch:
    ends = (u > 0).reshape(-1, *[1] * (ddim.ndim - 1))
    return torch.where(ends, corrected, ddim)
