"""Stochastic solvers: along the probability-flow ODE, with noise put in on the way."""

import itertools
import math
from collections.abc import Iterable, Iterator, Sized

import torch
from jaxtyping import Float
from torch import Tensor

from trigbench.core.samplers import Callback
from trigbench.core.samplers.ode import heun_step, solve
from trigbench.core.trigflow import Batch, Field, check_angles, cos_sin, rotate, tan


def solve_ddim_eta(
    field: Field,
    x: Batch,
    times: Float[Tensor, " edges"],
    noise: Iterable[Tensor],
    eta: float,
    callback: Callback | None = None,
) -> Batch:
    """DDIM that replaces a part of the predicted noise (arXiv 2010.02502, Eqs. 12 and 16), from `eta` 0, which is DDIM
    bit for bit, to 1, which is DDPM's ancestral sampling.

    From t to u the fresh noise has std eta sin(u) / sin(t) sqrt(1 - cos(t)^2 / cos(u)^2), and the predicted noise the
    rest of sin(u). Where the data are one point all marginals are exact at every eta; in general as the steps shrink.

    `times` are two or more angles that descend in [0, pi/2]. `noise` is standard normal, a slice (batch, *shape) a
    step: a tensor of them, or an iterator that draws each when it is asked. `callback` gets each step with the point
    that it starts from and the data predicted there (core.samplers.Callback). Raises ValueError for other times, an
    eta outside [0, 1], and noise that ends early or has another shape.
    """
    check_angles(times, "descending", at_least=2)
    if not 0 <= eta <= 1:
        raise ValueError(f"eta is from 0 (DDIM) to 1 (DDPM), got {eta:.6g}")
    slices = _slices(noise, len(times) - 1)
    for number, (now, then) in enumerate(itertools.pairwise(times)):
        t, u = now.expand(len(x)), then.expand(len(x))
        F, z = field(x, t), _next(slices, number, x)
        if callback is not None:
            callback(number, t, x, rotate(x, F, t, torch.zeros_like(t)))
        ends = rotate(x, F, t, u)
        if eta and then > 0:
            c, s = cos_sin(t, x)
            fresh, kept = _shares(float(now), float(then), eta)
            ends = ends + (kept - math.sin(float(then))) * (s * x + c * F) + fresh * z
        x = ends
    return x


def solve_heun_churn(
    field: Field,
    x: Batch,
    times: Float[Tensor, " edges"],
    noise: Iterable[Tensor],
    sigma_d: float,
    churn: float,
    churn_min: float = 0.0,
    churn_max: float = math.inf,
    churn_noise: float = 1.0,
    callback: Callback | None = None,
) -> Batch:
    """Karras' stochastic sampler (EDM, arXiv 2206.00364, Alg. 2): noise lifts x from its level sigma = sigma_d tan t
    to (1 + g) sigma, and a step of Heun's method goes down from there.

    g = min(churn / steps, sqrt(2) - 1) where churn_min <= sigma <= churn_max, else 0: S_churn, S_tmin, S_tmax in EDM's
    units, and `churn_noise`, the std of the noise, S_noise. `churn` 0 is Heun's method bit for bit.

    `times` are two or more angles that descend in [0, pi/2); `noise` as of `solve_ddim_eta`. `callback` gets each step
    with the lifted angle and point, and the data predicted there. Raises ValueError for other times, a negative churn
    or churn_noise, levels that do not ascend from 0, a sigma_d that is not positive, and noise as `solve_ddim_eta`.
    """
    check_angles(times, "descending", at_least=2)
    if not (0 < sigma_d < math.inf and churn >= 0 and 0 <= churn_min <= churn_max and 0 <= churn_noise < math.inf):
        said = f"churn {churn}, churn_min {churn_min}, churn_max {churn_max}, churn_noise {churn_noise}"
        raise ValueError(f"sigma_d is positive, churn's levels ascend, and nothing is below 0: got {sigma_d}, {said}")
    steps = len(times) - 1
    slices, most = _slices(noise, steps), min(churn / steps, math.sqrt(2) - 1)
    for number, (now, then) in enumerate(itertools.pairwise(times)):
        z = _next(slices, number, x)
        if most and churn_min <= sigma_d * float(tan(now)) <= churn_max:
            now, x = _lifted(x, z, now, 1 + most, churn_noise)  # noqa: PLW2901
        x = solve(heun_step, field, x, torch.stack([now, then]), _numbered(callback, number))
    return x


def _shares(t: float, u: float, eta: float) -> tuple[float, float]:
    """How much noise at u is fresh, and how much of the predicted one is kept: together sin(u), in squares."""
    fresh = eta * math.sin(u) * math.sqrt(math.sin(t - u) * math.sin(t + u)) / (math.sin(t) * math.cos(u))
    return fresh, math.sqrt(max(0.0, math.sin(u) ** 2 - fresh**2))


def _lifted(x: Batch, z: Tensor, t: Tensor, factor: float, std: float) -> tuple[Tensor, Tensor]:
    """(angle, point) where the noise level is `factor` times as high, by noise of that std."""
    up = torch.atan(factor * tan(t))
    c, s = math.cos(float(up)), math.sin(float(up))
    return up, c / math.cos(float(t)) * x + s * math.sqrt(1 - factor**-2) * std * z


def _numbered(callback: Callback | None, number: int) -> Callback | None:
    if callback is None:
        return None
    return lambda _, t, x, data: callback(number, t, x, data)


def _slices(noise: Iterable[Tensor], steps: int) -> Iterator[Tensor]:
    if isinstance(noise, Sized) and len(noise) < steps:
        raise ValueError(f"need one noise slice per step, got {len(noise)} for {steps} steps")
    return iter(noise)


def _next(slices: Iterator[Tensor], number: int, x: Batch) -> Tensor:
    z = next(slices, None)
    if z is None or z.shape != x.shape:
        found = "none is left" if z is None else f"it is of {tuple(z.shape)}"
        raise ValueError(f"need a noise slice of {tuple(x.shape)} for step {number}, and {found}")
    return z
