"""Averages of parameters as pure updates, and reconstruction of averages that were not tracked.

Half-life averages as in EDM; power-function averages and their post-hoc reconstruction as in EDM2
(Karras et al., arXiv 2312.02696, Sec. 3 and App. C).
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float64
from numpy import ndarray
from torch import Tensor

Parameters = Mapping[str, Tensor]


def half_life_beta(batch: int, half_life: float, seen: int | None = None, rampup: float = 0.05) -> float:
    """Decay per step for a half-life counted in images; with `seen`, at most rampup * seen (EDM's start).

    >>> round(half_life_beta(512, 0.5e6), 8)
    0.99929047
    """
    if seen is not None:
        half_life = min(half_life, max(rampup * seen, 1e-8))
    return 0.5 ** (batch / half_life)


def power_function_beta(step: int, gamma: float) -> float:
    """Decay at optimiser step >= 1 of the average with profile t^gamma: (1 - 1/step)^(gamma + 1).

    >>> power_function_beta(1, 16.97)
    0.0
    """
    return (1 - 1 / step) ** (gamma + 1)


def gamma_from_relative_width(width: float) -> float:
    """The exponent whose profile t^gamma has relative standard deviation sigma_rel = width (EDM2, Eq. 126).

    The largest root of (gamma + 2)^2 (gamma + 3) width^2 = gamma + 1; width in (0, 0.28).

    >>> round(gamma_from_relative_width(0.05), 3), round(gamma_from_relative_width(0.10), 3)
    (16.972, 6.937)
    """
    inverse = width**-2
    return float(np.roots([1, 7, 16 - inverse, 12 - inverse]).real.max())


def update(average: Parameters, parameters: Parameters, beta: float) -> dict[str, Tensor]:
    """beta * average + (1 - beta) * parameters, as new tensors."""
    return {name: torch.lerp(average[name], value.detach(), 1 - beta) for name, value in parameters.items()}


def profile_products(
    times_a: Float64[ndarray, " a"],
    gammas_a: Float64[ndarray, " a"],
    times_b: Float64[ndarray, " b"],
    gammas_b: Float64[ndarray, " b"],
) -> Float64[ndarray, "a b"]:
    """Integrals of p_i p_j with p(tau) = (gamma + 1) tau^gamma / t^(gamma + 1) on [0, t]."""
    t, g = times_a[:, None], gammas_a[:, None]
    u, h = times_b[None, :], gammas_b[None, :]
    overlap = np.minimum(t, u)
    # in powers of ratios <= 1, which cannot overflow for large exponents
    return (g + 1) * (h + 1) / (g + h + 1) * (overlap / t) ** g * (overlap / u) ** h * overlap / (t * u)


def posthoc_coefficients(
    times: Sequence[float], gammas: Sequence[float], time: float, gamma: float
) -> Float64[ndarray, " snapshots"]:
    """Weights of tracked snapshots (time_i, gamma_i) whose sum is nearest to the average (time, gamma).

    Least squares between profiles (EDM2, App. C.2), in float64. Clocks need a common unit only.
    """
    t, g = np.asarray(times, float), np.asarray(gammas, float)
    gram = profile_products(t, g, t, g)
    target = profile_products(t, g, np.array([float(time)]), np.array([float(gamma)]))
    return np.linalg.lstsq(gram, target, rcond=None)[0][:, 0]


def reconstruct(snapshots: Sequence[Parameters], coefficients: Float64[ndarray, " snapshots"]) -> dict[str, Tensor]:
    """The weighted sum of snapshots, accumulated in float64, in the snapshots' dtype."""
    result = {name: torch.zeros_like(value, dtype=torch.float64) for name, value in snapshots[0].items()}
    for coefficient, snapshot in zip(coefficients, snapshots, strict=True):
        for name, value in snapshot.items():
            result[name] += float(coefficient) * value.double()
    return {name: value.to(snapshots[0][name].dtype) for name, value in result.items()}
