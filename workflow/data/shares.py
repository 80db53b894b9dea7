"""Which label each sample gets: every class as often as the data have it."""

import heapq
from collections.abc import Sequence
from functools import cache

import numpy as np

ROUNDING = 1e-9


def labels_in_shares(rows: range, shares: Sequence[float]) -> np.ndarray:
    """The labels of samples `rows`, int64: a function of a sample's row alone, and not of how many there are.

    Among the first n samples, for every n, each class has its share of n to within one sample. Shares are in any unit;
    where they are equal, every class comes in turn.

    >>> labels_in_shares(range(3, 7), [1, 1, 1]).tolist()
    [0, 1, 2, 0]
    >>> labels_in_shares(range(10), [9, 1]).tolist()
    [0, 0, 0, 0, 0, 1, 0, 0, 0, 0]
    """
    if are_equal(shares):
        return np.arange(rows.start, rows.stop) % len(shares)
    long_enough = 2 ** max(10, (rows.stop - 1).bit_length())  # of few lengths, so that they are computed once
    return _in_turn(tuple(shares), long_enough)[rows.start : rows.stop].copy()  # theirs who get them


def are_equal(shares: Sequence[float]) -> bool:
    """Whether every class has the same share."""
    return len(set(shares)) == 1


def said_of_labels(shares: Sequence[float]) -> str:
    """What a protocol says of the labels of samples.

    >>> said_of_labels([9, 1])
    'as the data have them: from 10% to 90% of a class'
    """
    if are_equal(shares):
        return "uniform: every class in turn"
    low, high = (100 * number / sum(shares) for number in (min(shares), max(shares)))
    return f"as the data have them: from {low:.3g}% to {high:.3g}% of a class"


@cache
def _in_turn(shares: tuple[float, ...], length: int) -> np.ndarray:
    """Tijdeman's solution of the chairman assignment problem (Discrete Mathematics 32, 1980, p. 323).

    With K classes none is ever more than 1 - 1 / (2 K - 2) samples from its share: of those that are owed at least
    1 / (2 K - 2) the next is the class whose debt would first come to the bound.
    """
    total = sum(shares)
    share = {label: number / total for label, number in enumerate(shares) if number / total > 0}
    least = 1 / max(2 * len(share) - 2, 1)
    given, labels = dict.fromkeys(share, 0), np.empty(length, np.int64)
    waiting = [(least / share[label], label) for label in share]  # how many samples there are when it is owed enough
    heapq.heapify(waiting)
    owed: list[tuple[float, int]] = []  # how many there are when its debt comes to the bound
    for row in range(length):
        while waiting and waiting[0][0] <= row + 1 + ROUNDING:
            label = heapq.heappop(waiting)[1]
            heapq.heappush(owed, ((given[label] + 1 - least) / share[label], label))
        label = heapq.heappop(owed)[1]
        labels[row], given[label] = label, given[label] + 1
        heapq.heappush(waiting, ((given[label] + least) / share[label], label))
    return labels
