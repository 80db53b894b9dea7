"""A few rows of a product in which every two values of different axes stand together."""

import itertools
from collections.abc import Callable, Iterable
from typing import Any

Row = tuple[Any, ...]


def pairs_of(row: Row) -> set[tuple[int, Any, int, Any]]:
    """Of the values of a row, by the numbers of their axes; values have to be hashable."""
    return {(i, one, j, other) for (i, one), (j, other) in itertools.combinations(enumerate(row), 2)}


def pairwise(*axes: Iterable[Any], allowed: Callable[..., bool] = lambda *row: True) -> list[Row]:
    """Rows chosen one after the other, each the first of those that bring most pairs which no earlier one has.

    Of rows that are allowed, and of the pairs that stand in any of them. Always the same for the same axes, which are
    two or more.
    """
    rows, chosen = [row for row in itertools.product(*axes) if allowed(*row)], list[Row]()
    missing = set[tuple[int, Any, int, Any]]().union(*map(pairs_of, rows))
    while missing:
        chosen.append(max(rows, key=lambda row: len(missing & pairs_of(row))))
        missing -= pairs_of(chosen[-1])
    return chosen
