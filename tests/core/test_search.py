"""The search for middle times finds what it should on functions whose minimum is known."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trigbench.core.samplers.search import greedy_times, ternary_search


@given(st.floats(0.05, 1.5), st.floats(0.5, 3.0))
def test_ternary_search_finds_the_minimum_of_a_unimodal_function(best: float, power: float) -> None:
    found = ternary_search(lambda t: abs(t - best) ** power, 0.0, 1.56, 1e-3)
    assert abs(found - best) < 2e-3


def test_greedy_times_descend_and_later_times_do_not_move_earlier_ones() -> None:
    asked = []

    def score(times) -> float:
        asked.append(tuple(times))
        return abs(times[0] - 1.1) + (abs(times[1] - 0.6) if len(times) > 1 else 0.0)

    times = greedy_times(score, 2, 0.1, 1.5, 1e-3)
    assert times == pytest.approx((1.1, 0.6), abs=2e-3)
    assert {t[0] for t in asked if len(t) == 2} == {times[0]}


def test_a_search_for_no_time_asks_nothing() -> None:
    assert greedy_times(lambda times: 1 / 0, 0, 0.1, 1.5, 1e-3) == ()
