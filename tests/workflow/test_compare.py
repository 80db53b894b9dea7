"""Two sets of results held against each other: what is planted is found, and nothing where nothing differs."""

import dataclasses
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from tests.workflow.conftest import ROOT
from trigbench import cli
from trigbench.workflow.claims.compare import (
    ALONE,
    DIVERGED,
    FIXED,
    FOUND,
    SAME,
    UNSURE,
    adjusted_for_many,
    changes,
    compare,
    compare_means,
    compare_verdicts,
    welch,
)
from trigbench.workflow.claims.result_sets import ResultSet, read_set
from trigbench.workflow.claims.tables import read_table, write_table
from trigbench.workflow.claims.verdicts import ALPHA
from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine.files import write_json
from trigbench.workflow.report.pages.compare import summary

PUBLISHED = ROOT / "results" / "published"


def rows(values: np.ndarray, **about: object) -> pd.DataFrame:
    """A table of runs: a row for each arm and seed of `values`."""
    arms, seeds = values.shape
    index = [(f"arm-{arm}", seed) for arm in range(arms) for seed in range(seeds)]
    table = pd.DataFrame(index, columns=["arm", "seed"]).assign(
        value=values.ravel(), metric="fd_train", status="finished"
    )
    return table.assign(study="s", data="d", steps=1.0, sampler="few", **about)


def outcomes(first: pd.DataFrame, second: pd.DataFrame) -> dict[str, str]:
    means, _, _ = compare_means(first, second)
    return dict(zip(means.arm, means.outcome, strict=True))


# --- means ----------------------------------------------------------------------------------------


def test_planted_differences_are_found_and_the_others_are_not() -> None:
    draw = np.random.default_rng(0)
    ours, theirs = draw.normal(10, 0.1, (40, 5)), draw.normal(10, 0.1, (40, 5))
    theirs[[3, 17]] += 1.0
    theirs[30] -= 1.0
    found = outcomes(rows(ours), rows(theirs))
    assert {arm for arm, outcome in found.items() if outcome == FOUND} == {"arm-3", "arm-17", "arm-30"}
    means, _, _ = compare_means(rows(ours), rows(theirs))
    assert set(means.arm[:3]) == {"arm-3", "arm-17", "arm-30"}  # the surest stand first
    row = means[means.arm == "arm-30"].iloc[0]
    assert row.low < row.difference < row.high < 0 and row.difference == pytest.approx(
        theirs[30].mean() - ours[30].mean()
    )


def found_among(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Which arms differ, by the same functions as whole tables, whose reading takes longer."""
    means, spread = (np.stack([how(side) for side in (first, second)], 1) for how in (_mean, _spread))
    count = np.full_like(spread, first.shape[1])
    return adjusted_for_many(welch(means[:, 1] - means[:, 0], spread, count)[2]) < ALPHA


def _mean(values: np.ndarray) -> np.ndarray:
    return values.mean(1)


def _spread(values: np.ndarray) -> np.ndarray:
    return values.std(1, ddof=1)


def test_tables_are_judged_by_these_functions() -> None:
    draw = np.random.default_rng(5)
    ours, theirs = draw.normal(size=(2, 30, 4))
    theirs[:10] += 5
    names = {f"arm-{arm}" for arm in np.flatnonzero(found_among(ours, theirs))}
    assert {arm for arm, outcome in outcomes(rows(ours), rows(theirs)).items() if outcome == FOUND} == names != set()


@pytest.mark.one_in(3)
@pytest.mark.parametrize("arms", [1, 20, 300])
def test_where_nothing_differs_something_is_found_once_in_twenty_times(arms: int) -> None:
    draw, sets = np.random.default_rng(1), 400
    false = sum(found_among(*draw.normal(size=(2, arms, 4))).any() for _ in range(sets))
    assert stats.binomtest(int(false), sets, 0.05, alternative="greater").pvalue > 0.001  # not more
    assert false > 0  # and not for want of a test


def test_of_what_is_found_few_are_false() -> None:
    draw, false, right = np.random.default_rng(2), 0, 0
    for _ in range(200):
        ours, theirs = draw.normal(size=(2, 50, 5))
        theirs[:10] += 4.0
        found = found_among(ours, theirs)
        false, right = false + found[10:].sum(), right + found[:10].sum()
    assert right > 200 * 7 and false / (false + right) < 0.05


def test_welch_is_scipy_s() -> None:
    draw = np.random.default_rng(3)
    a, b = draw.normal(0, 1, 5), draw.normal(1, 3, 3)
    ours = welch(np.array([b.mean() - a.mean()]), np.array([[a.std(ddof=1), b.std(ddof=1)]]), np.array([[5.0, 3.0]]))
    theirs: Any = stats.ttest_ind(b, a, equal_var=False)
    bounds = theirs.confidence_interval(0.95)
    assert [float(part[0]) for part in ours] == pytest.approx([bounds.low, bounds.high, theirs.pvalue], rel=1e-12)


def test_the_adjustment_is_over_what_was_tested_alone() -> None:
    draw = np.random.default_rng(4)
    ours, theirs = draw.normal(size=(30, 4)), draw.normal(size=(30, 4))
    theirs[5:] = ours[5:]
    means, _, _ = compare_means(rows(ours), rows(theirs))
    tested = means[means.p.notna()]
    assert len(tested) == 5 and set(means[means.p.isna()].outcome) == {SAME}
    assert tested.adjusted.tolist() == pytest.approx(stats.false_discovery_control(tested.p).tolist())


def test_numbers_without_a_test_are_said_as_such() -> None:
    ours = pd.concat(
        [
            rows(np.array([[1.0, 2.0, 3.0]])).assign(arm="same"),
            rows(np.array([[1.0, 2.0, 3.0]])).assign(arm="other seeds"),
            rows(np.array([[5.0, 5.0, 5.0]])).assign(arm="constant"),
            rows(np.array([[5.0]])).assign(arm="one seed"),
            rows(np.array([[1.0, np.inf, 3.0]])).assign(arm="lost", status=["finished", "diverged", "finished"]),
            rows(np.array([[1.0, 2.0, 3.0]])).assign(arm="noise"),
        ]
    )
    theirs = ours.copy()
    theirs.loc[theirs.arm == "other seeds", "seed"] += 5
    theirs.loc[theirs.arm == "constant", "value"] = 6.0
    theirs.loc[theirs.arm == "one seed", "value"] = 7.0
    theirs.loc[theirs.arm == "lost", "value"] = [1.0, 2.0, 3.0]
    theirs.loc[theirs.arm == "lost", "status"] = "finished"
    theirs.loc[theirs.arm == "noise", "value"] += 1e-9
    expected = {
        "same": SAME,
        "other seeds": UNSURE,
        "constant": FIXED,
        "one seed": ALONE,
        "lost": DIVERGED,
        "noise": UNSURE,
    }
    assert outcomes(ours, theirs) == expected
    means, _, _ = compare_means(ours, theirs)
    one, lost = (means[means.arm == arm].iloc[0] for arm in ("one seed", "lost"))
    assert one.difference == 2.0 and np.isnan(one.p) and np.isnan(one.low)
    assert (lost.diverged_first, lost.diverged_second) == (1, 0) and np.isnan(lost.difference)


def test_a_mean_is_of_all_that_was_set_and_counted_once_for_all_experiments() -> None:
    table = rows(np.array([[1.0, 2.0, 3.0]]))
    twice = pd.concat([table.assign(experiment="a"), table.assign(experiment="b"), table.assign(steps=2.0)])
    means, only, untold = compare_means(twice, twice.assign(value=twice.value * 2))
    assert len(means) == 2 and not untold and not len(only[0]) and not len(only[1])
    assert set(means.steps) == {"1", "2"} and (means.seeds_first == 3).all()


def test_costs_are_no_means_and_what_one_has_alone_is_named() -> None:
    ours, theirs = rows(np.ones((2, 3))), rows(np.ones((3, 3)))
    costs = ours.assign(metric="train_seconds")
    means, only, _ = compare_means(pd.concat([ours, costs]), theirs)
    assert len(means) == 2 and not len(only[0])
    assert only[1][["arm", "metric"]].to_numpy().tolist() == [["arm-2", "fd_train"]]


def test_nothing_is_held_against_an_older_table_that_does_not_tell_two_settings_apart() -> None:
    old = rows(np.array([[1.0, 2.0, 3.0]]))
    new = pd.concat([old.assign(sampling="few"), old.assign(sampling="many", value=old.value + 1)])
    means, only, untold = compare_means(old, new)
    assert (len(means), untold, len(only[0]), len(only[1])) == (0, 1, 0, 0)
    told, _, untold = compare_means(new, new)
    assert len(told) == 2 and not untold


@pytest.mark.parametrize("side", [0, 1])
def test_a_set_without_rows_is_no_error(side: int) -> None:
    tables = [rows(np.ones((1, 2))), pd.DataFrame(columns=["study"])]
    means, only, _ = compare_means(*(tables if side else tables[::-1]))
    assert not len(means) and [len(part) for part in only] == ([1, 0] if side else [0, 1])


# --- verdicts and what they were made with ----------------------------------------------------------


def test_verdicts_that_differ_have_both_effects_and_say_whether_the_rule_did() -> None:
    ours = pd.DataFrame(
        {
            "study": "s",
            "claim": ["a", "b", "gone"],
            "verdict": ["reproduced", "inconclusive", "not run"],
            "effect": [0.5, 0.1, None],
            "low": [0.4, -0.1, None],
            "high": [0.6, 0.3, None],
            "direction": "more",
            "smallest_effect": 0.05,
        }
    )
    theirs = ours.assign(
        claim=["a", "b", "new"], verdict=["not reproduced", "inconclusive", "not run"], effect=[-0.5, 0.1, None]
    )
    theirs.loc[1, "smallest_effect"] = 0.2
    both, only = compare_verdicts(ours, theirs)
    assert only == (["gone"], ["new"]) and both.claim.tolist() == ["a", "b"]
    first = both.iloc[0]
    assert (first.verdict_first, first.verdict_second) == ("reproduced", "not reproduced")
    assert (first.effect_first, first.effect_second, first.low_first) == (0.5, -0.5, 0.4)
    assert both.rule_changed.tolist() == [False, True]


def test_one_change_of_many_arms_is_said_once() -> None:
    arms = {f"arm-{n}": {"rate": 0.1, "objective": "scd"} for n in range(5)}
    first = {"settings": {"seeds": [0], "title": "x", "arms": arms}, "seeds": [0], "python": ["3.11.2"]}
    slower = {name: arm | {"rate": 0.2} for name, arm in arms.items()} | {"arm-9": {"rate": 1.0}}
    second = {"settings": {"seeds": [0, 1], "title": "y", "arms": slower}, "seeds": [0, 1], "python": ["3.13.1"]}
    found = {(change.topic, change.name, change.first, change.second) for change in changes("s", first, second)}
    assert found == {
        ("seeds", "seeds", "0", "0, 1"),
        ("versions", "python", "3.11.2", "3.13.1"),
        ("settings", "arms.(5).rate", "0.1", "0.2"),
        ("settings", "arms of one alone", None, "arm-9"),
    }
    assert not list(changes("s", first, first))


# --- where sets come from -----------------------------------------------------------------------------


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Results published at two commits, and in the folder; the current one."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "results" / "published" / "tiny"

    def git(*arguments: str) -> None:
        who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        subprocess.run(["git", "-C", tmp_path, *who, *arguments], check=True, capture_output=True)

    git("init", "-q")
    for factor in (1.0, 2.0):
        write_table(rows(np.array([[1.0, 2.0, 3.0]]) * factor), folder / "runs.csv")
        write_json(folder / "provenance.json", {"study": "tiny-full", "budget": "full"})
        git("add", ".")
        git("commit", "-qm", "published")
    return tmp_path


def test_commits_folders_and_labels_are_read(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trigbench.workflow.claims.result_sets.IS_CHECKOUT", False)
    shutil.copytree("results/published/tiny", "results/mine")
    asked = ["HEAD~1:results/published/tiny", "HEAD~1", "HEAD", "results/published/tiny", "results/published", "mine"]
    sets = [read_set(word) for word in (*asked, "mine:laptop")]
    assert [list(found.studies) for found in sets] == [["tiny"]] * 7
    values = [found.studies["tiny"].runs.value.sum() for found in sets]
    assert values == [6.0, 6.0, 12.0, 12.0, 12.0, 12.0, 12.0]
    assert sets[0].place.startswith("results/published/tiny at ")
    assert compare(sets[2], sets[3]).identical == ("tiny/runs.csv",)
    assert not compare(sets[0], sets[3]).identical


def test_budgets_of_one_study_in_a_folder_are_told_apart(repository: Path) -> None:
    shutil.copytree("results/published/tiny", "all/tiny")
    shutil.copytree("results/published/tiny", "all/tiny-smoke")
    write_json(Path("all/tiny-smoke/provenance.json"), {"study": "tiny-smoke", "budget": "smoke"})
    assert sorted(read_set("all").studies) == ["tiny-full", "tiny-smoke"]


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("nothing", "no folder, no study and no commit"),
        ("HEAD:results/none", "no runs.csv in results/none at"),
        ("oracle:smoke", "no results of oracle-smoke"),
        ("oracle:nonsense", "nonsense"),
        ("empty", "no runs.csv in empty"),
        ("broken", "cannot read the results of broken"),
        ("strange", "has no column"),
        ("listed", "is no record"),
    ],
)
def test_what_cannot_be_compared_is_refused(word: str, said: str, repository: Path) -> None:
    for name in ("empty", "broken", "strange", "listed"):
        Path(name).mkdir()
    Path("broken/runs.csv").write_text("arm,seed,metric,value\n")
    Path("broken/provenance.json").write_text("{")
    shutil.copy("broken/runs.csv", "listed")
    Path("listed/provenance.json").write_text("[1]")
    Path("strange/runs.csv").write_text("a,b\n1,2\n")
    with pytest.raises(BenchError, match=said):
        read_set(word)


@pytest.mark.slow
def test_a_budget_is_found_where_it_was_made_or_else_published(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert read_set("oracle:full").place == str(PUBLISHED / "oracle")
    shutil.copytree(PUBLISHED / "oracle", "results/oracle-full")
    assert read_set("oracle:full").place == read_set("oracle-full").place == "results/oracle-full"
    shutil.copytree(PUBLISHED / "oracle", "results/mine-full")  # a study of one's own, whose file stands elsewhere
    assert read_set("mine:full").place == "results/mine-full"


def test_published_results_are_the_same_bits_as_themselves() -> None:
    own = read_set(str(PUBLISHED / "oracle"))
    found = compare(own, own)
    assert found.identical == ("oracle/runs.csv", "oracle/claims.csv")
    assert set(found.means.outcome) == {SAME} and len(found.means) > 100 and not found.changes
    assert not len(found.verdicts_changed) and found.runs_alike == (345, 345)


@pytest.mark.slow
def test_two_versions_of_a_study_are_said_to_be_no_comparison() -> None:
    own = read_set(str(PUBLISHED / "oracle"))
    results = own.studies["oracle"]
    settings = {**results.origin["settings"], "version": 1}
    one, two = (
        ResultSet("x", "x", {"c": dataclasses.replace(results, origin={"settings": settings | {"version": version}})})
        for version in (1, 2)
    )
    assert "version 1 and of version 2: not to be compared" in summary(compare(one, two))[0]
    assert not any("version" in sentence for sentence in summary(compare(one, one)))


def test_a_planted_difference_in_published_results_is_the_one_that_is_found() -> None:
    own = read_set(str(PUBLISHED / "oracle"))
    results = own.studies["oracle"]
    planted = (results.runs.arm == "scd-fp32") & (results.runs.metric == "map_rms")
    noise = 1 + 1e-3 * (results.runs.seed - results.runs.seed.min())  # the same wherever a run stands
    changed = results.runs.assign(value=results.runs.value * noise + planted)
    other = dataclasses.replace(results, runs=changed, digests={**results.digests, "runs.csv": ""})
    found = compare(own, ResultSet("x", "x", {"oracle": other}))
    assert found.of(FOUND)[["arm", "metric"]].to_numpy().tolist() == [["scd-fp32", "map_rms"]]
    assert found.tested > 500 and found.identical == ("oracle/claims.csv",)


@pytest.mark.slow
def test_two_studies_by_other_names_are_compared_and_of_many_those_of_the_same_name() -> None:
    oracle = read_set(str(PUBLISHED / "oracle")).studies["oracle"]
    digits = dataclasses.replace(oracle, study="digits")
    renamed = ResultSet("b", "b", {"mine": oracle})
    beside = summary(compare(ResultSet("a", "a", {"oracle": oracle}), ResultSet("b", "b", {"digits": digits})))
    assert "Two studies, oracle and digits: a verdict is of its study, and of its rule there." in beside
    assert any("between two sets of one study" in sentence for sentence in beside)
    assert any(sentence.endswith("verdicts differ.") for sentence in beside)
    assert set(compare(ResultSet("a", "a", {"oracle": oracle}), renamed).means.outcome) == {SAME}
    both = ResultSet("a", "a", {"oracle": oracle, "digits": digits})
    found = compare(both, ResultSet("b", "b", {"digits": digits}))
    assert found.studies_only == (["oracle"], []) and set(found.means.study) == {"digits"}


# --- the page, and the command ------------------------------------------------------------------------


CHANGED = "positional-embedding-helps-students"
"""Whose verdict the copy has other."""


def changed_copy(folder: Path) -> Path:
    """Published results with a planted difference, a verdict that changed, an arm that is gone, a run that diverged."""
    shutil.copytree(PUBLISHED / "oracle", folder)
    runs = read_table(folder / "runs.csv")
    first = runs.seed.min()
    runs = runs[runs.arm != "scd-raw"].assign(value=lambda t: t.value * (1 + 1e-3 * (t.seed.fillna(first) - first)))
    runs.loc[(runs.arm == "scd-fp32") & (runs.metric == "map_rms"), "value"] += 1
    runs.loc[(runs.arm == "sct-fp32") & (runs.metric == "map_worst") & (runs.seed == first), "status"] = "diverged"
    write_table(runs, folder / "runs.csv")
    verdicts = read_table(folder / "claims.csv")
    verdicts.loc[verdicts.claim == CHANGED, "verdict"] = "inconclusive"
    write_table(verdicts, folder / "claims.csv")
    return folder


@pytest.mark.slow
def test_the_page_stands_alone_and_says_what_differs(tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cli.main(["compare", str(PUBLISHED / "oracle"), str(changed_copy(tmp_path / "new"))])
    printed = " ".join(capsys.readouterr().out.split())
    judged = len(read_table(PUBLISHED / "oracle" / "claims.csv"))
    assert f"1 of {judged} verdicts changed." in printed and "and 1 differs" in printed
    assert f"In {PUBLISHED / 'oracle'} alone: 9 means of 1 arm." in printed
    address = next(Path("reports/compare").glob("*.html"))
    assert str(address) in printed and address.name.endswith(".html") and len(address.name) < 140
    page = address.read_text()
    assert not re.search(r'(src|href)="(?!#|data:)', page) and "url(" not in page  # nothing is loaded
    main = page[page.index("<main") :]
    for said in (CHANGED, "scd-fp32", "1 of 5 diverged", "scd-raw", "Benjamini", "Made with"):
        assert said in main
    assert '<table class="sortable' in main and "data-sort" in main


@pytest.mark.slow
def test_the_same_bits_are_said_to_be_the_same_bits(tmp_path: Path, capsys) -> None:
    same = str(PUBLISHED / "oracle")
    cli.main(["compare", same, same, "--out", str(tmp_path / "page.html")])
    printed = capsys.readouterr().out
    assert "oracle/runs.csv and oracle/claims.csv are the same bits in both." in printed
    judged = len(read_table(PUBLISHED / "oracle" / "claims.csv"))
    assert "All 687 means are the same in every digit." in printed
    assert f"None of {judged} verdicts changed." in printed
    assert "There was nothing to test." in (tmp_path / "page.html").read_text()


def test_one_seed_a_side_gives_a_difference_without_a_p(repository: Path, capsys) -> None:
    for name, value in (("a", 1.0), ("b", 2.0)):
        Path(name).mkdir()
        write_table(rows(np.array([[value]])), Path(name) / "runs.csv")
    cli.main(["compare", "a", "b"])
    assert "1 differs and cannot be tested" in capsys.readouterr().out
    assert "one seed on a side: no p" in Path("reports/compare/a-b.html").read_text()


def test_the_command_refuses_what_is_not_there_before_it_writes(repository: Path, capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["compare", "results/published/tiny", "nothing"])
    assert "no folder, no study and no commit" in str(ended.value.code) and not Path("reports").exists()
