"""The ledger is whole and refuses what does not fit; its rules are dated; its verdicts name their study."""

import copy
import math
import shlex
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import yaml

from tests.workflow.conftest import copied_project, environment, snakemake
from trigbench.workflow.claims.collecting import collect, tabulate_study
from trigbench.workflow.claims.dating import UNKNOWN, Dated, rule_commits, rule_first
from trigbench.workflow.claims.judge import Tables, judge, judge_claim, judge_study
from trigbench.workflow.claims.ledger import CLAIMS, Ledger, check_claims, claims_of, read_claims, resolved
from trigbench.workflow.claims.statistics import COLUMNS
from trigbench.workflow.claims.tables import CURVE_COLUMNS, write_table
from trigbench.workflow.claims.verdicts import CLAIM_NEW, RULE_CHANGED
from trigbench.workflow.claims.words import sentence
from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine.files import write_json
from trigbench.workflow.study.claim import claims_digest
from trigbench.workflow.study.freshness import FRESH, collected_from, verdict
from trigbench.workflow.study.reading import load, shipped
from trigbench.workflow.study.study import Run, Study

FINER = {
    "paper": "sCM", "place": "Fig. 5c", "topic": "discretisation", "claim": "Finer is better.",
    "decided_by": {
        "tiny": {
            "experiment": "discretisation", "metric": "map_rms",
            "of": {"arms": "dscd-8"}, "against": {"arms": "dscd-4"},
            "scale": "log_ratio", "direction": "less", "smallest": 0.05,
        },
    },
}  # fmt: skip
BEST = copy.deepcopy(FINER)
BEST["decided_by"]["tiny"] |= {"of": {"arms": "scd"}, "against": {"arms": "dscd-*", "take": "min"}}
FAR = {"paper": "CM", "place": "Table 1", "topic": "lineage", "claim": "It is good.", "needs": "cifar10"}


@pytest.fixture
def claims() -> dict:
    """A small ledger on the tiny study, free to be changed."""
    return copy.deepcopy({"finer": FINER, "best": BEST, "far": FAR})


@pytest.fixture
def write_claims(tmp_path: Path) -> Callable[[dict], Path]:
    def write(claims: dict) -> Path:
        path = tmp_path / "claims.yaml"
        path.write_text(yaml.safe_dump({"claims": claims}, sort_keys=False))
        return path

    return write


# --- the shipped ledger --------------------------------------------------------------------------


def test_the_ledger_holds_as_many_claims_as_it_must() -> None:
    claims = read_claims().claims.values()
    papers = Counter(claim.paper for claim in claims)
    assert papers["sCM"] >= 40
    assert papers["CM"] + papers["iCT"] + papers["ECT"] >= 12
    assert sum(bool(claim.decided_by) for claim in claims) >= 32
    assert {claim.needs for claim in claims} == {None, "imagenet512", "imagenet64", "cifar10"}
    assert sum(claim.erratum is not None for claim in claims) >= 8
    assert {study for claim in claims for study in claim.decided_by} <= {*shipped()}


@pytest.mark.parametrize("name", ["oracle", "digits"])
def test_every_shipped_claim_names_what_its_studies_have(name: str) -> None:
    study, ledger = load(name), read_claims()
    check_claims(ledger, [study])
    rules = [claim.decided_by[name] for claim in ledger.claims.values() if name in claim.decided_by]
    statistics = Counter(resolved(rule, study.arms_of(rule.experiment)).statistic for rule in rules)
    assert max(statistics.values()) == 1


def test_reading_the_ledger_imports_nothing_heavy() -> None:
    heavy = {"torch", "numpy", "pandas", "scipy"}
    code = f"import sys, trigbench.workflow.claims.ledger; assert not {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], env=environment(), check=True)


# --- the schema ----------------------------------------------------------------------------------


def _rule(**changes: object) -> Callable[[dict], None]:
    return lambda claims: claims["finer"]["decided_by"]["tiny"].update(changes)


def _twice(**changes: object) -> Callable[[dict], None]:
    def change(claims: dict) -> None:
        claims["again"] = copy.deepcopy(FINER)
        claims["again"]["decided_by"]["tiny"] |= changes

    return change


BAD = {
    "unknown key of a claim": (lambda c: c["finer"].update(erata="x"), ["finer.erata", "did you mean 'erratum'"]),
    "unknown column of a term": (_rule(of={"arms": "scd", "step": 1}), ["of.0.step", "did you mean 'steps'"]),
    "missing key": (lambda c: c["finer"].pop("place"), ["finer.place", "add the key 'place'"]),
    "unknown paper": (lambda c: c["finer"].update(paper="DDPM"), ["finer.paper", "'sCM'"]),
    "unknown metric": (_rule(metric="map_rsm"), ["unknown metric 'map_rsm' of runs", "did you mean 'map_rms'"]),
    "metric of the other table": (_rule(metric="log_weight"), ["'log_weight' of runs (without 'x')"]),
    "ratio of what may be zero": (_rule(metric="recall"), ["'recall' may be zero", "difference"]),
    "no difference without a margin": (_rule(direction="same", smallest=0), ["'smallest' must be more than 0"]),
    "negative margin": (_rule(smallest=-0.1), ["smallest", "greater than or equal to 0"]),
    "several arms of which none is taken": (_rule(of={"arms": "dscd-*"}), ["how to 'take' them"]),
    "constant with a selection": (_rule(of={"arms": "scd", "value": 2}), ["constant 'value' or a selection"]),
    "runs and curves mixed": (_rule(of={"arms": "scd", "x": 1}), ["'x' stands in every term or in none"]),
    "nothing to compare with": (_rule(against=[]), ["against", "at least 1"]),
    "neither decided nor needing": (lambda c: c["far"].pop("needs"), ["claims.far", "'decided_by'"]),
    "an id that is no name": (lambda c: c.update({"Not a Name": FAR}), ["Not a Name", "pattern"]),
    "the same statistic": (_twice(), ["claims.again.decided_by.tiny", "'finer'", "remove one"]),
    "the same turned round": (
        _twice(of={"arms": "dscd-4"}, against={"arms": "dscd-8"}, direction="more"), ["same statistic"],
    ),
    "the same against a constant": (_twice(against=[{"arms": "dscd-4"}, {"value": 2}]), ["same statistic"]),
    "the same on another scale": (_twice(scale="difference", smallest=0.01), ["same statistic"]),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_a_bad_ledger_is_refused_naming_file_key_and_remedy(case: str, claims: dict, write_claims) -> None:
    change, wanted = BAD[case]
    change(claims)
    path = write_claims(claims)
    with pytest.raises(BenchError) as caught:
        read_claims(path)
    for part in (*wanted, str(path), "remedy:"):
        assert part in str(caught.value)


def test_a_claim_that_stands_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "claims.yaml"
    path.write_text("claims:\n  a: {}\n  a: {}\n")
    with pytest.raises(BenchError, match="'a' stands twice"):
        read_claims(path)


UNKNOWN_NAMES = {
    "experiment": (_rule(experiment="discretization"), "did you mean 'discretisation'"),
    "arm of an experiment": (_rule(experiment="training"), "'dscd-8'"),
    "arm": (_rule(of={"arms": "dscd-9"}), "did you mean 'dscd-8'"),
    "pattern": (_rule(of={"arms": "vsd-*", "take": "min"}), "remedy: choose of: dscd-4, dscd-8, scd"),
}


@pytest.mark.parametrize("case", UNKNOWN_NAMES)
def test_a_name_that_a_study_lacks_is_refused_naming_file_key_and_remedy(
    case: str, claims: dict, write_claims, tiny: dict, write_study
) -> None:
    change, wanted = UNKNOWN_NAMES[case]
    change(claims)
    path = write_claims(claims)
    with pytest.raises(BenchError) as caught:
        check_claims(read_claims(path), [load(write_study(tiny))], path)
    for part in (wanted, str(path), "claims.finer.decided_by", "remedy:"):
        assert part in str(caught.value)


def test_names_are_those_of_the_study_s_default_budget(claims: dict, write_claims, tiny: dict, write_study) -> None:
    tiny["budgets"] = {"small": {"arms": ["scd"]}}
    path = write_claims(claims)
    check_claims(read_claims(path), [load(write_study(tiny), "small")], path)


def test_a_claim_that_another_s_own_study_decides_breaks_no_study(
    claims: dict, write_claims, tiny: dict, write_study
) -> None:
    claims["finer"]["decided_by"] = {"somebody-s": claims["finer"]["decided_by"]["tiny"]}
    path = write_claims(claims)
    check_claims(read_claims(path), [load(write_study(tiny)), load("oracle")], path)
    elsewhere = judge(read_claims(path).claims["finer"], load("oracle"), Tables(pd.DataFrame(), pd.DataFrame(), ()))
    assert (elsewhere[0].verdict, elsewhere[0].note) == ("not run", "needs study somebody-s")


def test_a_study_that_no_claim_names_is_never_held_against_the_ledger(tiny: dict, write_study) -> None:
    check_claims(read_claims(), [load(write_study(tiny))])


# --- ways of sampling -----------------------------------------------------------------------------


@pytest.fixture
def two_ways(claims: dict, tiny: dict) -> dict:
    """The term of a rule on samples of two steps, of which the study has two kinds."""
    tiny["samplers"] = {"mine": {"solver": "few", "times": [[], [0.8], [1.1, 0.8], [1.1, 0.05]]}}
    tiny["arms"]["scd"]["samplers"] = ["few", "mine"]
    tiny["experiments"]["discretisation"]["samplers"] = ["few", "mine"]
    term = {"arms": "scd"}
    changes = {"metric": "sliced_wasserstein", "of": term, "against": {"value": 1}}
    claims["finer"]["decided_by"]["tiny"] |= changes
    return term


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"steps": 2}, "{steps: 2, sampling: few, times: [1.1]}, {steps: 2, sampling: mine, times: [0.8]}"),
        ({"steps": 3, "sampling": "mine"}, "{steps: 3, sampling: mine, times: [1.1, 0.8]}"),
        ({"steps": 1}, "{steps: 1, sampling: few}, {steps: 1, sampling: mine}"),
    ],
)
def test_a_term_that_fits_two_ways_of_sampling_is_refused_before_any_job_and_told_how_to_write_it(
    said: dict, told: str, two_ways: dict, claims: dict, write_claims, tiny: dict, write_study
) -> None:
    two_ways |= said
    path = write_claims(claims)
    with pytest.raises(BenchError) as caught:
        check_claims(read_claims(path), [load(write_study(tiny))], path)
    for part in ("'scd' is sampled in 2 ways", told, str(path), "claims.finer.decided_by.tiny", "remedy:"):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("said", "value"),
    [
        ({"steps": 2, "sampling": "few"}, 0.2),
        ({"times": [0.8]}, 0.3),
        ({"sampling": "few", "times": []}, 0.1),
        ({"times": [1.1, 0.05]}, 0.5),
        ({"steps": 3, "take": "min"}, 0.4),
    ],
)
def test_a_term_selects_a_way_of_sampling_by_its_name_and_all_its_times(
    said: dict, value: float, two_ways: dict, claims: dict, write_claims, tiny: dict, write_study
) -> None:
    two_ways |= said
    study, ledger = load(write_study(tiny)), read_claims(write_claims(claims))
    check_claims(ledger, [study])
    ways = {("few", None): 0.1, ("few", "[1.1]"): 0.2, ("mine", None): 0.1, ("mine", "[0.8]"): 0.3}
    ways |= {("mine", "[1.1, 0.8]"): 0.4, ("mine", "[1.1, 0.05]"): 0.5}
    rows = [
        dict.fromkeys(COLUMNS)
        | {"experiment": "discretisation", "arm": "scd", "metric": "sliced_wasserstein", "seed": seed, "value": number}
        | {"sampling": name, "times": times, "steps": times.count(",") + 2 if times else 1, "status": "finished"}
        for (name, times), number in ways.items()
        for seed in (0, 1, 2)
    ]
    found = judge(ledger.claims["finer"], study, Tables(pd.DataFrame(rows), pd.DataFrame(columns=CURVE_COLUMNS), ()))
    assert found[1].values == pytest.approx((math.log(value),) * 3)


# --- a study's own --------------------------------------------------------------------------------


@pytest.fixture
def own(tiny: dict) -> dict:
    """The tiny study with a claim of its own."""
    mine = copy.deepcopy(FINER) | {"paper": "A blog post", "topic": "what I wonder", "place": "below the fold"}
    tiny["claims"] = {"mine": mine}
    return mine


BAD_OWN = {
    "another study's": (lambda c: c.update(decided_by={"oracle": c["decided_by"]["tiny"]}), "under 'tiny'"),
    "undecided": (lambda c: c.update(decided_by={}, needs="cifar10"), "under 'tiny'"),
    "a typing error": (lambda c: c["decided_by"]["tiny"]["of"].update(step=1), "did you mean 'steps'"),
    "unknown metric": (lambda c: c["decided_by"]["tiny"].update(metric="map_rsm"), "did you mean 'map_rms'"),
    "unknown experiment": (lambda c: c["decided_by"]["tiny"].update(experiment="x"), "unknown experiment: 'x'"),
    "unknown arm": (lambda c: c["decided_by"]["tiny"].update(of={"arms": "dscd-9"}), "did you mean 'dscd-8'"),
    "a metric that its data never measure": (
        lambda c: c["decided_by"]["tiny"].update(metric="fd_train"),
        "'fd_train' is not measured of 'dscd-8'",
    ),
    "a curve of snapshots that no arm keeps": (
        lambda c: c["decided_by"]["tiny"].update(
            metric="sliced_wasserstein",
            of={"arms": "scd", "x": 3},
            against={"arms": "dscd-4", "x": 3},
        ),
        "'sliced_wasserstein' is not measured of 'scd'",
    ),
    "a curve of what has none": (
        lambda c: c["decided_by"]["tiny"].update(
            metric="direction_spike",
            of={"arms": "scd", "x": 3},
            against={"arms": "dscd-4", "x": 3},
        ),
        "'direction_spike' is not measured of 'scd'",
    ),
    "a cost that is not measured": (
        lambda c: c["decided_by"]["tiny"].update(metric="train_flops"),
        "'train_flops' is not measured of 'dscd-8'",
    ),
    "a way in which nothing is sampled": (
        lambda c: c["decided_by"]["tiny"].update(
            metric="sliced_wasserstein", of={"arms": "scd", "steps": 7}, against={"value": 1}
        ),
        "choose of: {steps: 1, sampling: few}, {steps: 2, sampling: few, times: [1.1]}",
    ),
    "an unknown sampler": (
        lambda c: c["decided_by"]["tiny"].update(
            metric="sliced_wasserstein", of={"arms": "scd", "sampling": "zzz", "take": "min"}, against={"value": 1}
        ),
        "'scd' is sampled in no way that fits",
    ),
    "steps of what is no sample": (
        lambda c: c["decided_by"]["tiny"]["of"].update(steps=1),
        "'map_rms' is measured of no samples, and has no 'steps'",
    ),
    "another objective than the arm's": (
        lambda c: c["decided_by"]["tiny"]["of"].update(objective="scd"),
        "'dscd-8' is no arm of objective 'scd'",
    ),
    "an id of the ledger's": (lambda c: None, "has a claim 'mine', too"),
}


@pytest.mark.parametrize("case", BAD_OWN)
def test_a_bad_claim_of_a_study_s_own_is_refused_naming_its_file_key_and_remedy(
    case: str, own: dict, claims: dict, tiny: dict, write_study, write_claims
) -> None:
    change, wanted = BAD_OWN[case]
    change(own)
    ledger = read_claims(write_claims({"mine": claims["far"]} if "ledger" in case else claims))
    path = write_study(tiny)
    with pytest.raises(BenchError) as caught:
        check_claims(ledger, [load(path)])
    for part in (wanted, f"file:   {path}", "key:    claims.mine", "remedy:"):
        assert part in str(caught.value)


def test_a_study_s_own_claims_are_judged_and_dated_by_its_own_file_and_the_papers_are_not_listed(
    own: dict, tiny: dict, write_study, checkout: Path
) -> None:
    study = load(write_study(tiny))
    commit = _commit(checkout, "tiny.yaml")
    _results(study, [commit], VALUES)
    table = judge_study(study)  # by the project's own ledger
    assert list(table.claim) == ["mine"] and list(table.verdict) == ["reproduced"]
    assert (table.paper[0], table.topic[0], table.rule_commit[0], table.rule_first[0]) == (
        "A blog post", "what I wonder", commit, "yes",
    )  # fmt: skip
    assert "mine (A blog post, below the fold): reproduced on tiny" in sentence(judge_claim(study, "mine"))
    assert claims_digest(claims_of(read_claims(), study)) != claims_digest(claims_of(read_claims(), load("oracle")))
    changed = load(write_study(tiny | {"claims": {"mine": own | {"claim": "Other words."}}}))
    assert claims_digest(changed.claims) != claims_digest(study.claims)
    run = Run(arm="scd", seed=0)
    assert changed.specification(run) == study.specification(run), "no part of what a run is"


def test_verdicts_of_an_older_rule_beside_newer_tables_are_made_again(
    own: dict, tiny: dict, write_study, checkout: Path
) -> None:
    """And whoever only tabulates, by hand, has not judged."""

    def fresh(study: Study) -> bool:
        made_from = collected_from(study, claims_of(read_claims(), study))
        return verdict(study.folder / "provenance.json", lambda: made_from) == FRESH

    study = load(write_study(tiny))
    _results(study, [], VALUES)
    assert list(collect(study).verdict) == ["reproduced"] and fresh(study)
    own["decided_by"]["tiny"]["direction"] = "more"
    study = load(write_study(tiny))
    assert not fresh(study)
    tabulate_study(study)
    assert not fresh(study)
    assert list(collect(study).verdict) == ["not reproduced"] and fresh(study)


# --- judging -------------------------------------------------------------------------------------


def _git(folder: Path, *arguments: str) -> str:
    about = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", "-C", folder, *about, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _commit(folder: Path, file: str = "claims.yaml") -> str:
    _git(folder, "add", file)
    _git(folder, "commit", "--allow-empty", "-m", "x")
    return _git(folder, "rev-parse", "HEAD")


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty repository, in which the test works."""
    _git(tmp_path, "init", "--quiet")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _results(study, commits: list[str | None], values: dict[str, list[float]]) -> None:
    """Tables of a study as its workflow leaves them."""
    rows = [
        dict.fromkeys(COLUMNS)
        | {"study": study.label, "experiment": "discretisation", "arm": arm, "metric": "map_rms"}
        | {"seed": seed, "value": value, "status": "finished"}
        for arm, numbers in values.items()
        for seed, value in enumerate(numbers)
    ]
    runs, curves = pd.DataFrame(rows, columns=COLUMNS), pd.DataFrame(columns=CURVE_COLUMNS)
    for folder in (study.folder, study.experiment_folder("discretisation")):
        write_table(runs, folder / "runs.csv")
        write_table(curves, folder / "curves.csv")
    write_json(study.folder / "provenance.json", {"commits": commits})


VALUES = {"scd": [0.10, 0.11, 0.12], "dscd-4": [0.2, 0.21, 0.22], "dscd-8": [0.1, 0.1, 0.1]}


def test_every_claim_has_a_row_in_the_order_others_rely_on(
    claims: dict, write_claims, tiny: dict, write_study, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Study, "is_shipped", True)  # others are judged by the claims that they decide
    path, study = write_claims(claims), load(write_study(tiny))
    commit = _commit(checkout)
    _results(study, [None], VALUES)
    assert set(judge_study(study, path).rule_first.dropna()) == {UNKNOWN}
    _results(study, [commit], VALUES)
    judge_study(study, path)
    table = pd.read_csv(study.folder / "claims.csv").set_index("claim")
    first = "claim,paper,place,study,verdict,effect,low,high,seeds,experiment,holm_verdict,p"
    assert (study.folder / "claims.csv").read_text().startswith(first)
    assert list(table.index) == ["finer", "best", "far"]
    assert table.verdict.to_dict() == {"finer": "reproduced", "best": "inconclusive", "far": "not run"}
    assert (table.study == "tiny").all()
    assert table.loc["far", "note"] == "needs study cifar10"
    assert table.loc["finer", "seeds"] == 3
    assert table.loc["finer", "rule_commit"] == table.loc["finer", "results_commit"] == commit
    assert table.loc["finer", "rule_first"] == "yes"


def test_one_claim_is_judged_from_its_experiment_alone_and_its_sentence_names_the_study(
    claims: dict, write_claims, tiny: dict, write_study, checkout: Path
) -> None:
    path, study = write_claims(claims), load(write_study(tiny))
    _results(study, [], VALUES)
    (study.folder / "runs.csv").unlink()
    content = judge_claim(study, "finer", path)
    assert study.verdict_file("finer").is_file()
    assert set(content["effects"]) == {"0", "1", "2"}
    assert "finer (sCM, Fig. 5c): reproduced on tiny" in sentence(content)
    assert "not run on tiny" in sentence(judge_claim(study, "far", path))
    with pytest.raises(BenchError, match=r"unknown claim: 'finner'(.|\n)*did you mean 'finer'"):
        judge_claim(study, "finner", path)


def test_arms_that_a_small_budget_leaves_out_are_named_not_an_error(
    claims: dict, write_claims, tiny: dict, write_study, checkout: Path
) -> None:
    tiny["budgets"] = {"small": {"arms": ["scd", "dscd-8"]}}
    path, study = write_claims(claims), load(write_study(tiny), "small")
    _results(study, [], {arm: VALUES[arm] for arm in ("scd", "dscd-8")})
    table = judge_study(study, path).set_index("claim")
    assert (table.verdict == "not run").all()
    assert table.loc["best", "note"] == "there is no map_rms of dscd-4"
    assert (table.study == "tiny-small").all()


# --- which came first ----------------------------------------------------------------------------


def test_a_rule_changed_after_its_results_is_said_to_be(claims: dict, write_claims, checkout: Path) -> None:
    path = write_claims({"far": FAR})
    _commit(checkout)
    write_claims(claims)
    ruled = _commit(checkout)
    claims["finer"]["claim"] = "Other words."
    claims["best"]["decided_by"]["tiny"]["smallest"] = 0.2
    write_claims(claims)
    changed = _commit(checkout)
    found = rule_commits(path) or {}
    assert found == {"finer tiny": Dated(ruled, ruled), "best tiny": Dated(changed, ruled)}
    assert rule_first(found["finer tiny"], (ruled,), checkout, True) == "yes"
    assert rule_first(found["finer tiny"], (ruled, changed), checkout, True) == "yes"
    assert rule_first(found["best tiny"], (ruled, changed), checkout, True) == RULE_CHANGED
    claims["finer"]["decided_by"]["tiny"]["smallest"] = 0.3
    write_claims(claims)
    uncommitted = rule_commits(path) or {}
    assert uncommitted == {"finer tiny": Dated(None, ruled), "best tiny": Dated(changed, ruled)}
    assert rule_first(uncommitted["finer tiny"], (changed,), checkout, True) == RULE_CHANGED


def test_rules_of_the_past_are_read_as_today_s_are_and_where_they_cannot_be_as_they_were(checkout: Path) -> None:
    text = "claims:\n  a: {decided_by: {010: {smallest: 1e-1}, no: {smallest: 1}}}\n"
    (checkout / "claims.yaml").write_text(f"{text}x: 010\n")  # which is refused today
    old = _commit(checkout)
    (checkout / "claims.yaml").write_text(text)
    new = _commit(checkout)
    found = rule_commits(checkout / "claims.yaml")
    assert found == {"a 010": Dated(new, new), "a no": Dated(new, new)} and old != new
    (checkout / "claims.yaml").write_text(text.replace("010", "mine").replace("no", "other") + "x: 010\n")
    first = _commit(checkout)
    (checkout / "claims.yaml").write_text(text.replace("010", "mine").replace("no", "other"))
    assert set((rule_commits(checkout / "claims.yaml") or {}).values()) == {Dated(first, first)}


def test_a_claim_that_is_new_is_not_said_to_have_changed(claims: dict, write_claims, checkout: Path) -> None:
    path = write_claims({"far": FAR})
    resulted = _commit(checkout)
    write_claims(claims)
    (not_committed,) = {*(rule_commits(path) or {}).values()}
    assert rule_first(not_committed, (resulted,), checkout, True) == UNKNOWN
    _commit(checkout)
    (added,) = {*(rule_commits(path) or {}).values()}
    assert rule_first(added, (resulted,), checkout, True) == CLAIM_NEW
    claims["finer"]["decided_by"]["tiny"]["smallest"] = 0.2
    write_claims(claims)
    _commit(checkout)
    assert rule_first((rule_commits(path) or {})["finer tiny"], (resulted,), checkout, True) == RULE_CHANGED


def test_rules_are_dated_by_their_own_repository_in_a_hook_of_another_one(
    claims: dict, write_claims, checkout: Path, monkeypatch
) -> None:
    path = write_claims(claims)
    ruled = _commit(checkout)
    _git(checkout, "init", "--quiet", "theirs")
    monkeypatch.setenv("GIT_DIR", str(checkout / "theirs/.git"))
    assert {*(rule_commits(path) or {}).values()} == {Dated(ruled, ruled)}


def test_a_rule_on_another_branch_did_not_come_first(claims: dict, write_claims, checkout: Path) -> None:
    write_claims({"far": FAR})
    _commit(checkout)
    _git(checkout, "checkout", "--quiet", "-b", "side")
    write_claims(claims)
    ruled = _commit(checkout)
    _git(checkout, "checkout", "--quiet", "-")
    elsewhere = _commit(checkout)
    assert rule_first(Dated(ruled, ruled), (elsewhere,), checkout, True) == CLAIM_NEW


def test_what_git_cannot_tell_is_unknown(claims: dict, write_claims, tmp_path: Path) -> None:
    path = write_claims(claims)
    assert rule_commits(path) is None
    assert rule_first(Dated(), ("0" * 40,), tmp_path, False) == UNKNOWN
    _git(tmp_path, "init", "--quiet")
    ruled = _commit(tmp_path)
    assert rule_first(Dated(ruled, ruled), ("0" * 40,), tmp_path, True) == UNKNOWN
    assert rule_first(Dated(ruled, ruled), (), tmp_path, True) is None


# --- the workflow --------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_claim_is_a_target_that_makes_its_experiment_alone(
    claims: dict, tiny: dict, write_study, tmp_path: Path
) -> None:
    source, here = tmp_path / "source", tmp_path / "here"
    copied_project(source)
    here.mkdir()
    tiny["seeds"] = [0, 1]
    tiny["experiments"]["coarse"] = tiny["experiments"]["discretisation"] | {"arms": ["dscd-*"]}
    claims["finer"]["decided_by"]["tiny"]["experiment"] = "coarse"
    shipped = source / "workflow/claims.yaml"
    assert shipped.name == CLAIMS.name
    shipped.write_text(yaml.safe_dump({"claims": claims}))
    tiny["claims"] = {"mine": copy.deepcopy(claims["finer"]) | {"paper": "A blog post"}}
    tiny["claims"]["mine"]["decided_by"]["tiny"]["against"] = {"value": 1}
    study = load(write_study(tiny))
    arguments = ("--config", f"study={study.file}", "--cores", "2")
    printed = shlex.split(study.command("claims/mine"))[1:]  # what its page says
    out = snakemake("claims/finer", *printed, "--cores", "2", cwd=here, root=source).stdout
    assert "finer (sCM, Fig. 5c): " in out
    assert "mine (A blog post, Fig. 5c): " in out
    assert {path.name for path in (here / "results/tiny/runs").iterdir()} == {"dscd-4", "dscd-8"}
    assert (here / "results/tiny/claims/finer.json").is_file()
    assert not (here / "results/tiny/runs.csv").exists()
    assert "far (CM, Table 1): not run on tiny" in snakemake("claims/far", *arguments, cwd=here, root=source).stdout
    claims["finer"]["decided_by"]["tiny"]["of"] = {"arms": "dscd-9"}
    shipped.write_text(yaml.safe_dump({"claims": claims}))
    refused = snakemake("-n", *arguments, cwd=here, root=source, check=False)
    assert refused.returncode == 1
    for part in ("unknown arm", "claims.finer.decided_by.tiny", "did you mean"):
        assert part in refused.stdout


def test_an_empty_ledger_is_a_ledger() -> None:
    assert Ledger(claims={}).claims == {}
