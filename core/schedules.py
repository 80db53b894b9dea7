"""Schedules are functions step -> number; grids are functions count -> angles.

The clock is whatever the caller counts, optimiser steps or images seen; each docstring says which
one the paper counts.
"""

import math

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from trigbench.core.constants import SIGMA_MAX, SIGMA_MIN
from trigbench.core.trigflow import angle_from_noise_level, check_angles


def tangent_warmup(step: int, steps: int) -> float:
    """r = min(1, step / steps): scales the sine term of the tangent (arXiv 2410.11081, Sec. 4.2; 10 000 steps).

    Raises ValueError for negative counts.

    >>> tangent_warmup(0, 10_000), tangent_warmup(2_500, 10_000), tangent_warmup(20_000, 10_000)
    (0.0, 0.25, 1.0)
    >>> tangent_warmup(0, 0)  # no warm-up
    1.0
    """
    if step < 0 or steps < 0:
        raise ValueError(f"steps are counted from 0, got step {step} of {steps}")
    return min(1.0, step / steps) if steps > 0 else 1.0


def constant_rate(step: int, rate: float, rampup: int = 0) -> float:
    """A constant learning rate after a linear ramp-up over `rampup` steps.

    >>> constant_rate(100, 1e-4)
    0.0001
    >>> constant_rate(50, 1e-3, rampup=100)
    0.0005
    """
    return rate * tangent_warmup(step, rampup)


def inverse_sqrt_rate(step: int, rate: float, reference: int, rampup: int = 0) -> float:
    """rate / sqrt(max(step / reference, 1)) after a linear ramp-up (EDM2; t_ref = 35 000 on ImageNet 64).

    Raises ValueError unless reference > 0.

    >>> inverse_sqrt_rate(35_000, 1e-2, 35_000), inverse_sqrt_rate(140_000, 1e-2, 35_000)
    (0.01, 0.005)
    """
    if not reference > 0:
        raise ValueError(f"the reference of a decay must be positive, got {reference}")
    return constant_rate(step, rate, rampup) / math.sqrt(max(step / reference, 1.0))


def fixed_intervals(step: int, intervals: int) -> int:
    """The number of intervals N, the same at every step (dsCD, App. E.2). Raises ValueError for less than one.

    >>> fixed_intervals(123, 1024)
    1024
    """
    _check_count("intervals", intervals, 1)
    return intervals


def cm_points(step: int, total: int, first: int, last: int) -> int:
    """Grid points N(k) of consistency training (arXiv 2303.01469, Sec. 5 and App. C): s0 = first, s1 = last.

    Raises ValueError unless 0 <= step <= total, total > 0 and 2 <= first <= last.

    >>> [cm_points(k, 800_000, 2, 150) for k in (0, 200_000, 400_000, 800_000)]
    [2, 76, 107, 151]
    """
    _check_curriculum(step, total, first, last, fewest=2)
    if step > total:
        raise ValueError(f"the curriculum ends at step {total}, got {step}")
    square = step / total * ((last + 1) ** 2 - first**2) + first**2
    return math.ceil(math.sqrt(square) - 1) + 1


def ict_points(step: int, total: int, first: int = 10, last: int = 1280) -> int:
    """Grid points N(k) of iCT: doubled at equal intervals (arXiv 2310.14189).

    min(s0 2^floor(k / K'), s1) + 1 with K' = floor(K / (log2 floor(s1 / s0) + 1)). Raises ValueError unless step >= 0
    and 1 <= first <= last, and where training is shorter than the levels are many, so that K' is 0.

    >>> [ict_points(50_000 * i, 400_000) for i in range(8)]
    [11, 21, 41, 81, 161, 321, 641, 1281]
    """
    _check_curriculum(step, total, first, last, fewest=1)
    levels = math.log2(last // first) + 1
    period = math.floor(total / levels)
    if period < 1:
        raise ValueError(f"{total} steps are fewer than the {levels:g} levels from {first} to {last}: train longer")
    return min(first * 2 ** (step // period), last) + 1


def largest_angle(sigma_d: float) -> float:
    """t_max = arctan(sigma_max / sigma_d), where sampling starts (App. G). Raises ValueError unless sigma_d > 0.

    >>> round(largest_angle(0.5), 4)
    1.5645
    """
    if not 0 < sigma_d < math.inf:
        raise ValueError(f"sigma_d must be positive and finite, got {sigma_d}")
    return math.atan(SIGMA_MAX / sigma_d)


def cm_target_decay(points: int, first: int = 2, initial: float = 0.9) -> float:
    """mu(k) = exp(s0 ln mu_0 / N(k)), the decay of consistency training's target (arXiv 2303.01469, Sec. 5).

    Raises ValueError for counts below 1 and mu_0 outside (0, 1).

    >>> round(cm_target_decay(2), 4), round(cm_target_decay(151), 4)
    (0.9, 0.9986)
    """
    _check_count("points", min(points, first), 1)
    if not 0 < initial < 1:
        raise ValueError(f"the decay mu_0 is in (0, 1), got {initial}")
    return math.exp(first * math.log(initial) / points)


def ect_lower_level(
    sigma: Float[Tensor, " batch"], stage: int, ratio: float = 2.0, k: float = 8.0, b: float = 1.0
) -> Float[Tensor, " batch"]:
    """ECT's lower noise level r = max(0, sigma (1 - ratio^-(stage+1) (1 + k logistic(-b sigma)))) (arXiv 2406.14548).

    The gap halves with every stage at ratio 2; where r is 0 the target is the clean image. Raises ValueError for a
    negative stage and a ratio of 1 or less.

    >>> levels = torch.tensor([1.0, 5.0, 80.0])
    >>> [round(float(r), 3) for r in ect_lower_level(levels, 0) / levels]
    [0.0, 0.473, 0.5]
    """
    if stage < 0 or not ratio > 1:
        raise ValueError(f"stages are counted from 0 and the ratio is above 1, got {stage} and {ratio}")
    gap = ratio ** -(stage + 1) * (1 + k * torch.sigmoid(-b * sigma))
    return (sigma * (1 - gap)).clamp(min=0)


def karras_noise_levels(
    points: int, sigma_min: float = SIGMA_MIN, sigma_max: float = SIGMA_MAX, rho: float = 7.0
) -> Float64[Tensor, " points"]:
    """EDM's noise levels, descending from sigma_max to sigma_min (Karras et al. 2022, Eq. 5); one point is sigma_max.

    Raises ValueError for no points, and unless 0 <= sigma_min < sigma_max, finite, and rho > 0.

    >>> [round(float(s), 4) for s in karras_noise_levels(18)[[0, 1, 9, 17]]]
    [80.0, 57.586, 1.9233, 0.002]
    """
    _check_count("points", points, 1)
    if not (0 <= sigma_min < sigma_max < math.inf and 0 < rho < math.inf):
        raise ValueError(f"no noise levels from {sigma_max} down to {sigma_min} with rho {rho}")
    ramp = torch.linspace(0, 1, points, dtype=torch.float64)
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    return (high + ramp * (low - high)) ** rho


def karras_angles(intervals: int, sigma_d: float) -> Float64[Tensor, " edges"]:
    """Ascending angles 0 = t_0 < t_1 < ... < t_N of EDM's spacing, N = intervals (App. E.2).

    The paper leaves open how N counts; here t_1..t_N are Karras' N points and t_0 = 0 is added. Raises ValueError for
    no intervals.

    >>> [round(float(t), 4) for t in karras_angles(256, 0.5)[[0, 1, 256]]]
    [0.0, 0.004, 1.5645]
    """
    rising = karras_noise_levels(intervals).flip(0)
    return torch.cat([torch.zeros(1, dtype=torch.float64), angle_from_noise_level(rising, sigma_d)])


def cm_angles(points: int, sigma_d: float) -> Float64[Tensor, " edges"]:
    """CM's grid: the angles of EDM's N noise levels, ascending from sigma_min, so N - 1 intervals (arXiv 2303.01469).

    Raises ValueError for fewer than 2 points.

    >>> [round(float(t), 4) for t in cm_angles(18, 0.5)[[0, 17]]]
    [0.004, 1.5645]
    """
    _check_count("points", points, 2)
    return angle_from_noise_level(karras_noise_levels(points).flip(0), sigma_d)


def uniform_angles(intervals: int, t_max: float) -> Float64[Tensor, " edges"]:
    """Ascending angles from 0 to t_max in equal steps. Raises ValueError for no intervals, t_max outside (0, pi/2].

    >>> uniform_angles(2, 1.5).tolist()
    [0.0, 0.75, 1.5]
    """
    _check_count("intervals", intervals, 1)
    check_angles((0.0, t_max), "ascending", at_least=2)
    return torch.linspace(0, t_max, intervals + 1, dtype=torch.float64)


def _check_count(what: str, count: int, fewest: int) -> None:
    if count < fewest:
        raise ValueError(f"{what}: need {fewest} or more, got {count}")


def _check_curriculum(step: int, total: int, first: int, last: int, fewest: int) -> None:
    if step < 0 or total < 1 or not fewest <= first <= last:
        found = f"s0 = {first}, s1 = {last}, step {step} of {total}"
        raise ValueError(f"a curriculum needs {fewest} <= s0 <= s1 and steps from 0, got {found}")
