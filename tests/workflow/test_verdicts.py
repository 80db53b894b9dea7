"""Verdicts err at most as often as they say, and say what is missing or diverged."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from trigbench.workflow.claims.ledger import Rule
from trigbench.workflow.claims.verdicts import (
    Direction,
    Effects,
    Judgement,
    classify,
    effects,
    holm,
    holm_verdicts,
    judged,
    p_value,
    totals,
)
from trigbench.workflow.errors import BenchError

SIMULATIONS = 40_000
D = 0.5
DIRECTIONS: tuple[Direction, ...] = ("less", "more", "same")
NO_CURVES = pd.DataFrame(columns=["experiment", "arm", "seed", "metric", "x", "value"])


def _judged(values: list[float], direction: Direction = "more", smallest: float = D) -> Judgement:
    return judged(Effects(tuple(range(len(values))), tuple(values)), direction, smallest)


def _shares(truth: float, seeds: int, direction: Direction, spread: float = 1.0) -> dict[str, float]:
    """How often each verdict is said where the true effect is `truth`."""
    values = np.random.default_rng(seeds).normal(truth, spread, (SIMULATIONS, seeds))
    half = stats.t.ppf(0.975, seeds - 1) * values.std(axis=1, ddof=1) / math.sqrt(seeds)
    mean = values.mean(axis=1)
    found = classify(mean - half, mean + half, direction, D)
    for row in range(20):
        assert _judged(list(values[row]), direction).verdict == found[row]
    return {verdict: float((found == verdict).mean()) for verdict in ("reproduced", "not reproduced")}


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_at_the_boundary_each_verdict_is_false_in_at_most_one_case_of_forty(direction: Direction, seeds: int) -> None:
    slack = 4 * math.sqrt(0.025 * 0.975 / SIMULATIONS)
    for spread in (0.05, 1.0):
        for boundary in {"less": [-D], "more": [D], "same": [-D, D]}[direction]:
            shares = _shares(boundary, seeds, direction, spread)
            assert shares["reproduced"] <= 0.025 + slack
            assert shares["not reproduced"] <= 0.025 + slack


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_true_claim_is_rarely_refuted_and_a_false_one_rarely_confirmed(direction: Direction) -> None:
    for seeds in (3, 5):
        for away in (0.2, 2.0):
            true = {"less": -D - away, "more": D + away, "same": 0.0}[direction]
            false = {"less": -D + away, "more": D - away, "same": D + away}[direction]
            assert _shares(true, seeds, direction)["not reproduced"] <= 0.03
            assert _shares(false, seeds, direction)["reproduced"] <= 0.03


def test_a_clear_effect_is_found_and_more_seeds_find_more() -> None:
    three, five = (_shares(D + 0.4, seeds, "more", spread=0.2)["reproduced"] for seeds in (3, 5))
    assert 0.3 < three < 0.6
    assert five > 0.85
    assert _shares(0.0, 5, "same", spread=0.1)["reproduced"] > 0.99
    assert _shares(0.0, 5, "more", spread=0.1)["not reproduced"] > 0.99


@given(
    st.lists(st.floats(-3, 3), min_size=3, max_size=6).filter(lambda v: np.ptp(v) > 1e-3),
    st.sampled_from(DIRECTIONS),
    st.floats(0.01, 1),
)
def test_the_p_value_says_what_the_interval_says(values: list[float], direction: Direction, smallest: float) -> None:
    found = _judged(values, direction, smallest)
    assert found.p == p_value(np.array(values), direction, smallest)
    assert found.p is not None
    if abs(found.p - 0.05) > 1e-9:
        assert (found.p < 0.05) == (found.verdict != "inconclusive")


@given(st.lists(st.floats(-3, 3), min_size=3, max_size=6), st.floats(0.01, 1))
def test_less_is_more_turned_round(values: list[float], smallest: float) -> None:
    less, more = _judged(values, "less", smallest), _judged([-v for v in values], "more", smallest)
    assert (less.verdict, less.p) == (more.verdict, more.p)


@pytest.mark.parametrize(
    ("values", "direction", "verdict"),
    [
        ([0.01, -0.02, 0.0], "same", "reproduced"),
        ([0.9, 1.0, 0.95], "same", "not reproduced"),
        ([-0.9, -1.0, -0.95], "same", "not reproduced"),
        ([0.0, 0.4, 0.9], "same", "inconclusive"),
        ([0.9, 1.0, 0.95], "more", "reproduced"),
        ([0.9, 1.0, 0.95], "less", "not reproduced"),
        ([0.1, 0.2, 0.15], "more", "not reproduced"),
        ([-0.2, 1.4, 0.9], "more", "inconclusive"),
        ([1.0, 1.0, 1.0], "more", "reproduced"),
        ([0.5, 0.5, 0.5], "more", "inconclusive"),
        ([9.0, 9.0], "more", "inconclusive"),
        ([9.0], "more", "inconclusive"),
    ],
)
def test_verdicts_by_hand(values: list[float], direction: Direction, verdict: str) -> None:
    found = _judged(values, direction)
    assert found.verdict == verdict
    assert found.seeds == len(values)
    assert ("fewer than 3 seeds" in found.note) == (len(values) < 3)


INF = math.inf


@pytest.mark.parametrize(
    ("values", "direction", "verdict"),
    [
        ([INF, INF, INF], "more", "reproduced"),
        ([INF, INF, INF], "less", "not reproduced"),
        ([-INF, -INF, -INF], "less", "reproduced"),
        ([-INF, -INF, -INF], "same", "not reproduced"),
        ([INF, 1.0, 1.1], "more", "inconclusive"),
        ([INF, -INF, INF], "more", "inconclusive"),
        ([math.nan, INF, INF], "more", "inconclusive"),
        ([math.nan] * 3, "same", "inconclusive"),
        ([INF, INF], "more", "inconclusive"),
    ],
)
def test_divergence_decides_only_where_it_decides_every_seed(values, direction: Direction, verdict: str) -> None:
    found = _judged(values, direction)
    assert found.verdict == verdict
    decided = verdict != "inconclusive"
    assert (found.effect in (INF, -INF)) == decided
    assert not any(isinstance(n, float) and math.isnan(n) for n in (found.effect, found.low, found.high, found.p))
    assert found.note


def test_holm_by_a_hand_example() -> None:
    # sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1 and never falling: 0.02, 0.03, 0.06, 0.06
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    judgements = [Judgement("reproduced", p=p) for p in (0.01, 0.04, 0.03, 0.005)]
    judgements.insert(1, Judgement("not run"))
    assert holm_verdicts(judgements) == ["reproduced", "not run", "inconclusive", "inconclusive", "reproduced"]


def test_totals_count_what_was_tested_and_expect_false_ones() -> None:
    table = pd.DataFrame(
        {
            "verdict": ["reproduced", "not reproduced", "inconclusive", "inconclusive", "not run"],
            "holm_verdict": ["reproduced", "inconclusive", "inconclusive", "inconclusive", "not run"],
            "p": [0.001, 0.04, 0.5, None, None],
        }
    )
    found = totals(table)
    assert found["tested"] == 3
    assert found["inconclusive"] == 2
    assert (found["reproduced (Holm)"], found["not reproduced (Holm)"]) == (1, 0)
    assert found["false at most"] == pytest.approx(0.075)


# --- effects from tables -------------------------------------------------------------------------


def _rule(of, against, **more) -> Rule:
    about = {"experiment": "e", "metric": "fd_train", "scale": "log_ratio", "direction": "less", "smallest": 0.05}
    return Rule.model_validate({**about, "of": of, "against": against, **more})


def _rows(arm: str, values: list[float], metric: str = "fd_train", **more) -> pd.DataFrame:
    rows = [
        {"experiment": "e", "arm": arm, "metric": metric, "seed": s, "value": v, "steps": 1}
        | {"status": "finished" if math.isfinite(v) else "diverged", "guidance": None, "mid_time": None}
        | more
        for s, v in enumerate(values)
    ]
    return pd.DataFrame(rows)


def _runs(*parts: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([part.astype({"guidance": float, "mid_time": float}) for part in parts])


def test_effects_pair_by_seed_and_sum_over_terms() -> None:
    runs = _runs(_rows("a", [2.0, 4.0]), _rows("b", [1.0, 1.0]), _rows("c", [3.0, 8.0]), _rows("d", [6.0, 2.0]))
    simple = effects(_rule({"arms": "a"}, {"arms": "b"}), runs, NO_CURVES)
    assert simple.values == pytest.approx((math.log(2), math.log(4)))
    ratio = effects(_rule([{"arms": "a"}, {"arms": "d"}], [{"arms": "b"}, {"arms": "c"}]), runs, NO_CURVES)
    assert ratio.values == pytest.approx((math.log(2 * 6 / 3), math.log(4 * 2 / 8)))
    bound = effects(_rule({"arms": "a"}, [{"arms": "b"}, {"value": 2}]), runs, NO_CURVES)
    assert bound.values == pytest.approx((0.0, math.log(2)))
    best = effects(_rule({"arms": "a"}, {"arms": ["c", "d"], "take": "min"}), runs, NO_CURVES)
    assert best.values == pytest.approx((math.log(2 / 3), math.log(4 / 2)))
    gap = effects(_rule({"arms": "a"}, {"arms": "b"}, scale="difference"), runs, NO_CURVES)
    assert gap.values == pytest.approx((1.0, 3.0))


def test_selectors_choose_rows_and_several_rows_must_be_taken_somehow() -> None:
    runs = _runs(
        _rows("a", [1.0, 1.0], guidance=1.0), _rows("a", [3.0, 4.0], guidance=1.5), _rows("b", [2.0, 2.0], guidance=1.0)
    )
    one = effects(_rule({"arms": "a", "guidance": 1.5}, {"arms": "b"}), runs, NO_CURVES)
    assert one.values == pytest.approx((math.log(1.5), math.log(2)))
    lowest = effects(_rule({"arms": "a", "take": "min"}, {"arms": "b"}), runs, NO_CURVES)
    assert lowest.values == pytest.approx((math.log(0.5), math.log(0.5)))
    with pytest.raises(BenchError, match=r"fd_train of a has 2 rows for one seed(.|\n)*claims.yaml(.|\n)*remedy"):
        effects(_rule({"arms": "a"}, {"arms": "b"}), runs, NO_CURVES)


def test_what_is_missing_is_named_and_seeds_that_an_arm_lacks_are_left_out() -> None:
    runs = _runs(_rows("a", [1.0, 2.0, 3.0, 4.0]), _rows("b", [1.0, 1.0, 1.0]))
    found = judged(effects(_rule({"arms": "a"}, {"arms": "b"}), runs, NO_CURVES), "more", 0.05)
    assert found.seeds == 3
    assert "left out" in found.note
    assert "3" in found.note
    absent = _rule({"arms": "a", "steps": 2}, {"arms": ["b", "c"], "take": "min"})
    none = judged(effects(absent, runs, NO_CURVES), "less", 0.05)
    assert none.verdict == "not run"
    assert none.note == "there is no fd_train of a, steps 2; no fd_train of c"
    unknown_column = effects(_rule({"arms": "a", "sampler": "few"}, {"arms": "b"}), runs, NO_CURVES)
    assert unknown_column.missing == ("fd_train of a, sampler few",)
    apart = _runs(_rows("a", [1.0]), _rows("b", [1.0]).assign(seed=7))
    assert effects(_rule({"arms": "a"}, {"arms": "b"}), apart, NO_CURVES).missing == ("a seed that all arms have",)


def test_curves_are_read_at_a_point_or_all_along() -> None:
    points = [
        {"experiment": "e", "arm": arm, "seed": seed, "metric": "map_rms", "x": x, "value": (seed + 1) * k * (1 + x)}
        for arm, k in (("a", 1.0), ("b", 10.0))
        for seed in (0, 1)
        for x in (0.0, 0.5, 1.0)
    ]
    curves, runs = pd.DataFrame(points), _runs(_rows("a", [1.0, 1.0]))

    def ratio(of: dict, against: dict) -> tuple[float, ...]:
        rule = _rule({"arms": "a", **of}, {"arms": "a", **against}, metric="map_rms")
        return effects(rule, runs, curves).values

    assert ratio({"x": "last"}, {"x": "first"}) == pytest.approx((math.log(2),) * 2)
    assert ratio({"x": 0.52}, {"x": "first"}) == pytest.approx((math.log(1.5),) * 2)
    far = _rule({"arms": "a", "x": 0.7}, {"arms": "a", "x": "first"}, metric="map_rms")
    assert effects(far, runs, curves).missing == ("map_rms of a, x 0.7",)
    assert ratio({"x": "all", "take": "max"}, {"x": "all", "take": "mean"}) == pytest.approx((math.log(2 / 1.5),) * 2)


def test_a_diverged_run_is_worst_even_where_it_left_no_row() -> None:
    lost = _rows("a", [INF] * 3)
    runs = _runs(lost, _rows("b", [1.0] * 3))
    assert _verdict_of(runs, "less") == ("not reproduced", INF)
    assert _verdict_of(runs, "more") == ("reproduced", INF)
    both = _runs(lost, _rows("b", [INF] * 3))
    assert _verdict_of(both, "same") == ("inconclusive", None)
    points = [
        {"experiment": "e", "arm": "b", "seed": s, "metric": "map_rms", "x": 0.1, "value": 1.0, "steps": 1}
        for s in (0, 1, 2)
    ]
    rule = _rule({"arms": "a", "x": 0.1}, {"arms": "b", "x": 0.1}, metric="map_rms")
    assert effects(rule, runs, pd.DataFrame(points)).values == (INF,) * 3
    recall = _runs(lost.assign(metric="recall", value=math.nan), _rows("b", [0.5] * 3, "recall"))
    covered = _rule({"arms": "a"}, {"arms": "b"}, metric="recall", scale="difference")
    assert effects(covered, recall, NO_CURVES).values == (-0.5,) * 3


def _verdict_of(runs: pd.DataFrame, direction: Direction) -> tuple[str, float | None]:
    found = judged(effects(_rule({"arms": "a"}, {"arms": "b"}), runs, NO_CURVES), direction, 0.05)
    return found.verdict, found.effect
