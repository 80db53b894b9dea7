"""Editing with a velocity in many steps: what zero-shot editing by a map in few is held against."""

import itertools
import math
from collections.abc import Callable, Iterable
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor

from trigbench.core.operators import Observation, Operator, fill, observe, replace
from trigbench.core.samplers import Callback
from trigbench.core.samplers.stochastic import solve_ddim_eta
from trigbench.core.trigflow import Batch, Field, check_angles, cos_sin, interpolate

Pull = Callable[[Tensor], tuple[Tensor, ...]]
"""The derivative of a function of points, transposed."""


def repaint(
    field: Field,
    operator: Operator,
    observation: Observation,
    x: Batch,
    times: Float[Tensor, " edges"],
    noise: Iterable[Tensor],
    resamplings: int = 1,
    callback: Callback | None = None,
) -> Batch:
    """RePaint (arXiv 2201.09865, Alg. 1): an ancestral step, what is seen noised to where it ends and put in, and
    all of that noised back and done again, `resamplings` times at each step in all, the last step too.

    `times` descend in [0, pi/2], 0 last; x is noise at the first, in unit variance. `noise` is standard normal, a slice
    (batch, *shape) each time that it is asked: of the step, of what is seen, and of going back. `callback` gets each
    ancestral step (core.samplers.Callback). Raises ValueError for other times, less than one resampling, noise that
    ends early, and as core.operators.replace.
    """
    check_angles(times, "descending", at_least=2)
    if float(times[-1]) != 0 or resamplings < 1:
        raise ValueError(
            f"need times that end at 0 and 1 resampling or more, got {float(times[-1]):.6g}, {resamplings}"
        )
    slices, known, number = iter(noise), fill(operator, observation).to(x), 0
    for now, then in itertools.pairwise(times):
        for again in range(resamplings):
            count = number
            told = None if callback is None else lambda _, t, p, out, n=count: callback(n, t, p, out)
            lower = solve_ddim_eta(field, x, torch.stack([now, then]), [_next(slices, x)], 1.0, told)
            number += 1
            seen = interpolate(known, _next(slices, x), then.expand(len(x))) if then > 0 else known
            x = replace(operator, lower, observe(operator, seen))
            if again < resamplings - 1:
                x = _raised(x, _next(slices, x), float(then), float(now))
    return x


def pseudoinverse_guided(field: Field, operator: Operator, observation: Observation) -> Field:
    """The velocity given an observation by PiGDM, pseudoinverse guidance (Song et al., ICLR 2023), without noise: a
    field for any solver of the ODE.

    Given x_t, data count as normal about the denoiser D(x_t) with variance sin(t)^2 in every direction, as data N(0, I)
    are. Then F(x, t) changes by -J^T A^T (y - A D) / (sin t cos t), where J is the derivative of D by x_t: every
    evaluation takes a gradient beside. It has no value at 0 and pi/2. Raises ValueError, when made, as
    core.operators.fill.
    """
    fill(operator, observation)

    def guided(x: Tensor, t: Tensor) -> Tensor:
        def denoiser(point: Tensor) -> tuple[Tensor, Tensor]:
            F = field(point, t)
            c, s = cos_sin(t, point)
            return c * point - s * F, F

        data, pull, F = cast("tuple[Tensor, Pull, Tensor]", torch.func.vjp(denoiser, x, has_aux=True))
        missing = fill(operator, observation.to(x) - observe(operator, data))
        (gradient,) = pull(missing)
        c, s = cos_sin(t, x)
        return F - gradient / (s * c)

    return guided


def _raised(x: Batch, z: Tensor, u: float, t: float) -> Batch:
    """From u up to t by noise, as the process goes."""
    kept = math.cos(t) / math.cos(u)
    return kept * x + math.sqrt(max(0.0, math.sin(t) ** 2 - (kept * math.sin(u)) ** 2)) * z


def _next(slices: Iterable[Tensor], x: Batch) -> Tensor:
    z = next(iter(slices), None)
    if z is None or z.shape != x.shape:
        found = "none is left" if z is None else f"it is of {tuple(z.shape)}"
        raise ValueError(f"need a noise slice of {tuple(x.shape)}, and {found}")
    return z
