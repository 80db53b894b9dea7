"""A pairwise choice of a grid has every pair, in few rows."""

import itertools

import pytest

from tests.pairwise import pairs_of, pairwise

AXES = {
    "two": ("ab", "xyz"),
    "three": ("abcd", range(7), (True, False, None)),
    "of one value": ("a", range(3), "xy"),
    "four": ("ab", "ab", "ab", "ab"),
}


@pytest.mark.parametrize("name", AXES)
def test_every_two_values_of_different_axes_stand_together(name: str) -> None:
    axes, rows = AXES[name], pairwise(*AXES[name])
    covered = set().union(*map(pairs_of, rows))
    for (i, one), (j, other) in itertools.combinations(enumerate(axes), 2):
        assert {(i, a, j, b) for a, b in itertools.product(one, other)} <= covered
    assert set(rows) <= set(itertools.product(*axes)) and len(set(rows)) == len(rows)
    assert rows == pairwise(*axes)


def test_there_are_few() -> None:
    assert len(pairwise(*AXES["three"])) == 4 * 7, "of 84; no choice has fewer"
    assert len(pairwise(*AXES["two"])) == 6, "a product of two axes is its own"
    assert len(pairwise(*AXES["four"])) <= 6, "of 16"
    assert pairwise("ab", ()) == []


def test_what_is_not_allowed_is_in_none_and_its_pairs_stand_in_others() -> None:
    axes = AXES["three"]
    rows = pairwise(
        *axes, allowed=lambda letter, number, _: (letter, number) != ("a", 3) and (letter, _) != ("b", None)
    )
    assert not any(row[:2] == ("a", 3) or (row[0], row[2]) == ("b", None) for row in rows)
    covered = set().union(*map(pairs_of, rows))
    assert {(0, "a", 2, None), (1, 3, 2, None), (0, "b", 1, 3)} <= covered
    assert pairs_of(("a", 3)) & covered == set()
