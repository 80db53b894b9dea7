"""What effects by seed say: interval, p and verdict, once more from docs/verdicts.md, apart from what judges.

In plain numpy and scipy. p is found as it is defined, by trying levels, and not by the judge's formulae.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from scipy import special, stats

NUMBERS = ("effect", "low", "high", "p", "seeds")
BISECTIONS = 40


@dataclass(frozen=True)
class Reread:
    """A verdict and its numbers; None where there is none."""

    verdict: str
    effect: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    seeds: int = 0


def among(one: Mapping[int, float], seeds: Collection[int]) -> dict[int, float]:
    """Numbers by seed, of these seeds alone."""
    return {seed: value for seed, value in one.items() if seed in seeds}


@cache
def levels_of(n: int) -> np.ndarray:
    """Of the intervals between order statistics of n seeds."""
    return 2 * stats.binom.cdf(np.arange(n // 2 + 1), n, 0.5)


def interval(values: np.ndarray, alpha: float) -> tuple[float, float]:
    """Of the median: between order statistics, or of few seeds Student's with all of them."""
    n, x = len(values), np.sort(values)
    levels = levels_of(n)
    if n < 8 or alpha < levels[0]:
        if not np.isfinite(x).all():
            return (x[0], x[0]) if x[0] == x[-1] else (-math.inf, math.inf)
        half = -special.stdtrit(n - 1, alpha / 2) * x.std(ddof=1) / math.sqrt(n)
        return float(min(x.mean() - half, x[0])), float(max(x.mean() + half, x[-1]))
    if alpha >= 1:
        return float(np.median(x)), float(np.median(x))
    k = int((levels <= alpha).sum()) - 1
    w = (alpha - levels[k]) / (levels[k + 1] - levels[k])
    ends = [(x[k], x[k + 1]), (x[n - 1 - k], x[n - 2 - k])]
    low, high = (float(outer if w == 0 else (1 - w) * outer + w * inner) for outer, inner in ends)
    return low, high


def word(low: float, high: float, same: bool, d: float) -> str:
    """The one table."""
    if -d < low and high < d:
        return "reproduced" if same else "too small to matter"
    return "opposite" if high < -d or (same and low > d) else "reproduced" if low > d else "inconclusive"


def said_at(effects: list[np.ndarray], same: bool, d: float, alpha: float) -> tuple[str, float, float]:
    """(word, low, high) of all comparisons together, by their intervals."""
    ends, strict = [interval(e, alpha) for e in effects], [interval(e, alpha / len(effects)) for e in effects]
    low = min(low for low, _ in ends)
    high = max(high for _, high in ends) if same else min(high for _, high in strict)
    if not same:
        return word(low, high, False, d), low, high
    if all(word(*end, True, d) == "reproduced" for end in ends):
        return "reproduced", low, high
    outside = any(word(*end, True, d) == "opposite" for end in strict)
    return "opposite" if outside else "inconclusive", low, high


def least_level(effects: list[np.ndarray], same: bool, d: float) -> float:
    """The least alpha at which something is said: intervals of smaller levels hold those of greater ones."""
    if said_at(effects, same, d, 1.0)[0] == "inconclusive":
        return 1.0
    low, high = -100.0, 0.0  # of its logarithm
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        said = said_at(effects, same, d, math.exp(middle))[0] != "inconclusive"
        low, high = (low, middle) if said else (middle, high)
    return math.exp(high)


def found(effects: list[np.ndarray], rule: Mapping[str, Any], share: float = 1.0) -> Reread:
    """Of effects by seed, turned so that the claimed side is above zero; `share` is that of alpha which a look has."""
    same, d, seeds, alpha = rule["direction"] == "same", float(rule["smallest"]), min(map(len, effects)), 0.05 * share
    finite, sign = [bool(np.isfinite(e).all()) for e in effects], -1.0 if rule["direction"] == "less" else 1.0
    mixed = [seeds < 8 and not ok and len(set(e)) > 1 for e, ok in zip(effects, finite, strict=True)]
    if any(mixed) or any(np.isnan(e).any() for e in effects):
        return Reread("inconclusive", seeds=seeds)
    medians = [float(np.median(e)) for e in effects]
    which = max(range(len(effects)), key=lambda i: abs(medians[i]) if same and seeds >= 3 else -medians[i])
    own, effect = effects[which], sign * medians[which]
    if seeds < 3:
        ends = interval(own, 0.05) if len(own) > 1 and finite[which] else None
        return Reread("inconclusive", effect if finite[which] else None, *turned(ends, sign), None, len(own))
    said, low, high = said_at(effects, same, d, alpha)
    if not finite[which] and seeds < 8:
        return Reread(said, effect, effect, effect, None, seeds)
    return Reread(said, effect, *turned((low, high), sign), min(1.0, least_level(effects, same, d) / share), seeds)


def turned(ends: tuple[float, float] | None, sign: float) -> tuple[float | None, float | None]:
    """An interval as its rule has it."""
    if ends is None:
        return None, None
    return ends if sign > 0 else (-ends[1], -ends[0])


def after_holm(verdicts: list[str], levels: list[float | None]) -> list[str]:
    """What is left of verdicts by Holm's adjustment among those with a p: the k-th smallest of m, times m - k + 1."""
    tested = sorted((p, i) for i, p in enumerate(levels) if p is not None)
    left, worst = list(verdicts), 0.0
    for rank, (p, i) in enumerate(tested):
        worst = max(worst, (len(tested) - rank) * p)
        left[i] = verdicts[i] if worst < 0.05 else "inconclusive"
    return left
