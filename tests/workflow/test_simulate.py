"""Simulations of verdicts say of every draw what the judge says of it, and count as false what is."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from trigbench.workflow.claims import simulate
from trigbench.workflow.claims.deciding import Tables
from trigbench.workflow.claims.effects import Effects, TermNumbers
from trigbench.workflow.claims.redrawn import redrawn_claims, redrawn_studies, redrawn_words
from trigbench.workflow.claims.simulate import Rate, false_of, planned, words_said
from trigbench.workflow.claims.statistics import COLUMNS
from trigbench.workflow.claims.tables import CURVE_COLUMNS, read_table, write_table
from trigbench.workflow.claims.verdicts import Direction, judged, judged_in_looks
from trigbench.workflow.study.reading import load
from trigbench.workflow.study.study import Study

DIRECTIONS: tuple[Direction, ...] = ("less", "more", "same")


@pytest.mark.one_in(9)
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize(("many", "seeds"), [(1, 5), (1, 9), (3, 9), (2, 40)])
def test_the_words_of_many_draws_are_those_of_the_judge(direction: Direction, many: int, seeds: int) -> None:
    draw = np.random.default_rng(seeds)
    values = [draw.normal(draw.choice([-0.6, 0.0, 0.6], (60, 1)), 0.2, (60, seeds)) for _ in range(many)]
    said = words_said(values, direction, 0.3, shift=0.1)
    assert len(set(said)) >= 2
    for i in range(60):
        found = [Effects(tuple(range(seeds)), tuple(v[i] + 0.1)) for v in values]
        assert judged(found, direction, 0.3).verdict == said[i]


@pytest.mark.slow
def test_the_words_of_a_plan_are_those_of_its_first_look_that_decides() -> None:
    values = np.random.default_rng(0).normal(0.3, 0.4, (60, 16))
    said = words_said([values], "more", 0.1, planned([8, 12, 16]))
    looks = [tuple(range(count)) for count in (8, 12, 16)]
    for row, word in zip(values, said, strict=True):
        assert judged_in_looks(looks, [Effects(tuple(range(16)), tuple(row))], "more", 0.1).verdict == word


def test_what_is_false_depends_on_the_truth_and_on_a_threshold_every_word_is() -> None:
    said = np.array(["reproduced", "opposite", "too small to matter", "inconclusive"])
    wrong = {(d, t): false_of(said, d, 1.0, t).false for d in DIRECTIONS for t in (-2.0, -1.0, 0.0, 2.0)}
    of_less = {-2.0: 2, -1.0: 3, 0.0: 2, 2.0: 2}
    assert wrong == {("less", t): n for t, n in of_less.items()} | {("more", t): n for t, n in of_less.items()} | {
        ("same", -2.0): 1, ("same", -1.0): 2, ("same", 0.0): 1, ("same", 2.0): 1,
    }  # fmt: skip
    assert false_of(np.array(["opposite"]), "less", 1.0, 2.0).false == 0
    assert false_of(np.array(["opposite"]), "more", 1.0, 2.0).false == 1


def test_a_rate_says_how_surely_it_is_known() -> None:
    low, high = Rate(50, 1000).ends()
    assert (low, high) == (pytest.approx(0.0373, abs=1e-4), pytest.approx(0.0654, abs=1e-4))
    assert Rate(0, 10).ends()[0] == 0.0 and Rate(10, 10).ends()[1] == 1.0
    assert Rate(1, 10) + Rate(2, 20) == Rate(3, 30)
    assert Rate(50, 1000).columns["holds"] and not Rate(80, 1000).columns["holds"]


def _between(ours: list[float], theirs: list[float], constant: float = 0.0, metric: str = "m") -> Effects:
    seeds = tuple(range(len(ours)))
    terms = (TermNumbers(1, metric, "a", tuple(ours)), TermNumbers(-1, metric, "b", tuple(theirs)))
    values = tuple(constant + a - b for a, b in zip(ours, theirs, strict=True))
    return Effects(seeds, values, terms=terms, sides=(tuple(ours), tuple(theirs)))


def test_five_seeds_agree_in_two_of_thirty_two_draws_of_their_signs() -> None:
    found = _between([2.0, 2.1, 1.9, 2.05, 1.95], [1.0] * 5)
    rate = simulate.redrawn([found], "more", 0.0, "labels", draws=20_000)
    assert rate is not None and rate.share == pytest.approx(2 / 32, abs=0.006) and not rate.columns["holds"]
    small = simulate.redrawn([found], "more", 5.0, "signs", draws=500)
    assert small == Rate(0, 500), "too small to matter is true of them"


def test_labels_leave_the_constant_and_signs_do_not_and_both_need_something_to_draw() -> None:
    ours = [2.0, 2.1, 1.9, 2.05, 1.95, 2.2, 1.8, 2.0, 2.1, 1.7]
    found = _between(ours, [1.9] * 10, constant=-1.0)
    labels = simulate.redrawn([found], "more", 0.0, "labels", draws=2000)
    assert labels == Rate(0, 2000), "the bound is missed by far, and to say so is true"
    signs = simulate.redrawn([found], "more", 0.0, "signs", draws=2000)
    assert signs is not None and 0 < signs.share < 0.05
    bound = Effects(found.seeds, found.values, terms=found.terms[:1], sides=(tuple(ours), (0.0,) * 10))
    assert simulate.redrawn([bound], "more", 0.0, "labels") is None
    assert simulate.redrawn([bound], "more", 0.0, "signs") == simulate.redrawn([found], "more", 0.0, "signs")
    assert simulate.redrawn([_between([1.0, 2.0], [0.0, 0.0])], "more", 0.0, "signs") is None
    assert simulate.redrawn([_between([1.0] * 5, [0.0] * 5)], "more", 0.0, "signs") is None


def test_a_claim_in_all_of_several_comparisons_errs_no_more_often_than_in_one() -> None:
    draw = np.random.default_rng(0)
    several = [_between(list(draw.normal(size=12)), [0.0] * 12) for _ in range(4)]
    together = simulate.redrawn(several, "more", 0.0, "labels", draws=4000)
    assert together is not None and together.columns["holds"]


def test_power_grows_with_seeds_and_is_what_seeds_needed_promises() -> None:
    table = simulate.power(seeds=(8, 20), beyond=(0.5, 1.0), draws=2000)
    assert list(table.columns) == ["seeds", "beyond", "said"]
    eight, twenty = (table[table.seeds == n].said.tolist() for n in (8, 20))
    assert eight < twenty and eight[0] < eight[1]
    far = simulate.found_with(20)
    chances = simulate.power_at(-far * 0.1 - 0.05, 0.1, "less", 0.05, 20)
    assert chances["reproduced"] == pytest.approx(0.8, abs=0.01) and sum(chances.values()) == pytest.approx(1)


@pytest.mark.slow
def test_the_table_of_false_verdicts_holds_but_where_five_seeds_have_two_modes() -> None:
    table = simulate.false_rates(draws=1500, seeds=(5, 8), plans=((8, 12),))
    assert len(table) == 6 * 3 * 4 and list(table.seeds.unique()) == ["5", "8", "looks at 8, 12"]
    lost = table[~table.holds]
    assert set(zip(lost.residuals, lost.seeds, strict=True)) <= {("two modes", "5"), ("lognormal (1)", "5")}
    assert ((table.low <= table.false) & (table.false <= table.high)).all()


# --- a study's own results, redrawn ---------------------------------------------------------------


def _rule(**about: object) -> dict:
    rule = {
        "experiment": "discretisation", "metric": "map_rms", "of": {"arms": "scd"}, "against": {"arms": "dscd-4"},
        "scale": "log_ratio", "direction": "less", "smallest": 0.0, **about,
    }  # fmt: skip
    said = {"paper": "sCM", "place": "Fig. 5c", "topic": "discretisation", "claim": "Better."}
    return said | {"decided_by": {"tiny": rule}}


@pytest.fixture
def results(tiny: dict, write_study) -> tuple[Study, Tables]:
    """Twelve seeds in a plan of two looks and one to come, and claims on them."""
    tiny["experiments"]["discretisation"]["seeds"] = {"first": 8, "batch": 4, "most": 16}
    tiny["claims"] = {
        "labelled": _rule(),
        "bound": _rule(against={"value": 0.9}),
        "wide": _rule(against={"arms": "dscd-8"}, smallest=9.0, direction="same"),
    }
    draw, rows = np.random.default_rng(0), []
    for arm in ("scd", "dscd-4", "dscd-8"):
        about = dict.fromkeys(COLUMNS) | {"experiment": "discretisation", "arm": arm, "status": "finished"}
        rows += [
            about | {"seed": seed, "metric": "map_rms", "value": float(np.exp(draw.normal()))} for seed in range(12)
        ]
    return load(write_study(tiny)), Tables(pd.DataFrame(rows, columns=COLUMNS), pd.DataFrame(columns=CURVE_COLUMNS), ())


@pytest.mark.slow
def test_every_tested_claim_of_a_study_is_redrawn_and_what_holds_is_said_in_words(results) -> None:
    study, tables = results
    claims = redrawn_claims(study, tables, draws=800)
    zero = "signs, as if every d were 0"
    ways = {name: list(own.drawn) for name, own in claims.groupby("claim")}
    assert ways == {
        "labelled": ["labels", "signs", zero], "bound": ["signs", zero], "wide": ["labels", "signs", zero],
    }  # fmt: skip
    by_claim = claims.set_index(["claim", "drawn"])
    assert by_claim.loc[("wide", "signs"), "wrong"] == 0 and by_claim.loc[("wide", zero), "asked"] == "more"
    assert 0 < by_claim.loc[("labelled", "signs"), "false"] < 0.05 and (claims.seeds == 12).all()
    assert claims.equals(redrawn_claims(study, tables, draws=800))
    studies = redrawn_studies(claims)
    assert list(studies.claims) == [2, 3, 3] and set(studies.holds) == {"yes"}
    last = redrawn_words(studies).splitlines()[1]
    assert last.startswith("tiny, signs: ") and last.endswith("of 3 claims, 12 seeds; at most 5% holds")
    bad = redrawn_studies(claims.assign(wrong=80, false=0.1, holds=False))
    assert "at most 5% does NOT hold; of single claims 2 are above, at worst 10.00%" in redrawn_words(bad)
    assert set(redrawn_studies(claims.assign(wrong=40)).holds) == {"open"}


def test_seeds_of_claims_that_differ_in_them_are_written_and_read(tmp_path: Path) -> None:
    same = {"study": "tiny", "drawn": "labels", "asked": "more", "d": 0.0, "false": 0.02, "low": 0.0, "high": 0.04}
    rows = [same | {"claim": n, "seeds": n, "holds": True, "verdicts": 100, "wrong": 2} for n in (8, 10)]
    write_table(redrawn_studies(pd.DataFrame(rows)), tmp_path / "redrawn.csv")
    assert list(read_table(tmp_path / "redrawn.csv").seeds_each) == ["8-10"]
