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

from trigbench.core.constants import EMA_RAMPUP

Parameters = Mapping[str, Tensor]
SHOWN = 5
"""Names that an error gives."""


def half_life_beta(batch: int, half_life: float, seen: int | None = None, rampup: float = EMA_RAMPUP) -> float:
    """Decay per step for a half-life counted in images; with `seen`, at most rampup * seen (EDM's start).

    Raises ValueError unless batch, half-life and rampup are positive and seen is not negative.

    >>> round(half_life_beta(512, 0.5e6), 8)
    0.99929047
    """
    if not (batch > 0 and half_life > 0 and rampup > 0 and (seen is None or seen >= 0)):
        raise ValueError(f"no half-life of {half_life} at batch {batch}, {seen} images seen, rampup {rampup}")
    if seen is not None:
        half_life = min(half_life, max(rampup * seen, 1e-8))
    return 0.5 ** (batch / half_life)


def power_function_beta(step: int, gamma: float) -> float:
    """Decay at optimiser step >= 1 of the average with profile t^gamma: (1 - 1/step)^(gamma + 1).

    Raises ValueError for earlier steps, and unless gamma > -1.

    >>> power_function_beta(1, 16.97)
    0.0
    """
    if not (step >= 1 and gamma > -1):
        raise ValueError(f"the average begins at step 1 with an exponent above -1, got step {step}, gamma {gamma}")
    return (1 - 1 / step) ** (gamma + 1)


def gamma_from_relative_width(width: float) -> float:
    """The exponent whose profile t^gamma has relative standard deviation sigma_rel = width (EDM2, Eq. 126).

    The largest root of (gamma + 2)^2 (gamma + 3) width^2 = gamma + 1. Raises ValueError unless width is in
    (0, 1 / sqrt(12)], where the profile does not fall.

    >>> round(gamma_from_relative_width(0.05), 3), round(gamma_from_relative_width(0.10), 3)
    (16.972, 6.937)
    """
    if not 0 < width <= 12**-0.5:
        raise ValueError(f"the relative width of a rising profile is in (0, 0.2887], got {width}")
    inverse = width**-2
    return float(np.roots([1, 7, 16 - inverse, 12 - inverse]).real.max())


def update(average: Parameters, parameters: Parameters, beta: float) -> dict[str, Tensor]:
    """beta * average + (1 - beta) * parameters, as new tensors, in the average's dtype.

    Raises ValueError unless both have the same names and shapes, all are of floating point, the average's in float32
    or float64, and beta is in [0, 1]. In bfloat16 an average never moves: (1 - beta) of a difference is less than half
    the last of its 8 bits. Of what is no parameter (counts, a batch norm's statistics) there is no average: copy it.
    """
    if not 0 <= beta <= 1:
        raise ValueError(f"beta must be in [0, 1], got {beta}")
    _check_alike(average, parameters)
    narrow = [name for name, value in average.items() if value.dtype not in (torch.float32, torch.float64)]
    if narrow:
        remedy = "begin with copies of the parameters in float32"
        raise ValueError(f"an average in {average[narrow[0]].dtype} would not move ({narrow[0]}); {remedy}")
    own = {name: value.detach().to(average[name].dtype) for name, value in parameters.items()}
    return {name: torch.lerp(kept, own[name], 1 - beta) for name, kept in average.items()}


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

    Least squares between profiles (EDM2, App. C.2), in float64, then divided by their sum as in EDM2's released code:
    weights that do not sum to 1 would scale parameters that hardly change. Clocks need a common unit only.

    Raises ValueError unless there is one time and one gamma per snapshot, all times are positive, all gammas above -1,
    and both finite.
    """
    t, g = np.asarray(times, float), np.asarray(gammas, float)
    finite = np.isfinite([*t, *g, time, gamma]).all()
    if len(t) != len(g) or not len(t) or not (finite and min(*t, time) > 0 and min(*g, gamma) > -1):
        found = f"{times} and {gammas} for {time} and {gamma}"
        raise ValueError(f"every snapshot has a time above 0 and a gamma above -1, got {found}")
    gram = profile_products(t, g, t, g)
    target = profile_products(t, g, np.array([float(time)]), np.array([float(gamma)]))
    weights = np.linalg.lstsq(gram, target, rcond=None)[0][:, 0]
    return weights / weights.sum()


def reconstruct(snapshots: Sequence[Parameters], coefficients: Float64[ndarray, " snapshots"]) -> dict[str, Tensor]:
    """The weighted sum of snapshots, accumulated in float64, in the snapshots' dtype.

    Raises ValueError unless there is one coefficient per snapshot, and all snapshots have the same names and shapes
    and are of floating point.
    """
    if not snapshots or len(snapshots) != len(coefficients):
        raise ValueError(f"need one coefficient per snapshot, got {len(coefficients)} for {len(snapshots)}")
    for snapshot in snapshots:
        _check_alike(snapshots[0], snapshot)
    result = {name: torch.zeros_like(value, dtype=torch.float64) for name, value in snapshots[0].items()}
    for coefficient, snapshot in zip(coefficients, snapshots, strict=True):
        for name, value in snapshot.items():
            result[name] += float(coefficient) * value.double()
    return {name: value.to(snapshots[0][name].dtype) for name, value in result.items()}


def _check_alike(one: Parameters, other: Parameters) -> None:
    differing = sorted(one.keys() ^ other.keys())
    if differing:
        raise ValueError(f"parameters of two networks: only one of them has {', '.join(differing[:SHOWN])}")
    for name, value in one.items():
        if value.shape != other[name].shape:
            raise ValueError(f"{name} has two shapes: {tuple(value.shape)} and {tuple(other[name].shape)}")
        for tensor in (value, other[name]):
            if not tensor.dtype.is_floating_point:
                raise ValueError(f"{name} holds {tensor.dtype}, which has no average; copy it")
