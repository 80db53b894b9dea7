"""Verdicts err at most as often as they say, whatever residuals are, and say what is missing, diverged or untested."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from trigbench.workflow.claims.effects import Effects, comparisons
from trigbench.workflow.claims.intervals import (
    correlation,
    holm,
    limits,
    p_above,
    p_below,
    seeds_needed,
    shares_of_alpha,
    sign_levels,
)
from trigbench.workflow.claims.ledger import Rule
from trigbench.workflow.claims.verdicts import (
    EXCLUDED,
    Direction,
    Judgement,
    classify,
    fresh,
    holm_verdicts,
    judged,
    judged_exactly,
    judged_in_looks,
    totals,
)
from trigbench.workflow.claims.words import needed_words, power_words
from trigbench.workflow.errors import BenchError

SIMULATIONS = 20_000
SLACK = 4 * math.sqrt(0.025 * 0.975 / SIMULATIONS)
D = 0.5
DIRECTIONS: tuple[Direction, ...] = ("less", "more", "same")
NO_CURVES = pd.DataFrame(columns=["experiment", "arm", "seed", "metric", "x", "value"])
INF = math.inf


def _effects(*values: float, name: str = "", first: int = 0) -> Effects:
    return Effects(tuple(range(first, first + len(values))), tuple(values), name=name)


def _judged(values, direction: Direction = "more", smallest: float = D) -> Judgement:
    return judged([_effects(*values)], direction, smallest)


RESIDUALS = {
    "normal": lambda draw, shape: draw.normal(size=shape),
    "lognormal": lambda draw, shape: np.exp(draw.normal(size=shape)) - 1,
    "t of two degrees": lambda draw, shape: draw.standard_t(2, size=shape),
}
"""With a median of zero."""


def _drawn(kind: str, seeds: int, count: int = SIMULATIONS) -> np.ndarray:
    return RESIDUALS[kind](np.random.default_rng(seeds), (count, seeds))


# --- the interval --------------------------------------------------------------------------------


@pytest.mark.parametrize("seeds", [8, 12, 20, 60])
@pytest.mark.parametrize("kind", RESIDUALS)
def test_from_eight_seeds_on_the_interval_holds_its_level_on_each_side_whatever_residuals_are(kind, seeds) -> None:
    low, high = limits(_drawn(kind, seeds), 0.05)
    assert (low > 0).mean() <= 0.025 + SLACK
    assert (high < 0).mean() <= 0.025 + SLACK
    assert ((low > 0) | (high < 0)).mean() > 0.015, "and is not wider than it must be"


def test_fewer_seeds_take_student_s_interval_and_all_seeds() -> None:
    for kind, most in (("normal", 0.025), ("t of two degrees", 0.025), ("lognormal", 1 / 32)):
        low, high = limits(_drawn(kind, 5), 0.05)
        assert max((low > 0).mean(), (high < 0).mean()) <= most + SLACK
    low, high = limits(np.array([1.0, 2.0, 9.0]), 0.05)
    assert low == pytest.approx(4 - 4.302652730 * np.std([1, 2, 9], ddof=1) / math.sqrt(3))
    assert low < 1 and high > 9
    with pytest.raises(ValueError, match="one seed has no interval"):
        limits(np.array([1.0]), 0.05)


def test_the_interval_by_a_hand_example() -> None:
    values = np.arange(1.0, 13.0)  # of 12 seeds two lie outside of [X(3), X(10)] with 2 (1 + 12 + 66) / 4096
    levels = sign_levels(12)
    assert levels[:4] == pytest.approx([2 / 4096, 26 / 4096, 158 / 4096, 598 / 4096])
    share = (0.05 - levels[2]) / (levels[3] - levels[2])
    assert limits(values, 0.05) == (pytest.approx(3 + share), pytest.approx(10 - share))
    assert limits(values, float(levels[2])) == (3.0, 10.0)
    assert p_above(values, 3.0) == pytest.approx(levels[2])
    assert p_below(values, 10 - share) == pytest.approx(0.05)
    assert p_above(values, 6.5) == p_above(values, 100.0) == 1.0
    tail = float(2 * stats.t.sf(6.5 / (math.sqrt(13) / math.sqrt(12)), 11))
    assert p_above(values, 0.0) == pytest.approx(tail), "beyond all signs it is Student's"


@given(st.lists(st.floats(-3, 3), min_size=8, max_size=14), st.floats(-3, 3), st.floats(0.002, 0.4))
def test_the_p_value_is_where_the_limit_passes_the_bound(values: list[float], bound: float, alpha: float) -> None:
    array = np.array(values)
    p, low = p_above(array, bound), float(limits(array, alpha)[0])
    if abs(p - alpha) > 1e-9 and abs(low - bound) > 1e-9:
        assert (low > bound) == (p < alpha)


# --- the table of words --------------------------------------------------------------------------


@pytest.mark.one_in(2)
@pytest.mark.parametrize("seeds", [5, 8, 12])
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("kind", RESIDUALS)
def test_at_every_truth_false_verdicts_of_all_kinds_together_stay_below_their_level(kind, direction, seeds) -> None:
    most = 0.05 if seeds >= 8 or kind != "lognormal" else 1 / 16
    for spread in (0.1, 1.0):
        low, high = limits(spread * _drawn(kind, seeds), 0.05)
        for truth in (-2 * D, -D, -0.5 * D, 0.0, 0.5 * D, D, 2 * D):
            said = classify(low + truth, high + truth, direction, D)
            claimed = -truth if direction == "less" else truth
            right = {
                "reproduced": abs(truth) <= D if direction == "same" else claimed >= D,
                "too small to matter": abs(truth) <= D,
                "opposite": abs(truth) >= D if direction == "same" else claimed <= -D,
            }
            false = sum((said == word).mean() for word, holds in right.items() if not holds)
            assert false <= most + SLACK, (kind, direction, seeds, spread, truth)


def test_shuffled_labels_and_flipped_signs_give_few_false_verdicts_of_any_kind() -> None:
    """Of effects as skewed as can be: with their signs drawn there is no effect, and no verdict of one is true."""
    for seeds, most in ((8, 0.05), (12, 0.05), (5, 1 / 16)):
        sizes = np.exp(2 * np.random.default_rng(0).normal(size=(2000, seeds)))
        flips = np.random.default_rng(1).choice([-1.0, 1.0], size=(SIMULATIONS, seeds))
        low, high = limits(sizes.repeat(10, axis=0) * flips, 0.05)
        said = classify(low, high, "more", 0.0)
        assert np.isin(said, ["reproduced", "opposite"]).mean() <= most + SLACK


@pytest.mark.parametrize(
    ("values", "direction", "verdict"),
    [
        ([0.01, -0.02, 0.0], "same", "reproduced"),
        ([0.9, 1.0, 0.95], "same", "opposite"),
        ([-0.9, -1.0, -0.95], "same", "opposite"),
        ([0.0, 0.4, 0.9], "same", "inconclusive"),
        ([0.9, 1.0, 0.95], "more", "reproduced"),
        ([0.9, 1.0, 0.95], "less", "opposite"),
        ([0.1, 0.2, 0.15], "more", "too small to matter"),
        ([-0.1, 0.2, 0.05], "less", "too small to matter"),
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
    assert (found.p is None) == (len(values) < 3)


def test_an_interval_that_excludes_the_claim_and_not_the_opposite_is_inconclusive_and_says_so() -> None:
    found = _judged([-0.6, -0.4, -0.2], "more")
    assert found.verdict == "inconclusive" and EXCLUDED in found.note
    assert _judged([-0.6, -0.2, 0.9], "more").note.count(EXCLUDED) == 0


def test_few_seeds_say_that_they_assume_normal_residuals_and_eight_do_not() -> None:
    few, eight = _judged([0.9, 1.0, 0.95, 0.92, 0.99]), _judged([0.9, 1.0, 0.95, 0.92, 0.99, 0.9, 0.93, 0.97])
    assert (few.basis, eight.basis) == ("t", "median")
    assert "residuals to be normal: 5 seeds alone do not" in few.note and not eight.note
    assert eight.effect == pytest.approx(0.94)
    one_other = _judged([0.9, 1.0, 0.95, 0.92, 0.49])
    assert one_other.verdict == "inconclusive", "with five seeds none may lie on the other side"


@given(
    st.lists(st.floats(-3, 3), min_size=3, max_size=12).filter(lambda v: np.ptp(v) > 1e-3),
    st.sampled_from(DIRECTIONS),
    st.floats(0.01, 1),
)
def test_the_p_value_says_what_the_interval_says(values: list[float], direction: Direction, smallest: float) -> None:
    found = _judged(values, direction, smallest)
    assert found.p is not None and found.low is not None and found.high is not None
    near = [abs(abs(end) - smallest) < 1e-9 for end in (found.low, found.high)]
    if abs(found.p - 0.05) > 1e-9 and not any(near):
        assert (found.p < 0.05) == (found.verdict != "inconclusive")


@given(st.lists(st.floats(-3, 3), min_size=3, max_size=12), st.floats(0.01, 1))
def test_less_is_more_turned_round(values: list[float], smallest: float) -> None:
    less, more = _judged(values, "less", smallest), _judged([-v for v in values], "more", smallest)
    assert (less.verdict, less.p, less.seeds_needed) == (more.verdict, more.p, more.seeds_needed)
    assert (less.low, less.effect, less.high) == (-(more.high or 0), -(more.effect or 0), -(more.low or 0))


# --- divergence ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "direction", "verdict"),
    [
        ([INF, INF, INF], "more", "reproduced"),
        ([INF, INF, INF], "less", "opposite"),
        ([-INF, -INF, -INF], "less", "reproduced"),
        ([-INF, -INF, -INF], "same", "opposite"),
        ([INF, 1.0, 1.1], "more", "inconclusive"),
        ([INF, -INF, INF], "more", "inconclusive"),
        ([math.nan, INF, INF], "more", "inconclusive"),
        ([math.nan] * 3, "same", "inconclusive"),
        ([INF, INF], "more", "inconclusive"),
    ],
)
def test_of_few_seeds_divergence_decides_only_where_it_decides_every_one(values, direction, verdict) -> None:
    found = _judged(values, direction)
    assert found.verdict == verdict
    decided = verdict != "inconclusive"
    assert (found.effect in (INF, -INF)) == decided == (found.basis == "divergence")
    assert not any(isinstance(n, float) and math.isnan(n) for n in (found.effect, found.low, found.high, found.p))
    assert found.note and found.p is None, "outside Holm's family"


def test_of_many_seeds_a_diverged_one_is_a_rank_like_others() -> None:
    found = _judged([0.9, 1.0, 0.95, 0.92, 0.99, 0.9, 0.93, 0.97, 0.95, INF])
    assert (found.verdict, found.basis, found.seeds_needed) == ("reproduced", "median", None)
    assert found.effect == 0.95 and found.high is not None and math.isfinite(found.high)
    assert _judged([1.0] * 9 + [-INF]).verdict == "reproduced"
    assert _judged([1.0] * 5 + [-INF] * 5).verdict == "inconclusive"


# --- several comparisons, exact numbers, looks ---------------------------------------------------


def test_a_claim_on_every_one_holds_where_it_holds_for_each_and_fails_with_one() -> None:
    close = [0.6, 0.7, 0.62, 0.66, 0.64, 0.61, 0.68, 0.69]
    far, none = [9 * v for v in close], [v - 0.65 for v in close]
    both = judged([_effects(*far, name="far"), _effects(*close, name="close")], "more", D)
    assert (both.verdict, both.which, both.effect) == ("reproduced", 1, pytest.approx(0.65))
    assert "the least of 2 effects: close" in both.note
    own = tuple(tuple(map(float, limits(np.array(values), 0.05))) for values in (far, close))
    assert both.ends == own and both.low == min(low for low, _ in own), "each has an interval of its own"
    turned = judged([_effects(*(-v for v in values)) for values in (far, close)], "less", D)
    assert turned.ends == tuple((-high, -low) for low, high in own)
    assert both.low is not None and turned.high == -both.low
    assert judged([_effects(*far), _effects(*none)], "more", D).verdict == "too small to matter"
    assert judged([_effects(*far), _effects(*[-v for v in far])], "more", D).verdict == "opposite"
    assert judged([_effects(*none), _effects(*none)], "same", D).verdict == "reproduced"
    assert judged([_effects(*none), _effects(*far)], "same", D).verdict == "opposite"
    lost = judged([_effects(*[INF] * 5), _effects(*close[:5])], "more", D)
    assert (lost.verdict, lost.effect) == ("reproduced", 0.64), "a competitor that diverged every time is beaten"


def test_an_intersection_union_test_errs_on_neither_side() -> None:
    """Under no difference to the closest of five, and under none to all of them."""
    for shift in (0.0, 1.0):
        values = np.random.default_rng(0).normal(size=(SIMULATIONS // 4, 5, 12))
        values[:, 1:] += shift
        (low, _), (_, high) = limits(values, 0.05), limits(values, 0.05 / 5)
        said = classify(low.min(axis=1), high.min(axis=1), "more", 0.0)
        for row in range(10):
            assert judged([_effects(*v) for v in values[row]], "more", 0.0).verdict == said[row]
        for word in ("reproduced", "opposite"):
            assert (said == word).mean() <= 0.025 + 2 * SLACK


def test_exact_numbers_have_a_verdict_without_p_and_scatter_is_refused() -> None:
    found = judged_exactly([_effects(0.7, 0.7)], "more", D)
    assert (found.verdict, found.p, found.basis, found.low, found.high) == ("reproduced", None, "exact", 0.7, 0.7)
    assert judged_exactly([_effects(0.1)], "more", D).verdict == "too small to matter"
    assert judged_exactly([_effects(0.7), _effects(-0.7)], "more", D).verdict == "opposite"
    scattered = judged_exactly([_effects(0.7, 0.8)], "more", D)
    assert scattered.verdict == "not tested" and "differ between seeds" in scattered.note


LOOKS = tuple(tuple(range(count)) for count in (5, 8, 12, 20, 30, 60))


def test_looks_share_alpha_out_and_each_gives_its_own_verdict() -> None:
    shares = shares_of_alpha([len(look) for look in LOOKS])
    assert sum(shares) == pytest.approx(1) and min(shares) > 0.05
    for wrong in ([], [0, 3], [5, 5]):
        with pytest.raises(ValueError, match="growing"):
            shares_of_alpha(wrong)
    clear = [1.0 + 0.01 * i for i in range(60)]
    first = judged_in_looks(LOOKS, [_effects(*clear)], "more", D)
    assert (first.verdict, first.seeds) == ("reproduced", 5) and "after 5 seeds, of 60 at most" in first.note
    assert first.p is not None and first.p * shares[0] < 0.05 * shares[0]
    late = [0.4, 1.2] * 4 + clear
    found = judged_in_looks(LOOKS, [_effects(*late[:60])], "more", D)
    assert found.verdict == "reproduced" and 8 < found.seeds <= 30
    between = judged_in_looks(LOOKS, [_effects(*late[:11])], "more", D)
    assert (between.verdict, between.seeds) == ("inconclusive", 8), "nothing is judged between looks"
    early = judged_in_looks(LOOKS, [_effects(*clear[:4])], "more", D)
    assert early.verdict == "inconclusive" and "the first look is at 5" in early.note


def test_looking_often_does_not_find_more_that_is_false() -> None:
    """At a true effect of d, in up to sixty seeds with six looks."""
    shares = shares_of_alpha([len(look) for look in LOOKS])
    for kind in RESIDUALS:
        values = _drawn(kind, 60, 8000)
        above, below = np.zeros(8000, bool), np.zeros(8000, bool)
        for look, share in zip(LOOKS, shares, strict=True):
            low, high = limits(values[:, : len(look)], 0.05 * share)
            above, below = above | (low > 0), below | (high < 0)
        slack = 4 * math.sqrt(0.025 * 0.975 / 8000)
        assert above.mean() <= 0.025 + slack and below.mean() <= 0.025 + slack


# --- power, correlation --------------------------------------------------------------------------


def test_the_seeds_that_it_would_take_have_the_power_that_is_said() -> None:
    for effect, region in ((0.9, (D, INF)), (0.1, (-D, D)), (-0.8, (-INF, -D))):
        seeds = seeds_needed(effect, 0.5, region, 0.05)
        assert seeds is not None
        low, high = limits(effect + 0.5 * _drawn("normal", seeds, 4000), 0.05)
        assert ((low > region[0]) & (high < region[1])).mean() == pytest.approx(0.8, abs=0.04)
    assert seeds_needed(D + 1e-4, 1.0, (D, INF), 0.05) is None, "who sits on the threshold is never decided"
    assert seeds_needed(0.0, 1.0, (D, INF), 0.05) is None


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([-1.0, -1.1], "at least 8"), ([1.0, INF, 1.1], "at least 8"),
        ([D - 1, D, D + 1], "not known"), ([0.2] * 6 + [1.0] * 5 + [INF], "not known"),
        ([D - 1, D + 1e-4, D + 1], "more than 1000"), ([0.9, 0.2, 1.1, 0.6, 0.9], "about 12"),
    ],
)  # fmt: skip
def test_seeds_that_it_would_take_are_a_number_only_where_one_is_known(values: list[float], words: str) -> None:
    found, by_seed = _judged(values), dict(zip("abcdefghijkl", values, strict=False))
    content = dataclasses.asdict(found) | {"smallest_effect": D, "effects": by_seed}
    assert found.verdict == "inconclusive" and needed_words(content)[1] == words
    odds = " (chance" in power_words(content)
    assert odds == (found.p is not None and words != "not known") and power_words(content | {"basis": "exact"}) == ""


def test_an_undecided_verdict_says_what_it_would_take_and_a_decided_one_does_not() -> None:
    undecided, decided = _judged([0.9, 0.2, 1.1, 0.6, 0.9]), _judged([0.9, 1.0, 0.95, 0.92, 0.99])
    assert undecided.verdict == "inconclusive" and undecided.seeds_needed is not None
    assert 5 < undecided.seeds_needed < 60 and decided.seeds_needed is None


def test_correlation_over_seeds_is_that_of_the_two_sides() -> None:
    assert correlation([1, 2, 3, 4], [2, 4, 6, 8.5]) == pytest.approx(np.corrcoef([1, 2, 3, 4], [2, 4, 6, 8.5])[0, 1])
    assert (
        correlation([1, 2], [2, 4]) is correlation([1, 1, 1], [1, 2, 3]) is correlation([1, 2, INF], [1, 2, 3]) is None
    )
    runs = _runs(_rows("a", [2.0, 4.0, 3.0]), _rows("b", [1.0, 2.0, 1.5]))
    found = judged(comparisons(_rule({"arms": "a"}, {"arms": "b"}), runs, NO_CURVES), "less", D)
    assert found.correlation == pytest.approx(1)
    bound = judged(comparisons(_rule({"arms": "a"}, {"value": 2}), runs, NO_CURVES), "less", D)
    assert bound.correlation is None


# --- many claims at once -------------------------------------------------------------------------


def test_holm_by_a_hand_example() -> None:
    # sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1 and never falling: 0.02, 0.03, 0.06, 0.06
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    judgements = [Judgement("reproduced", p=p) for p in (0.01, 0.04, 0.03, 0.005)]
    judgements[1:1] = [Judgement("not run"), Judgement("not tested"), Judgement("opposite", basis="exact")]
    survivors = ["reproduced", "not run", "not tested", "opposite", "inconclusive", "inconclusive", "reproduced"]
    assert holm_verdicts(judgements) == survivors


def test_totals_count_what_was_tested_and_the_headline_what_was_not_seen() -> None:
    table = pd.DataFrame(
        {
            "verdict": ["reproduced", "opposite", "too small to matter", "inconclusive", "not tested", "not run"],
            "holm_verdict": ["reproduced", "inconclusive", "inconclusive", "inconclusive", "not tested", "not run"],
            "p": [0.001, 0.04, 0.03, 0.5, None, None],
            "seen": ["no", "yes", "unknown", "no", "no", None],
        }
    )
    found = totals(table)
    assert (found["tested"], found["inconclusive"], found["not tested"], found["too small to matter"]) == (4, 1, 1, 1)
    assert (found["reproduced (Holm)"], found["opposite (Holm)"]) == (1, 0)
    assert found["false at most"] == pytest.approx(0.2)
    assert list(fresh(table).verdict) == ["reproduced", "inconclusive", "not tested"]
    assert not len(fresh(table.drop(columns="seen"))), "who knows nothing counts as nothing"
    older = table.assign(verdict="not reproduced")
    assert sum(totals(older)[word] for word in ("reproduced", "opposite", "inconclusive")) == 0


# --- effects from tables -------------------------------------------------------------------------


def _rule(of, against, **more) -> Rule:
    about = {"experiment": "e", "metric": "fd_train", "scale": "log_ratio", "direction": "less", "smallest": 0.05}
    return Rule.model_validate({**about, "of": of, "against": against, **more})


def _rows(arm: str, values: Sequence[float], metric: str = "fd_train", **more) -> pd.DataFrame:
    rows = [
        {"experiment": "e", "arm": arm, "metric": metric, "seed": s, "value": v, "steps": 1}
        | {"status": "finished" if math.isfinite(v) else "diverged", "guidance": None, "mid_time": None}
        | more
        for s, v in enumerate(values)
    ]
    return pd.DataFrame(rows)


def _runs(*parts: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([part.astype({"guidance": float, "mid_time": float}) for part in parts])


def effects(rule: Rule, runs: pd.DataFrame, curves: pd.DataFrame) -> Effects:
    (found,) = comparisons(rule, runs, curves)
    return found


def test_effects_pair_by_seed_and_sum_over_terms() -> None:
    runs = _runs(_rows("a", [2.0, 4.0]), _rows("b", [1.0, 1.0]), _rows("c", [3.0, 8.0]), _rows("d", [6.0, 2.0]))
    simple = effects(_rule({"arms": "a"}, {"arms": "b"}), runs, NO_CURVES)
    assert simple.values == pytest.approx((math.log(2), math.log(4)))
    ratio = effects(_rule([{"arms": "a"}, {"arms": "d"}], [{"arms": "b"}, {"arms": "c"}]), runs, NO_CURVES)
    assert ratio.values == pytest.approx((math.log(2 * 6 / 3), math.log(4 * 2 / 8)))
    bound = effects(_rule({"arms": "a"}, [{"arms": "b"}, {"value": 2}]), runs, NO_CURVES)
    assert bound.values == pytest.approx((0.0, math.log(2)))
    gap = effects(_rule({"arms": "a"}, {"arms": "b"}, scale="difference"), runs, NO_CURVES)
    assert gap.values == pytest.approx((1.0, 3.0))
    average = effects(_rule({"arms": "a"}, {"arms": ["c", "d"], "take": "mean"}), runs, NO_CURVES)
    assert average.values == pytest.approx((math.log(2 / 4.5), math.log(4 / 5)))


def test_each_arm_and_each_setting_is_a_comparison_of_its_own_and_none_is_with_itself() -> None:
    runs = _runs(
        _rows("a", [2.0, 4.0], mid_time=1.1), _rows("a", [1.0, 8.0], mid_time=0.5),
        _rows("c", [3.0, 8.0]), _rows("d", [6.0, 2.0]),
    )  # fmt: skip
    of = {"arms": "a", "mid_time": 1.1}
    arms = comparisons(_rule(of, {"arms": ["c", "d"], "take": "each"}), runs, NO_CURVES)
    assert [e.name for e in arms] == ["c", "d"]
    assert arms[0].values == pytest.approx((math.log(2 / 3), math.log(4 / 8)))
    settings = comparisons(_rule(of, [{"arms": "a", "take": "each"}, {"value": 1.05}]), runs, NO_CURVES)
    assert [e.name for e in settings] == ["a, mid_time 0.5"]
    assert settings[0].values == pytest.approx((math.log(2 / 1.05), math.log(0.5 / 1.05)))
    (alone,) = comparisons(_rule(of, {"arms": "a", "mid_time": 1.1, "take": "each"}), runs, NO_CURVES)
    assert alone.missing == ("anything else to compare with",)
    (gap,) = comparisons(_rule(of, {"arms": ["c", "e"], "take": "each"}), runs, NO_CURVES)
    assert gap.missing == ("fd_train of e",)


def test_a_claim_may_have_to_hold_in_two_metrics() -> None:
    runs = _runs(
        *(_rows(a, v, m) for m, k in (("fd_train", 1), ("fd_held_out", 2)) for a, v in (("a", [k]), ("b", [3])))
    )
    both = comparisons(_rule({"arms": "a"}, {"arms": "b"}, also="fd_held_out"), runs, NO_CURVES)
    assert [(e.name, round(math.exp(e.values[0]), 6)) for e in both] == [
        ("fd_train", 0.333333),
        ("fd_held_out", 0.666667),
    ]


def test_a_setting_is_chosen_on_seeds_that_then_decide_nothing() -> None:
    runs = _runs(
        _rows("a", [1.0, 9.0, 9.0], guidance=1.0),
        _rows("a", [2.0, 3.0, 4.0], guidance=2.0),
        _rows("b", [1.0, 1.0, 1.0]),
    )
    found = effects(_rule({"arms": "a", "choose_on": [0]}, {"arms": "b"}), runs, NO_CURVES)
    assert (found.seeds, found.spent, found.left_out) == ((1, 2), (0,), ())
    assert found.values == pytest.approx((math.log(9), math.log(9)))
    other = effects(_rule({"arms": "a", "choose_on": [0, 1]}, {"arms": "b"}), runs, NO_CURVES)
    assert other.seeds == (2,) and other.values == pytest.approx((math.log(4),))
    none = effects(_rule({"arms": "a", "choose_on": [0, 1, 2]}, {"arms": "b"}), runs, NO_CURVES)
    assert none.missing == ("a seed that all arms have beside those that chose",)
    absent = effects(_rule({"arms": "a", "choose_on": [7]}, {"arms": "b"}), runs, NO_CURVES)
    assert absent.missing[0] == "fd_train of a, guidance 1.0, seed 7, which chooses"
    recall = runs.assign(metric="recall")
    best = effects(
        _rule({"arms": "a", "choose_on": [0]}, {"arms": "b"}, metric="recall", scale="difference"), recall, NO_CURVES
    )
    assert best.values == (2.0, 3.0), "of what is better the higher it is, the highest"


def test_selectors_choose_rows_and_several_rows_must_be_taken_somehow() -> None:
    runs = _runs(
        _rows("a", [1.0, 1.0], guidance=1.0), _rows("a", [3.0, 4.0], guidance=1.5), _rows("b", [2.0, 2.0], guidance=1.0)
    )
    one = effects(_rule({"arms": "a", "guidance": 1.5}, {"arms": "b"}), runs, NO_CURVES)
    assert one.values == pytest.approx((math.log(1.5), math.log(2)))
    with pytest.raises(BenchError, match=r"fd_train of a has 2 rows for one seed(.|\n)*claims.yaml(.|\n)*remedy"):
        effects(_rule({"arms": "a"}, {"arms": "b"}), runs, NO_CURVES)


def test_what_is_missing_is_named_and_seeds_that_an_arm_lacks_are_left_out() -> None:
    runs = _runs(_rows("a", [1.0, 2.0, 3.0, 4.0]), _rows("b", [1.0, 1.0, 1.0]))
    found = judged(comparisons(_rule({"arms": "a"}, {"arms": "b"}), runs, NO_CURVES), "more", 0.05)
    assert found.seeds == 3
    assert "left out, since an arm lacks them: 3" in found.note
    absent = _rule({"arms": "a", "steps": 2}, {"arms": ["b", "c"], "take": "each"})
    none = judged(comparisons(absent, runs, NO_CURVES), "less", 0.05)
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
    largest = _rule(
        {"arms": "a", "x": "all", "take": "max"}, {"arms": "b", "x": "all", "take": "max"}, metric="map_rms"
    )
    assert effects(largest, runs, curves).values == pytest.approx((math.log(0.1),) * 2)
    shape = ratio({"x": "all", "take": "geometric_mean"}, {"x": "all", "take": "mean"})
    assert shape == pytest.approx((math.log((1 * 1.5 * 2) ** (1 / 3) / 1.5),) * 2)


def test_a_diverged_run_is_worst_even_where_it_left_no_row() -> None:
    lost = _rows("a", [INF] * 3)
    runs = _runs(lost, _rows("b", [1.0] * 3))
    assert _verdict_of(runs, "less") == ("opposite", INF)
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
    found = judged(comparisons(_rule({"arms": "a"}, {"arms": "b"}), runs, NO_CURVES), direction, 0.05)
    return found.verdict, found.effect
