"""What is estimated of effects, and how surely: the median over seeds, its interval, tails, powers, looks. No tables.

The interval is that of the sign test, between order statistics, interpolated linearly (docs/verdicts.md says why, and
benchmarks/verdicts.py by how often it errs). It assumes that seeds are drawn alike and apart, and nothing of how
effects scatter. With fewer than FEW seeds, and for levels that so few signs cannot reach, it is Student's t interval,
widened to all seeds: that does assume residuals that are normal.
"""

import itertools
import math
from collections.abc import Sequence
from functools import cache

import numpy as np
from scipy import stats

FEW = 8
"""From so many seeds on signs alone decide."""
POWER = 0.8
MOST = 1000
"""Seeds that are counted when it is asked how many it would take."""
EFFICIENCY = math.sqrt(math.pi / 2)
"""Standard error of a median over that of a mean, of normal residuals."""


def limits(values: np.ndarray, alpha: float) -> tuple[np.ndarray, np.ndarray]:
    """(low, high) of the interval for the median at level 1 - alpha; values have a seed along their last axis.

    Infinite values are ranks like others where signs decide, that is with FEW seeds and alpha >= 2^(1 - seeds). Raises
    ValueError for fewer than two seeds.
    """
    if values.shape[-1] < 2:
        raise ValueError(f"one seed has no interval; got values of shape {values.shape}")
    return _low(values, alpha), -_low(-values, alpha)


def _low(values: np.ndarray, alpha: float) -> np.ndarray:
    count, ordered = values.shape[-1], np.sort(values, axis=-1)
    levels = sign_levels(count)
    if not signs_decide(count, alpha):
        spread = values.std(axis=-1, ddof=1) / math.sqrt(count)
        return np.minimum(values.mean(axis=-1) - student_quantile(1 - alpha / 2, count - 1) * spread, ordered[..., 0])
    below = int(np.searchsorted(levels, alpha, side="right")) - 1
    here, above = ordered[..., below], ordered[..., below + 1]
    share = (alpha - levels[below]) / (levels[below + 1] - levels[below])
    return here if share == 0 else (1 - share) * here + share * above


def signs_decide(count: int, alpha: float) -> bool:
    """Whether the sign test alone may reach the level with so many seeds."""
    return count >= FEW and alpha >= sign_levels(count)[0]


@cache  # judging asks for it some thousand times, of a handful of counts
def sign_levels(count: int) -> np.ndarray:
    """Two-sided level of the interval from the k-th smallest to the k-th largest value, k = 1, 2, ...; read-only."""
    levels = np.minimum(2 * stats.binom.cdf(np.arange((count + 1) // 2), count, 0.5), 1.0)
    levels.setflags(write=False)
    return levels


@cache
def student_quantile(share: float, freedom: int) -> float:
    """Of Student's t: below it lies that share."""
    return stats.t.ppf(share, freedom)


def p_above(values: np.ndarray, bound: float) -> float:
    """The least alpha at which the interval of these values (seeds) lies wholly above the bound.

    Below 2^(1 - seeds), where all signs agree, it is Student's, and so are those of fewer than FEW seeds.
    """
    count, ordered = len(values), np.sort(values)
    if bound < ordered[0]:
        tail = _student(values, bound)
        return min(tail, float(sign_levels(count)[0])) if count >= FEW else tail
    if count < FEW:
        return 1.0
    levels = sign_levels(count)
    points = np.append(ordered[: len(levels)], np.median(values))
    reached = np.append(levels, 1.0)
    at_it = reached[points == bound]
    return float(at_it.max()) if len(at_it) else float(np.interp(bound, points, reached))


def p_below(values: np.ndarray, bound: float) -> float:
    """The least alpha at which the interval lies wholly below the bound."""
    return p_above(-values, -bound)


def _student(values: np.ndarray, bound: float) -> float:
    """Two-sided p of a t test, of values that all lie above the bound."""
    if not np.isfinite(values).all():
        return 0.0 if (values == math.inf).all() else 1.0
    error = float(values.std(ddof=1)) / math.sqrt(len(values))
    return 0.0 if error == 0 else float(2 * stats.t.sf((float(values.mean()) - bound) / error, len(values) - 1))


# --- power ---------------------------------------------------------------------------------------


def seeds_needed(effect: float, deviation: float, region: tuple[float, float], alpha: float) -> int | None:
    """The least number of seeds with which the interval lies in the region (low, high) with probability POWER.

    If the effect is the true one, and residuals are normal with that deviation. None where MOST seeds are not enough,
    and where the effect does not lie in the region.
    """
    low, high = region
    if not low < effect < high or not math.isfinite(deviation):
        return None
    seeds = np.arange(FEW, MOST + 1)
    error = np.maximum(EFFICIENCY * deviation / np.sqrt(seeds), 1e-300)
    reach = stats.t.ppf(1 - alpha / 2, seeds - 1)
    power = stats.norm.cdf((effect - low) / error - reach) + stats.norm.cdf((high - effect) / error - reach) - 1
    enough = seeds[power >= POWER]
    return int(enough[0]) if len(enough) else None


def correlation(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Pearson's, over seeds; None of fewer than three, and where a side does not scatter."""
    both = np.array([first, second], float)
    if both.ndim != 2 or both.shape[1] < 3 or not np.isfinite(both).all() or (np.ptp(both, axis=1) == 0).any():
        return None
    return float(np.corrcoef(both)[0, 1])


# --- looks and families --------------------------------------------------------------------------


def shares_of_alpha(looks: Sequence[int]) -> list[float]:
    """What each look may spend of alpha: together all of it, so that by Boole's inequality no more is spent in all,
    whatever residuals are and however looks depend on each other.

    The shares are the steps of Lan and DeMets' spending function of Pocock's kind (Biometrika 70, 1983), ln(1 + (e - 1)
    n / n_most); raises ValueError unless looks grow.
    """
    if not looks or looks[0] < 1 or any(b <= a for a, b in itertools.pairwise(looks)):
        raise ValueError(f"looks must be growing numbers of seeds; got {list(looks)}")
    spent = [math.log1p((math.e - 1) * look / looks[-1]) for look in looks]
    return [now - before for now, before in zip(spent, [0.0, *spent], strict=False)]


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p values: below alpha, the chance of any false verdict among all stays below alpha."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted
