"""Which label each sample gets: every class as often as the data have it."""

import heapq
from collections.abc import Sequence
from functools import cache

import numpy as np

ROUNDING = 1e-9


def labels_in_shares(rows: range, classes: int, shares: Sequence[float] | None = None) -> np.ndarray:
    """The labels of samples `rows`, int64: a function of a sample's row alone, and not of how many there are.

    Among the first n samples, for every n, each class has its share of n to within one sample. Shares are in any unit;
    where they are equal, or None, every class comes in turn.

    >>> labels_in_shares(range(3, 7), 3).tolist()
    [0, 1, 2, 0]
    >>> labels_in_shares(range(10), 2, [9, 1]).tolist()
    [0, 0, 0, 0, 0, 1, 0, 0, 0, 0]
    """
    if are_equal(shares):
        return np.arange(rows.start, rows.stop) % classes
    assert shares is not None
    long_enough = 2 ** max(10, (rows.stop - 1).bit_length())  # of few lengths, so that they are computed once
    return _in_turn(tuple(shares), long_enough)[rows.start : rows.stop]


def are_equal(shares: Sequence[float] | None) -> bool:
    """Whether every class has the same share."""
    return shares is None or len(set(shares)) == 1


def said_of_labels(shares: Sequence[float] | None) -> str:
    """What a protocol says of the labels of samples.

    >>> said_of_labels([9, 1])
    'as the data have them: from 10% to 90% of a class'
    """
    if are_equal(shares):
        return "uniform: every class in turn"
    assert shares is not None
    low, high = (100 * number / sum(shares) for number in (min(shares), max(shares)))
    return f"as the data have them: from {low:.3g}% to {high:.3g}% of a class"


@cache
def _in_turn(shares: tuple[float, ...], length: int) -> np.ndarray:
    """Tijdeman's solution of the chairman assignment problem (Discrete Mathematics 32, 1980, p. 323).

    With K classes none is ever more than 1 - 1 / (2 K - 2) samples from its share: of those that are owed at least
    1 / (2 K - 2) the next is the class whose debt would first come to the bound.
    """
    there = np.flatnonzero(shares).tolist()
    share = {label: shares[label] / sum(shares) for label in there}
    least = 1 / max(2 * len(there) - 2, 1)
    given, labels = dict.fromkeys(there, 0), np.empty(length, np.int64)
    waiting = [(least / share[label], label) for label in there]  # how many samples there are when it is owed enough
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
