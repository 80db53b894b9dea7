"""Choosing the times of multi-step sampling (arXiv 2303.01469, Sec. 5: greedy, one ternary search a point)."""

import math
from collections.abc import Callable, Sequence

from trigbench.core.trigflow import check_angles

Score = Callable[[Sequence[float]], float]
"""Middle times, descending -> what is to be small."""


def ternary_search(score: Callable[[float], float], low: float, high: float, width: float) -> float:
    """Where a unimodal score is smallest, to within `width` (> 0), by thirds; the middle of what is left.

    Raises ValueError unless width > 0 and low <= high, both finite.
    """
    if not (width > 0 and -math.inf < low <= high < math.inf):
        raise ValueError(f"a search needs low <= high and a width above 0, got {low}, {high} and {width}")
    while high - low > width:
        third = (high - low) / 3
        left, right = low + third, high - third
        if score(left) < score(right):
            high = right
        else:
            low = left
    return (low + high) / 2


def greedy_times(score: Score, count: int, low: float, high: float, width: float) -> tuple[float, ...]:
    """`count` middle times in (low, high), descending: each is found by ternary search below those before it.

    Earlier times stay as they are, as the paper does; the score should be noiseless (the same noise at
    every call), since a ternary search trusts every comparison. Raises ValueError for a negative count, unless
    0 <= low < high <= pi/2, and as ternary_search does.
    """
    if count < 0:
        raise ValueError(f"cannot choose {count} times")
    check_angles((low, high), "ascending", at_least=2)
    times: tuple[float, ...] = ()
    for _ in range(count):
        upper = times[-1] if times else high
        fixed = times
        times = (*times, ternary_search(lambda t, fixed=fixed: score((*fixed, t)), low, upper, width))
    return times
