"""The ledger is whole and refuses what does not fit; its rules are dated; its verdicts name their study."""

import copy
import itertools
import math
import re
import shlex
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from tests.workflow.conftest import copied_project, environment, snakemake
from trigbench.workflow.claims import dating
from trigbench.workflow.claims.collecting import collect, tabulate_study
from trigbench.workflow.claims.dating import UNKNOWN, Dated, rule_commits, rule_first
from trigbench.workflow.claims.deciding import (
    OF_JUDGEMENT,
    VERDICT_COLUMNS,
    Tables,
    details,
    judge,
    judge_claim,
    judge_study,
)
from trigbench.workflow.claims.edges import choice_at_the_edge
from trigbench.workflow.claims.effects import Choice
from trigbench.workflow.claims.family import LATE, Family, after_holm, results_mark, told
from trigbench.workflow.claims.history import histories
from trigbench.workflow.claims.ledger import (
    CLAIMS,
    Ledger,
    check_claims,
    check_rule,
    claims_of,
    read_claims,
    resolved,
)
from trigbench.workflow.claims.seen import NO_ARM, Used, published_results, seen, used_by
from trigbench.workflow.claims.statistics import COLUMNS
from trigbench.workflow.claims.tables import CURVE_COLUMNS, read_table, write_table
from trigbench.workflow.claims.verdicts import CLAIM_NEW, RULE_CHANGED, WORDS, Judgement, fresh, holm_verdicts, totals
from trigbench.workflow.claims.words import sentence, summary
from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine.files import read_json, write_json
from trigbench.workflow.report import recomputing as recompute
from trigbench.workflow.report import second_bars, second_numbers, second_reading
from trigbench.workflow.report.matrix import draw_matrix
from trigbench.workflow.report.pages.claim import history_table, withdrawn_pages
from trigbench.workflow.report.pages.common import render
from trigbench.workflow.report.pages.rules import ALONE, rule_words
from trigbench.workflow.report.publishing import drawn_tables
from trigbench.workflow.steps.recompute import command as recompute_command
from trigbench.workflow.study.claim import Claim, claims_digest
from trigbench.workflow.study.freshness import FRESH, collected_from, verdict
from trigbench.workflow.study.kinds import metrics_of
from trigbench.workflow.study.quantities import COSTS, CURVES, QUANTITIES, is_exact
from trigbench.workflow.study.reading import load
from trigbench.workflow.study.shipped import shipped
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
BEST["decided_by"]["tiny"] |= {"of": {"arms": "scd"}, "against": {"arms": "dscd-*", "take": "each"}}
FAR = {"paper": "CM", "place": "Table 1", "topic": "lineage", "claim": "It is good.", "needs": "cifar10"}
GONE: dict[str, Any] = {key: text for key, text in FAR.items() if key != "needs"}
GONE["withdrawn"] = {"date": "2026-01-02", "why": "It was wrong."}


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
    assert {claim.needs for claim in claims} == {None, "imagenet512", "cifar10"}
    assert sum(claim.erratum is not None for claim in claims) >= 8
    assert {study for claim in claims for study in claim.decided_by} <= {*shipped()}


@pytest.mark.one_in(3)
@pytest.mark.parametrize(
    "name",
    [
        "colouring",
        "oracle",
        "oracle-long",
        "oracle-seeds",
        "digits",
        "digits-lineage",
        "digits-maps",
        "editing",
        "flow_maps",
        "latent-clothes",
        "low-rank",
        "speech",
        "uses",
        "video",
    ],
)
def test_every_shipped_claim_names_what_its_studies_have(name: str) -> None:
    study, ledger = load(name), read_claims()
    check_claims(ledger, [study])
    rules = [claim.decided_by[name] for claim in ledger.claims.values() if name in claim.decided_by]
    statistics = Counter(resolved(rule, study.arms_of(rule.experiment)).statistic for rule in rules)
    assert max(statistics.values()) == 1


@pytest.mark.one_in(6)
@pytest.mark.parametrize("name", shipped())
def test_a_verdict_rests_on_both_parts_of_the_data_where_a_study_measures_both(name: str) -> None:
    """All other rules on the distance to the training part say on the claim's page that they rest on it alone."""
    study = load(name)
    for claim, of_claim in read_claims().claims.items():
        rule = of_claim.decided_by.get(name)
        if rule is None or not any(metric.endswith("_train") for metric in rule.metrics) or rule.also:
            continue
        paired = rule.metric == "fd_train" and any(t.value is None for t in rule.against)  # else the paper's own number
        if paired and study.experiments[rule.experiment].measurement is None:  # there it is known what is measured
            with pytest.raises(BenchError, match=r"not measured|sampled in no way"):
                both = rule.model_copy(update={"also": ("fd_held_out",)})
                check_rule(both, study, CLAIMS, claim, metrics_of(study.data))
        about = {"direction": rule.direction, "smallest_effect": rule.smallest, "scale": rule.scale}
        assert ALONE in rule_words(rule.model_dump(exclude_none=True, exclude_defaults=True), about), claim


@pytest.mark.slow
def test_what_the_ledger_was_found_to_lack_is_mended() -> None:
    claims = read_claims().claims
    rules = [rule for claim in claims.values() for rule in claim.decided_by.values()]
    arms = {arm for rule in rules if rule.activity for arm in rule.activity.arms}
    assert arms == {"scd-clip", "sct-clip", "short-sct-clip", "early-clip"}, (
        "wherever an arm is clipped it must have acted"
    )
    for name, claim in claims.items():
        for rule in claim.decided_by.values():
            clipped = [arm for arm in rule.arms if "clip" in arm]
            assert not clipped or rule.activity is not None, name
            of_vsd = [arm for arm in rule.arms if "vsd" in arm]
            assert not of_vsd or name == "vsd-beats-scd-by-dinov2" or (rule.sane and rule.sane.at_most == 2), name
    assert not any(rule.metric in ("ct_minus_cd_loss", "gradient_noise") for rule in rules)
    withdrawn = {name: claim.withdrawn for name, claim in claims.items() if claim.withdrawn}
    assert len(withdrawn) == 35 and all(change.why.endswith(".") for change in withdrawn.values())
    assert not withdrawn.keys() & claims_of(read_claims(), load("oracle")).keys(), "they are never counted"


def test_every_place_can_be_looked_up_or_says_that_it_was_not() -> None:
    numbered = r"(Figs?\.|Tables?|Secs?\.|App\.|Theorem|Proposition|Algorithm|Footnote) [A-Z]?[.\d]*\d"
    told = rf"{numbered}|App\.|Sec\. [A-Z]|Abstract|Discussion and limitations|none; ours|\(place: not verified\)$"
    places = {name: claim.place for name, claim in read_claims().claims.items()}
    assert not {name: place for name, place in places.items() if not re.search(told, place)}
    assert 0 < sum(place.endswith("(place: not verified)") for place in places.values()) < 10


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
    "needing what is not there": (lambda c: c["far"].update(needs="imagenet65"), ["claims.far", "did you mean"]),
    "neither decided nor needing": (lambda c: c["far"].pop("needs"), ["claims.far", "'decided_by'"]),
    "withdrawn and decided": (
        lambda c: c["finer"].update(withdrawn={"date": "2026-01-02", "why": "It was wrong."}),
        ["claims.finer", "'withdrawn'", "not the others"],
    ),
    "withdrawn on some study": (
        lambda c: c.update(far=GONE | {"withdrawn": GONE["withdrawn"] | {"studies": "tiny"}}), ["names no studies"],
    ),
    "withdrawn without a reason": (lambda c: c.update(far=GONE | {"withdrawn": {"date": "2026-01-02"}}), ["'why'"]),
    "changed on no day": (
        lambda c: c["finer"].update(changed=[{"date": "yesterday", "why": "It was wrong."}]), ["changed.0.date"],
    ),
    "an id that is no name": (lambda c: c.update({"Not a Name": FAR}), ["Not a Name", "pattern"]),
    "the best of several arms": (
        _rule(of={"arms": "scd"}, against={"arms": "dscd-*", "take": "min"}),
        ["after the fact", "take: each", "choose_on"],
    ),
    "an arm against itself": (_rule(of={"arms": "scd"}, against={"arms": "scd"}), ["the same term", "another arm"]),
    "the best of several settings": (_rule(of={"arms": "scd", "take": "min"}), ["after the fact", "take: each"]),
    "two ways to one number": (_rule(of={"arms": "scd", "take": "each", "choose_on": [0]}), ["keep one of them"]),
    "an activity that nothing logs": (
        _rule(activity={"arms": "scd", "metric": "cliped_share"}),
        ["activity: unknown metric", "did you mean 'clipped_share'"],
    ),
    "a bar without a bound": (
        _rule(sane={"name": "N", "competitor": {"arms": "dscd-4"}, "metric": "map_rms"}), ["'at_most' or 'at_least'"],
    ),
    "a bar of a constant": (
        _rule(sane={"name": "N", "competitor": {"value": 2}, "metric": "map_rms", "at_most": 2}), ["names the one arm"],
    ),
    "a bar on what is claimed": (
        _rule(sane={"name": "N", "competitor": {"arms": "dscd-8"}, "metric": "map_rms", "at_most": 2}),
        ["the very number that the claim is about"],
    ),
    "a bar on what is claimed, too": (
        _rule(
            also="map_rms_one_step",
            sane={"name": "N", "competitor": {"arms": "dscd-8"}, "metric": "map_rms_one_step", "at_most": 2},
        ),
        ["the very number that the claim is about"],
    ),
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
    "arm of a bar": (
        _rule(sane={"name": "N", "competitor": {"arms": "dscd-5"}, "metric": "map_rms", "at_most": 2}),
        "did you mean 'dscd-",
    ),
    "arm that acts": (_rule(activity={"arms": "scd-clip", "metric": "clipped_share"}), "unknown arm"),
    "pattern": (_rule(of={"arms": "vsd-*", "take": "each"}), "remedy: choose of: dscd-4, dscd-8, scd"),
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


def test_a_bar_may_be_on_the_collapse_of_a_map_from_everywhere_alone(
    claims: dict, write_claims, tiny: dict, write_study
) -> None:
    bar = {"name": "N", "metric": "collapse", "at_most": 0.5, "competitor": {"arms": "dscd-4"}}
    claims["finer"]["decided_by"]["tiny"]["sane"] = bar
    path = write_claims(claims)
    check_claims(read_claims(path), [load(write_study(tiny))], path)
    tiny["arms"]["base"] = {"objective": "diffusion"}
    claims["finer"]["decided_by"]["tiny"]["sane"] = bar | {"competitor": {"arms": "base"}}
    path = write_claims(claims)
    with pytest.raises(BenchError, match="'collapse' is not measured of 'base'"):
        check_claims(read_claims(path), [load(write_study(tiny))], path)


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


@pytest.mark.slow
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


FEW_STEPS = {"metric": "sliced_wasserstein", "of": {"arms": "scd", "steps": 2}}
OTHER_STEPS = {
    "another arm": FEW_STEPS | {"against": {"arms": "dscd-4", "steps": 1}},
    "one of several": FEW_STEPS
    | {"of": {"arms": "dscd-4", "steps": 2}, "against": {"arms": ["scd", "dscd-8"], "steps": 2, "take": "each"}},
    "a metric of the term": FEW_STEPS
    | {
        "metric": "map_rms",
        "of": {"arms": "scd", "steps": 2, "metric": "sliced_wasserstein"},
        "against": {"arms": "dscd-4"},
    },
}
AS_RATED: dict[str, dict[str, Any]] = {
    "in as many steps": FEW_STEPS | {"of": {"arms": "scd", "steps": 1}, "against": {"arms": "dscd-4", "steps": 2}},
    "an arm of these steps": FEW_STEPS
    | {"of": {"arms": "scd-two", "steps": 2}, "against": {"arms": "dscd-4", "steps": 2}},
    "one network": FEW_STEPS | {"against": {"arms": "scd", "steps": 1}},
    "without steps": {"of": {"arms": "scd-two"}, "against": {"arms": "scd"}},
    "a curve": FEW_STEPS
    | {"of": {"arms": "scd", "steps": 2, "x": 1}, "against": {"arms": "scd-two", "steps": 1, "x": 1}},
}


def _tuned(tiny: dict, write_study) -> Study:
    scd = tiny["arms"]["scd"] | {"snapshots": 1}
    tiny["tuning_seeds"], tiny["tuning_metric"] = [100], "sliced_wasserstein"
    tiny["arms"]["tune-{rate}"] = scd | {"rate": [1e-3, 2e-3, 4e-3], "tuning": True}
    tiny["arms"]["scd"] = scd | {"rate_of": "tune-*"}
    tiny["arms"]["scd-two"] = scd | {"rate_of": "tune-*", "rate_steps": 2}
    tiny["experiments"]["discretisation"] |= {"arms": ["scd", "scd-two", "dscd-*"], "samplers": ["few"]}
    return load(write_study(tiny))


@pytest.mark.parametrize("case", OTHER_STEPS)
def test_arms_are_not_compared_in_steps_that_did_not_choose_their_rates(
    case: str, claims: dict, write_claims, tiny: dict, write_study
) -> None:
    claims["finer"]["decided_by"]["tiny"] |= OTHER_STEPS[case]
    with pytest.raises(BenchError) as caught:
        check_claims(read_claims(write_claims({"finer": claims["finer"]})), [_tuned(tiny, write_study)])
    for part in ("'scd' is compared in 2 steps", "was chosen in 1", "claims.finer.decided_by.tiny", "rate_steps: 2"):
        assert part in str(caught.value)


@pytest.mark.parametrize("case", AS_RATED)
def test_arms_are_compared_in_the_steps_that_chose_their_rates_and_what_has_none_is_free(
    case: str, claims: dict, write_claims, tiny: dict, write_study
) -> None:
    claims["finer"]["decided_by"]["tiny"] |= AS_RATED[case]
    check_claims(read_claims(write_claims({"finer": claims["finer"]})), [_tuned(tiny, write_study)])


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
        ({"steps": 3, "take": "mean"}, 0.45),
        ({"steps": 3, "choose_on": [7]}, 0.4),
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
        for seed in (0, 1, 2, 7)
    ]
    found = judge(ledger.claims["finer"], study, Tables(pd.DataFrame(rows), pd.DataFrame(columns=CURVE_COLUMNS), ()))
    assert found[1][0].values[:3] == pytest.approx((math.log(value),) * 3)


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
            metric="sliced_wasserstein", of={"arms": "scd", "sampling": "zzz", "take": "mean"}, against={"value": 1}
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_verdicts_of_an_older_rule_beside_newer_tables_are_made_again(
    own: dict, tiny: dict, write_study, checkout: Path
) -> None:
    """And whoever only tabulates, by hand, has not judged."""

    def fresh(study: Study) -> bool:
        made_from = collected_from(study, claims_of(read_claims(), study))
        return verdict(study.made.origin, lambda: made_from) == FRESH

    study = load(write_study(tiny))
    _results(study, [], VALUES)
    assert list(collect(study).verdict) == ["reproduced"] and fresh(study)
    own["decided_by"]["tiny"]["direction"] = "more"
    study = load(write_study(tiny))
    assert not fresh(study)
    tabulate_study(study)
    assert not fresh(study)
    assert list(collect(study).verdict) == ["opposite"] and fresh(study)


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
    for folder in (study.folder, study.made.experiment("discretisation").folder):
        write_table(runs, folder / "runs.csv")
        write_table(curves, folder / "curves.csv")
    write_json(study.made.origin, {"commits": commits})


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
    table = pd.read_csv(study.made.verdicts).set_index("claim")
    first = "claim,paper,place,study,verdict,effect,low,high,seeds,experiment,holm_verdict,p"
    assert (study.made.verdicts).read_text().startswith(first)
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
    (study.made.runs).unlink()
    content = judge_claim(study, "finer", path)
    assert study.made.verdict("finer").is_file()
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


def test_a_rule_that_was_another_one_in_between_dates_from_its_return(
    claims: dict, write_claims, checkout: Path
) -> None:
    path = write_claims(claims)
    _commit(checkout)
    other = copy.deepcopy(claims)
    other["finer"]["decided_by"]["tiny"]["smallest"] = 0.2
    write_claims(other)
    resulted = _commit(checkout)
    write_claims(claims)
    again = _commit(checkout)
    dated = (rule_commits(path) or {})["finer tiny"]
    assert dated.rule == again and rule_first(dated, (resulted,), checkout, True) == RULE_CHANGED


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


RULED = "  a:\n    decided_by: {tiny: {smallest: 1}, no: {smallest: 010a}}\n\n  # --- more\n\n  b:\n    decided_by:\n"


@pytest.mark.parametrize(
    ("rest", "known"),
    [
        ("      tiny: {smallest: 2, arms: ['*', a&b]}\n", True),
        ("      tiny: &two {smallest: 2}\n  c:\n    decided_by: {tiny: *two}\n", True),
        ("      tiny: {take: each}\n    claim: >-\n      It is\n\n      so.\n  c: {}\n", True),
        ('      tiny: {smallest: 2}\n    claim: "It is\n  so: and\n  so"\n', False),
        ("      tiny: {smallest: 2}\n  a:\n    decided_by: {tiny: {smallest: 3}}\n", False),  # read as it was then
        ("      tiny: {smallest: 2, also: [&x y]}\n  c:\n    decided_by: {tiny: [ *x, *z]}\n", False),
        ("      tiny: {smallest: 010}\n", False),
        ("      tiny: {smallest: 2}\nseeds: 3\n", False),
        ("      tiny: {smallest: 2}\n  c: text\n", False),
        ("      tiny: {smallest: 2}\n...\n", False),
    ],
)
def test_a_ledger_is_read_the_same_claim_by_claim_and_as_a_whole(rest: str, known: bool, monkeypatch) -> None:
    text = f"# A ledger.\n\nclaims:\n{RULED}{rest}"
    found = dating.rules_of(text)
    assert (dating._claim_by_claim(text) is not None) is known
    monkeypatch.setattr(dating, "_claim_by_claim", lambda text: None)
    assert found == dating.rules_of(text)


def test_the_project_s_ledger_is_read_claim_by_claim(monkeypatch) -> None:
    text = CLAIMS.read_text(encoding="utf-8")
    found = dating._claim_by_claim(text)
    monkeypatch.setattr(dating, "_claim_by_claim", lambda text: None)
    assert found and found == dating.rules_of(text)


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


# --- the history of rules and verdicts ------------------------------------------------------------


def _verdict_on_finer(checkout: Path, verdict: str, effect: float | None) -> str:
    row = dict.fromkeys(VERDICT_COLUMNS) | {"claim": "finer", "study": "tiny-full", "experiment": "discretisation"}
    row |= {"verdict": verdict, "effect": effect, "low": effect, "high": effect, "scale": "log_ratio", "seeds": 3}
    path = checkout / "results/published/tiny/claims.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_table(pd.DataFrame([row, row | {"claim": "far", "experiment": None}], columns=VERDICT_COLUMNS), path)
    return _commit(checkout, "results")


def test_a_claim_keeps_the_rules_and_verdicts_that_it_had(claims: dict, write_claims, checkout: Path) -> None:
    path = write_claims(claims)
    first = _commit(checkout)
    judged = _verdict_on_finer(checkout, "not reproduced", -0.105)
    claims["finer"]["decided_by"]["tiny"]["smallest"] = 0.2
    write_claims(claims)
    changed = _commit(checkout)
    claims["finer"]["caveat"] = "Not a rule."
    write_claims(claims)
    _commit(checkout)
    again = _verdict_on_finer(checkout, "not run", None)
    write_claims(claims | {"finer": GONE})
    gone = _commit(checkout)
    past = histories(path)
    told = [
        (e.commit, e.study, e.rule and e.rule["smallest"], e.verdict and e.verdict["verdict"]) for e in past["finer"]
    ]
    assert told == [
        (first, "tiny", 0.05, None), (judged, "tiny-full", None, "not reproduced"), (changed, "tiny", 0.2, None),
        (again, "tiny-full", None, "not run"), (gone, "tiny", None, None),
    ]  # fmt: skip
    assert [e.commit for e in past["best"]] == [first] and "far" not in past, "what no study decides has no rule"
    assert past["finer"][0].date == _git(checkout, "show", "-s", "--format=%cs", first)
    table = history_table(past["finer"])
    assert table is not None and [row[0].text for row in table.rows] == [c[:12] for c, *_ in told]
    said = [row[3].text for row in table.rows]
    assert said[0].startswith("Rule: Each seed gives one effect: the ratio of RMS error of the map of dscd-8 to")
    assert said[0].endswith("Asked: less; smallest effect that matters: 5% (0.05 in the logarithm).")
    assert said[1:] == [
        "Verdict: not reproduced, ×0.900 [×0.900, ×0.900]", said[0].replace("5% (0.05", "20% (0.2"),
        "Verdict: not run", "Rule withdrawn",
    ]  # fmt: skip
    assert history_table(()) is None


def test_a_merge_changes_no_rule_and_a_rule_of_other_keys_is_told_as_it_was(checkout: Path) -> None:
    path = checkout / "claims.yaml"
    path.write_text("claims:\n  a: {decided_by: {tiny: {smallest: 1}}}\n  b: {decided_by: {tiny: {smallest: 1}}}\n")
    first = _commit(checkout)
    _git(checkout, "checkout", "--quiet", "-b", "side")
    path.write_text(
        path.read_text().replace("a: {decided_by: {tiny: {smallest: 1}}}", "a: {decided_by: {tiny: {smallest: 2}}}")
    )
    side = _commit(checkout)
    _git(checkout, "checkout", "--quiet", "-")
    path.write_text(f"{path.read_text()}  c: {{decided_by: {{tiny: {{smallest: 3}}}}}}\n")
    here = _commit(checkout)
    _git(checkout, "merge", "--quiet", "--no-edit", "side")
    past = histories(path)
    assert {name: [e.commit for e in events] for name, events in past.items()} == {
        "a": [first, side], "b": [first], "c": [here],
    }  # fmt: skip
    table = history_table(past["a"])
    assert table is not None and [row[3].text for row in table.rows] == [
        "Rule: {'smallest': 1}",
        "Rule: {'smallest': 2}",
    ]


def test_a_shallow_clone_and_a_copy_have_no_history(claims: dict, write_claims, checkout: Path, tmp_path: Path) -> None:
    write_claims(claims)
    _commit(checkout)
    claims["finer"]["decided_by"]["tiny"]["smallest"] = 0.2
    write_claims(claims)
    _commit(checkout)
    _git(checkout, "clone", "-q", "--depth", "1", checkout.as_uri(), str(tmp_path / "shallow"))
    assert len(histories(checkout / "claims.yaml")["finer"]) == 2
    assert histories(tmp_path / "shallow" / "claims.yaml") == {}


def test_nothing_of_the_past_is_told_outside_a_checkout(claims: dict, write_claims) -> None:
    assert histories(write_claims(claims)) == {}


def test_a_withdrawn_claim_keeps_its_page_and_is_counted_nowhere(
    claims: dict, write_claims, tiny: dict, write_study, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Study, "is_shipped", True)
    path, study = write_claims(claims), load(write_study(tiny))
    _commit(checkout)
    write_claims(claims | {"best": GONE})
    _commit(checkout)
    _results(study, [], VALUES)
    assert list(judge_study(study, path).claim) == ["finer", "far"]
    assert judge_claim(study, "best", path)["note"] == "withdrawn on 2026-01-02: It was wrong."
    (page,) = withdrawn_pages(read_claims(path), histories(path))
    assert (page.claim, page.decisions, page.commands) == ("best", [], [])
    assert page.history is not None and len(page.history.rows) == 2
    text = render("claim.html.j2", root="../", page=page)
    assert "Withdrawn on 2026-01-02." in text and "Rule withdrawn" in text and "Its rules and verdicts so far" in text


# --- the workflow --------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_claim_is_a_target_that_makes_its_experiment_alone(
    claims: dict, tiny: dict, write_study, lay_data, tmp_path: Path
) -> None:
    source, here = tmp_path / "source", tmp_path / "here"
    copied_project(source, compiled=True)
    here.mkdir()
    lay_data(here)
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


# --- what is not tested ---------------------------------------------------------------------------


def _judged(tiny: dict, write_study, values: dict[str, list[float]], *more: dict, **changes: object):
    """The judgement of the tiny study on FINER with changes of its rule, by a value of each arm and seed."""
    claim = copy.deepcopy(FINER)
    claim["decided_by"]["tiny"] |= changes
    tiny["claims"] = {"mine": claim}
    study = load(write_study(tiny))
    check_claims(Ledger(claims={}), [study])
    runs = pd.DataFrame([*_values(values), *more], columns=COLUMNS)
    return judge(study.claims["mine"], study, Tables(runs, pd.DataFrame(columns=CURVE_COLUMNS), ()))[0]


def _values(values: dict[str, list[float]], metric: str = "map_rms", **more: object) -> list[dict]:
    return [
        dict.fromkeys(COLUMNS)
        | {"experiment": "discretisation", "arm": arm, "metric": metric, "seed": seed, "value": value}
        | {"status": "finished", **more}
        for arm, numbers in values.items()
        for seed, value in enumerate(numbers)
    ]


FEW, MANY = [0.10, 0.11, 0.12], [0.2, 0.21, 0.22]
DIFFERENT = {"dscd-8": FEW, "dscd-4": MANY, "scd": [0.15, 0.15, 0.16]}


def test_arms_that_agree_bit_for_bit_are_not_tested(tiny: dict, write_study) -> None:
    found = _judged(tiny, write_study, {"dscd-8": FEW, "dscd-4": FEW})
    assert (found.verdict, found.p, found.effect) == ("not tested", None, None)
    assert found.note == "dscd-8 and dscd-4 agree bit for bit in every seed"
    assert _judged(tiny, write_study, {"dscd-8": FEW, "dscd-4": [*FEW[:2], 0.1200001]}).verdict != "not tested"


def test_an_intervention_that_did_not_act_is_not_tested(tiny: dict, write_study) -> None:
    rule = {"activity": {"arms": "dscd-8", "metric": "clipped_share"}}
    rare = _judged(tiny, write_study, DIFFERENT, *_values({"dscd-8": [0.001, 0.02, 0.003]}, "clipped_share"), **rule)
    assert rare.verdict == "not tested"
    assert rare.note == "what dscd-8 is about was active in 0.80% of steps (clipped_share), below 1%"
    acted = _judged(tiny, write_study, DIFFERENT, *_values({"dscd-8": [0.5] * 3}, "clipped_share"), **rule)
    assert acted.verdict == "reproduced"
    unlogged = _judged(tiny, write_study, DIFFERENT, **rule)
    assert (unlogged.verdict, unlogged.note) == ("not run", "there is no clipped_share of dscd-8")


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({"floor": 0.25}, "not tested"),  # both stand there
        ({"floor": 0.205}, "reproduced"),  # the one that it is held against does not
        ({"floor": 0.12, "direction": "more"}, "opposite"),  # who falls to the floor has fallen
        ({"floor": 0.15}, "reproduced"),
        ({"ceiling": 0.2, "direction": "more"}, "not tested"),  # nothing can be more
        ({"ceiling": 0.2}, "reproduced"),
    ],
)
def test_what_stands_at_a_floor_or_a_ceiling_is_not_tested(
    changes: dict, verdict: str, tiny: dict, write_study
) -> None:
    found = _judged(tiny, write_study, DIFFERENT, **changes)
    assert found.verdict == verdict
    if verdict == "not tested":
        assert found.note == f"map_rms of dscd-4 is at its {next(iter(changes))}"


def test_a_named_competitor_that_fails_its_own_bar_is_not_tested(tiny: dict, write_study) -> None:
    bar = {"name": "coarse time", "metric": "map_rms", "competitor": {"arms": "dscd-4"}, "of": {"arms": "scd"}}
    failed = _judged(tiny, write_study, DIFFERENT, sane=bar | {"at_most": 1.3})
    assert failed.verdict == "not tested"
    assert (
        failed.note
        == "its competitor failed: map_rms of coarse time is 1.38 times that of scd, and the bar was at most 1.3"
    )
    assert _judged(tiny, write_study, DIFFERENT, sane=bar | {"at_most": 1.5}).verdict == "reproduced"
    least = {"name": "it", "metric": "map_rms", "competitor": {"arms": "dscd-4"}, "at_least": 0.3}
    assert "is 0.21, and the bar was at least 0.3" in _judged(tiny, write_study, DIFFERENT, sane=least).note
    absent = _judged(tiny, write_study, {"dscd-8": FEW, "dscd-4": MANY}, sane=bar | {"at_most": 1.5})
    assert (absent.verdict, absent.note) == ("not run", "there is no map_rms of scd")
    twice = _values({"scd": [0.3]})
    with pytest.raises(BenchError, match=r"map_rms of scd has 2 rows for one seed(.|\n)*sane"):
        _judged(tiny, write_study, DIFFERENT, *twice, sane=bar | {"at_most": 1.5})


@pytest.mark.parametrize(("rate", "tested"), [(1e-3, False), (2e-3, True), (4e-3, False)])
def test_an_optimum_at_the_edge_of_its_grid_is_not_tested(rate: float, tested: bool, tiny: dict, write_study) -> None:
    tiny["tuning_seeds"], tiny["tuning_metric"] = [100], "map_rms"
    tiny["arms"]["tune-{rate}"] = tiny["arms"]["scd"] | {"rate": [1e-3, 2e-3, 4e-3], "tuning": True}
    tiny["arms"]["scd"] = tiny["arms"]["scd"] | {"rate_of": "tune-*"}
    terms = {"of": {"arms": "scd"}, "against": {"arms": "dscd-4"}}
    found = _judged(tiny, write_study, DIFFERENT, *_values({"scd": [rate] * 3}, "rate"), **terms)
    assert (found.verdict != "not tested") == tested
    assert tested or found.note == f"the rate of scd is {rate:g}, at the edge of its grid (0.001, 0.002, 0.004)"


MIDS = [[0.5], [0.7], [0.9], [1.1]]
CHOSEN = {
    "inside": ([[2, 1, 3, 4]] * 2, None),
    "the last": ([[4, 3, 2, 1]] * 2, "1.1"),
    "the first": ([[1, 2, 3, 4]] * 2, "0.5"),
    "on average": ([[4, 2, 3, 1], [4, 2, 3, 9]], None),
    "as good inside": ([[1, 1, 3, 4]] * 2, None),
    "as good at both ends": ([[1, 3, 2, 1]] * 2, "0.5"),
    "all as good": ([[2, 2, 2, 2]] * 2, None),
    "all diverged": ([[math.inf] * 4] * 2, None),
}


@pytest.mark.parametrize("case", CHOSEN)
def test_a_middle_time_that_is_chosen_at_the_edge_of_its_grid_is_not_tested(case: str, tiny: dict, write_study) -> None:
    scores, end = CHOSEN[case]
    tiny["samplers"] = {"mids": {"solver": "few", "times": MIDS}}
    tiny["arms"]["scd"] |= {"samplers": ["few", "mids"]}
    tiny["experiments"]["discretisation"]["samplers"] = ["few", "mids"]
    rule = {"metric": "sliced_wasserstein", "of": {"arms": "scd", "sampling": "mids", "choose_on": [0, 1]}}
    more = [
        row | {"seed": seed, "steps": 2, "sampler": "few", "sampling": "mids", "times": str(mid), "mid_time": mid[0]}
        for seed in range(5)
        for mid, score in zip(MIDS, scores[min(seed, 1)], strict=True)
        for row in _values({"scd": [0.1 * score]}, "sliced_wasserstein")
    ]
    one = _values({"dscd-4": [0.9] * 5}, "sliced_wasserstein", steps=1, sampling="few")
    against = {"arms": "dscd-4", "steps": 1}
    found = _judged(tiny, write_study, {}, *more, *one, **rule, against=against)
    assert (found.verdict == "not tested") == (end is not None)
    grid = f"the middle time of scd, chosen on seeds 0, 1, is {end}, at the edge of its grid (0.5, 0.7, 0.9, 1.1)"
    assert end is None or found.note == grid


EDGES = {
    "arms along a number": ([{"arm": f"dscd-{n}"} for n in (4, 8, 16)], "the intervals of dscd-16, chosen on seed 0"),
    "arms of other names": ([{"arm": "scd"}, {"arm": "dscd-4"}], None),
    "arms that the study does not know": ([{"arm": "theirs-1"}, {"arm": "theirs-2"}], None),
    "one alone": ([{"arm": "scd", "guidance": 2.0}], None),
    "more guidance": ([{"arm": "scd", "guidance": g} for g in (1.0, 1.5, 2.0)], "the guidance of scd"),
    "no guidance": ([{"arm": "scd", "guidance": g} for g in (2.0, 1.5, 1.0)], None),
    "no guidance, and less": ([{"arm": "scd", "guidance": g} for g in (0.5, 1.0)], "the guidance of scd"),
    "a sampler's own": ([{"arm": "scd", "sampling": f"churned-{n}"} for n in (0, 2, 4)], "the churn of scd"),
    "without churn": ([{"arm": "scd", "sampling": f"churned-{n}"} for n in (4, 2, 0)], None),
    "another sampler": ([{"arm": "scd", "sampling": name} for name in ("churned-4", "few")], None),
    "more steps": ([{"arm": "scd", "sampling": "few", "steps": n} for n in (1.0, 2.0, 4.0)], None),
    "several numbers": (
        [{"arm": "scd", "times": f"[{a}, {b}]"} for a in (1.1, 1.2, 1.3) for b in (0.4, 0.3, 0.5)][:5],
        "the middle time of scd",  # 1.2 among 1.1 and 1.2 beside 0.3, which is the least of 0.3 to 0.5
    ),
    "no number": ([{"arm": "scd", "guidance": 3.0}, {"arm": "scd"}], None),
}  # fmt: skip


@pytest.mark.parametrize("case", EDGES)
def test_what_has_no_order_has_no_edge(case: str, tiny: dict, write_study) -> None:
    """The last of each case is best."""
    ways, said = EDGES[case]
    tiny["arms"]["dscd-{intervals}"] |= {"intervals": [4, 8, 16]}
    tiny["samplers"] = {f"churned-{n}": {"solver": "heun_churn", "churn": n, "evaluations": [3]} for n in (0, 2, 4)}
    study = load(write_study(tiny))
    scores = tuple(float(score) for score in range(len(ways), 0, -1))
    note = choice_at_the_edge(Choice((0,), tuple({"arm": None} | way for way in ways), scores), study)
    assert (note or "").startswith(said or "") and (note is None) == (said is None), note
    rows = [dict.fromkeys(COLUMNS) | way | {"metric": "map_rms", "seed": 0, "status": "finished"} for way in ways]
    table = pd.DataFrame(rows).assign(value=scores)
    term = {"arms": list(dict.fromkeys(way["arm"] for way in ways)), "choose_on": [0]}
    settings = study.model_dump(mode="json")
    assert second_bars.is_last(term, "map_rms", table, set(), settings) == (said is not None)


@pytest.mark.slow
def test_a_quick_budget_is_too_short_to_judge(tiny: dict, write_study, checkout: Path) -> None:
    tiny["budgets"] = {"small": {"quick": True}}
    tiny["claims"] = {"mine": copy.deepcopy(FINER)}
    study = load(write_study(tiny), "small")
    _results(study, [], VALUES)
    table = judge_study(study)
    assert (table.verdict[0], table.holm_verdict[0]) == ("not tested", "not tested") and pd.isna(table.p[0])
    assert table.note[0] == "too short to judge: the budget small is a quick one"
    _results(study, [], {"scd": [0.1]})
    assert judge_study(study).verdict[0] == "not run", "what is not there is not too short"


def test_counts_are_judged_exactly_and_from_one_seed(tiny: dict, write_study) -> None:
    terms = {"metric": "images_seen", "of": {"arms": "dscd-8"}, "against": {"arms": "dscd-4"}, "direction": "same"}
    same = _judged(tiny, write_study, {}, *_values({"dscd-8": [90.0], "dscd-4": [90.0]}, "images_seen"), **terms)
    assert (same.verdict, same.basis, same.p, same.seeds) == ("reproduced", "exact", None, 1)
    said = _judged(tiny, write_study, {"dscd-8": [0.1], "dscd-4": [0.2]}, exact=True)
    assert (said.verdict, said.basis) == ("reproduced", "exact")


def test_a_plan_of_seeds_is_judged_look_by_look(tiny: dict, write_study) -> None:
    tiny["experiments"]["discretisation"]["seeds"] = {"first": 8, "batch": 4, "most": 16, "start": 0}
    study = load(write_study(tiny))
    assert study.seeds_of("discretisation") == tuple(range(8))
    assert [len(look) for look in study.looks_of("discretisation")] == [8, 12, 16]
    wide = {"dscd-8": [0.1 + seed / 1000 for seed in range(11)], "dscd-4": [0.2] * 11}
    found = _judged(tiny, write_study, wide)
    assert (found.verdict, found.seeds) == ("reproduced", 8) and "looked at after 8 seeds, of 16 at most" in found.note
    with pytest.raises(BenchError, match="reached by no batch"):
        tiny["experiments"]["discretisation"]["seeds"] = {"first": 8, "batch": 3, "most": 12}
        load(write_study(tiny))


# --- the family of Holm's adjustment --------------------------------------------------------------


def _judged_whole(study: Study, fingerprint: str = "f", path: Path = CLAIMS) -> pd.DataFrame:
    """The study's verdicts, of results that are whole."""
    _results(study, [None], VALUES)
    settings = study.model_dump(exclude={"file", "claims"}, mode="json")
    origin = {"commits": [None], "runs_missing": 0, "fingerprints": {"a": fingerprint}, "settings": settings}
    write_json(study.made.origin, origin)
    return judge_study(study, path).set_index("claim")


def test_the_family_of_holms_adjustment_is_frozen_with_its_results(tiny: dict, write_study, checkout: Path) -> None:
    """A rule that comes later, or changes, is outside of it; what it has lost counts on."""
    both = {"mine": FINER, "worse": copy.deepcopy(BEST)}
    tiny["claims"] = copy.deepcopy(both)
    first = _judged_whole(load(write_study(tiny)))
    assert list(first.holm_verdict) == ["reproduced", "inconclusive"] and not first.note.str.contains("outside").any()
    study = load(write_study(tiny))
    kept = read_json(study.made.origin, "")["family"]
    assert kept["claims"]["mine"] == {"rule": study.claims["mine"].decided_by["tiny"].digest, "p": first.p["mine"]}
    assert kept == read_json(study.made.family, "")
    later = copy.deepcopy(FINER)
    later["decided_by"]["tiny"]["against"] = {"arms": "scd"}
    tiny["claims"]["later"] = later
    again = _judged_whole(load(write_study(tiny)))
    assert read_json(study.made.origin, "")["family"] == kept, "the same results, whatever the workflow cleared"
    assert list(again.holm_verdict[:2]) == list(first.holm_verdict)
    assert again.holm_verdict["later"] == LATE and again.p["later"] > 0
    assert again.verdict["later"] in WORDS and "newer than the family of 2 rules of release" in again.note["later"]
    assert "(1 outside the family, by a newer rule)" in summary(again.reset_index(), "tiny")
    assert told(study).startswith("Holm's adjustment is made among the family of 2 rules of release")
    assert totals(again)["reproduced (Holm)"] == 1
    write_json(study.made.origin, read_json(study.made.origin, "") | {"family": None})
    assert told(study).startswith(
        "Holm's adjustment is made among all verdicts with a p, as these results are not whole"
    )
    tiny["claims"]["worse"]["decided_by"]["tiny"]["smallest"] = 0.01
    changed = _judged_whole(load(write_study(tiny)))
    assert (changed.holm_verdict["worse"], changed.holm_verdict["mine"]) == (LATE, "reproduced")
    anew = _judged_whole(load(write_study(tiny)), "g")
    assert LATE not in set(anew.holm_verdict) and "outside" not in str(list(anew.note)), "other results"
    assert len(read_json(study.made.family, "")["claims"]) == 3


def test_what_a_family_has_lost_counts_with_the_level_that_it_had() -> None:
    rule = Claim.model_validate(FINER).decided_by["tiny"]
    other = rule.model_copy(update={"smallest": 0.1})
    found = {"a": Judgement("reproduced", p=0.02), "b": Judgement("reproduced", p=0.001)}
    family = Family.of("mark", {"a": rule, "b": rule, "c": rule}, found | {"c": Judgement("reproduced", p=0.03)})
    assert after_holm(found, {"a": rule, "b": rule}, family) == {"a": "reproduced", "b": "reproduced"}, "2 x 0.02"
    late = after_holm(found, {"a": rule, "b": other}, family)
    assert late == {"a": "reproduced", "b": LATE}
    worse = Family.of(
        "mark", {"a": rule, "d": rule, "e": rule}, found | {n: Judgement("opposite", p=0.03) for n in "de"}
    )
    assert after_holm(found, {"a": rule, "b": rule}, worse) == {"a": "inconclusive", "b": LATE}, "3 x 0.02"
    exact = {"b": Judgement("reproduced", basis="exact")}
    assert after_holm(exact, {"b": other}, family) == {"b": "reproduced"}, "without a level it is outside anyway"
    assert after_holm(found, {"a": rule, "b": rule}, None) == {"a": "reproduced", "b": "reproduced"}


def test_without_rules_there_is_no_family(tiny: dict, write_study, checkout: Path) -> None:
    study = load(write_study(tiny))
    _judged_whole(study)
    assert told(study) == "" and not study.made.family.exists()


def test_results_that_are_not_whole_have_no_family() -> None:
    assert results_mark({"fingerprints": {"a": "f"}, "runs_missing": 1}) is None
    assert results_mark({"commits": []}) is None and results_mark({"fingerprints": {"a": "f"}, "quick": True}) is None
    one, other = ({"fingerprints": {"a": "f"}, "commit_of": {"a": commit}} for commit in "xy")
    assert results_mark(one) == results_mark(dict(one)) != results_mark(other), "made again by other code"


def test_a_frozen_family_comes_out_again_without_the_judge(
    claims: dict, write_claims, tiny: dict, write_study, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Study, "is_shipped", True)
    study = load(write_study(tiny))
    _judged_whole(study, path=write_claims(claims))
    claims["later"] = copy.deepcopy(FINER)
    claims["later"]["decided_by"]["tiny"]["against"] = {"arms": "scd"}
    del claims["best"]
    _judged_whole(study, path=write_claims(claims))
    found = recompute.study(study.folder, claims)
    assert list(found.holm) == ["reproduced", LATE] and not found.off.any() and not found.why.any()
    table = read_table(study.made.verdicts)
    write_table(table.assign(holm_verdict=table.verdict), study.made.verdicts)
    assert "after Holm's adjustment, recomputed as outside" in recompute.study(study.folder, claims).off[1]
    claims["finer"]["decided_by"]["tiny"]["smallest"] = 0.06
    assert list(recompute.study(study.folder, claims).why) == [recompute.EARLIER, ""]


def test_what_is_not_comparable_counts_with_the_level_that_is_published() -> None:
    mine = {
        "row": {"claim": "b", "verdict": "reproduced"},
        "said": second_reading.Reread("reproduced", p=0.03),
        "why": "",
    }
    for p, left in ((0.03, "inconclusive"), (math.nan, "reproduced")):
        other = {"row": {"claim": "a", "verdict": "reproduced", "p": p}, "said": None, "why": recompute.NO_CURVES}
        recompute.adjust([other, mine], None, {})
        assert mine["holm"] == left and "holm" not in other


# --- seen or not ----------------------------------------------------------------------------------


def _published(checkout: Path, values: dict[str, list[float]], folder: str = "results/published/tiny") -> str:
    path = checkout / folder / "runs.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_table(pd.DataFrame(_values(values), columns=COLUMNS), path)
    return _commit(checkout, folder)


def test_a_rule_that_is_planted_after_its_results_is_marked(
    claims: dict, write_claims, tiny: dict, write_study, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where they were published elsewhere, were deleted since, and the current results are newer than the rule."""
    monkeypatch.setattr(Study, "is_shipped", True)
    (checkout / ".gitignore").write_text("results/tiny\n")
    later, study = copy.deepcopy(claims), load(write_study(tiny))
    path = write_claims({"far": FAR, "best": claims["best"]})
    _commit(checkout)
    _published(checkout, {"dscd-4": [0.2, 0.2]}, "old/place/tiny")
    _git(checkout, "rm", "-rq", "old")
    _git(checkout, "commit", "-qm", "gone")
    write_claims(later)
    ruled = _commit(checkout)
    _results(study, [ruled], VALUES)
    table = judge_study(study, path).set_index("claim")
    assert (table.loc["finer", "rule_first"], table.loc["finer", "seen"]) == ("yes", "yes")
    assert (table.loc["best", "rule_first"], table.loc["best", "seen"]) == ("yes", "no"), "its rule is older"
    assert pd.isna(table.loc["far", "seen"])
    assert list(pd.read_csv(study.made.verdicts).seen.dropna()) == ["yes", "no"], "committed with the results"
    assert list(fresh(table.reset_index()).claim) == ["best"]
    content = judge_claim(study, "finer", path)
    assert "results published before the rule: yes" in sentence(content)


def test_fresh_seeds_and_other_arms_are_not_seen_and_what_git_lacks_is_unknown(checkout: Path, tmp_path: Path) -> None:
    published = _published(checkout, {"a": [0.1, 0.1]})
    (checkout / "claims.yaml").write_text("claims: {}\n")
    ruled = _commit(checkout)
    again = _published(checkout, {"a": [0.2, 0.1], "b": [0.3]})
    results = published_results(checkout)
    rule = Dated(ruled, ruled)

    def used(study: str, arms: list[str], seeds: list[int]) -> Used:
        return Used(study, frozenset((arm, seed) for arm in arms for seed in seeds))

    assert seen(rule, used("tiny", ["a"], [0]), results) == "yes"
    assert seen(rule, used("tiny", ["a"], [2, 3]), results) == "no", "confirmation is by seeds that were never used"
    assert seen(rule, used("tiny", ["b"], [0]), results) == "no", "it was published afterwards"
    assert seen(rule, used("other", ["a"], [0]), results) == "no"
    assert seen(rule, used("tiny", [NO_ARM], [1]), results) == "yes", (
        "what has no arm, with anything of its study and seed"
    )
    assert seen(Dated(published, published), used("tiny", ["a"], [0]), results) == "yes", "in one commit is not before"
    assert seen(Dated(again, again), used("tiny", ["b"], [0]), results) == "yes"
    assert (
        seen(Dated(), used("tiny", ["a"], [0]), results) == "yes"
        and seen(Dated(), used("tiny", ["a"], [5]), results) == "unknown"
    )
    assert seen(rule, used("tiny", ["a"], [0]), None) == "unknown"
    shallow = tmp_path / "shallow"
    _git(checkout, "clone", "-q", "--depth", "1", checkout.as_uri(), str(shallow))
    assert seen(rule, used("tiny", ["a"], [5]), published_results(shallow)) == "unknown"


def _published_as(checkout: Path, study: Study, arm: str, seed: int, name: str) -> None:
    """A result of an arm under another study's name, with the settings that its provenance has."""
    folder = checkout / "results/published" / name
    row = {"experiment": "discretisation", "arm": arm, "seed": seed, "metric": "map_rms", "value": 0.1}
    write_table(pd.DataFrame([row], columns=COLUMNS), folder / "runs.csv")
    write_json(folder / "provenance.json", {"settings": study.model_dump(exclude={"file"}, mode="json")})
    _commit(checkout, f"results/published/{name}")


def test_what_an_arm_rests_on_and_the_same_arm_of_another_study_are_seen(
    tiny: dict, write_study, checkout: Path
) -> None:
    tiny["tuning_seeds"], tiny["tuning_metric"] = [50], "map_rms"
    tiny["arms"]["taught"] = {"objective": "diffusion", "teacher": None}
    tiny["arms"]["tune-{rate}"] = tiny["arms"]["scd"] | {
        "rate": [1e-3, 2e-3, 4e-3],
        "tuning": True,
        "teacher": "taught",
    }
    tiny["arms"]["scd"] = tiny["arms"]["scd"] | {"rate_of": "tune-*", "teacher": "taught"}
    tiny["arms"]["on"] = tiny["arms"]["scd"] | {"start": "scd", "rate_of": None}
    tiny["experiments"]["discretisation"]["arms"] = ["taught", "scd", "on", "dscd-*"]
    study = load(write_study(tiny))
    rests = used_by(study, ["on"], [7]).results
    tuned = {(f"tune-{rate}", 50) for rate in ("0.001", "0.002", "0.004")} | {("taught", 50)}
    assert rests == {("on", 7), ("scd", 7), ("taught", 7)} | tuned
    theirs = load(write_study(tiny | {"study": "theirs", "seeds": [3]}))
    _published_as(checkout, theirs, "taught", 50, "theirs")
    _published_as(checkout, theirs, "dscd-4", 3, "theirs-again")
    _published_as(checkout, study, "scd", 9, "tiny")
    tiny["arms"]["dscd-{intervals}"]["iterations"] = 77
    _published_as(checkout, load(write_study(tiny)), "dscd-4", 4, "longer")
    (checkout / "claims.yaml").write_text("claims: {}\n")
    rule, results = Dated(_commit(checkout)), published_results(checkout)

    def said(arm: str, seed: int) -> str:
        return seen(rule, used_by(study, [arm], [seed]), results)

    assert said("dscd-4", 3) == "yes", "the same settings and seed under another name"
    assert said("dscd-8", 3) == said("dscd-4", 5) == "no", "other settings, another seed"
    assert said("dscd-4", 4) == "no", "trained for longer, it is another arm"
    assert said("scd", 7) == said("on", 7) == "yes", "at the seed that chose its rate its teacher was published"
    tiny["arms"]["on"] |= {"start": "random", "teacher": "exact"}
    alone = load(write_study(tiny))
    assert seen(rule, used_by(alone, ["on"], [7]), results) == "no"


@pytest.mark.slow
def test_no_two_studies_have_a_seed_in_common_on_the_same_data() -> None:
    """Neither to judge nor to choose rates, so that no arm is judged twice at one seed, by whatever name, and what a
    study says of seeds that were never used is true of whichever is made second."""
    used = dict[str, dict[str, set[int]]]()
    for name in shipped():
        study, of_study = load(name), used.setdefault(name, {})
        for experiment in study.experiments:
            seeds = {*study.seeds_of(experiment), *itertools.chain(*study.looks_of(experiment)), *study.tuning_seeds}
            for arm in study.arms_of(experiment):
                of_study.setdefault(study.data[study.arms[arm].data].model_dump_json(), set()).update(seeds)
    shared = {
        frozenset({one, two}): sorted(used[one][data] & used[two][data])
        for one, two in itertools.combinations(used, 2)
        for data in used[one].keys() & used[two].keys()
        if used[one][data] & used[two][data]
    }
    assert not shared


def test_tables_that_were_published_with_other_words_are_read_and_drawn() -> None:
    table = read_table(CLAIMS.parents[1] / "results/published/digits/claims.csv").iloc[:, :20]
    old = table.assign(verdict="not reproduced", holm_verdict="not reproduced")
    assert totals(old)["opposite"] == 0 and not len(fresh(old))
    words = [text.get_text() for text in draw_matrix(old).legends[0].get_texts()]
    assert "! not reproduced, of earlier rules: the opposite, or too small to matter" in words


def test_the_published_picture_leaves_out_tables_in_words_of_before(tmp_path: Path) -> None:
    published = CLAIMS.parents[1] / "results/published"
    for name in ("digits", "oracle-long"):
        (tmp_path / name).mkdir()
        table = read_table(published / name / "claims.csv")
        kept = table.drop(columns="basis", errors="ignore") if name == "digits" else table
        write_table(kept, tmp_path / name / "claims.csv")
    assert [set(table.study) for table in drawn_tables(tmp_path)] == [{"oracle-long"}]


# --- recomputed -----------------------------------------------------------------------------------


def test_what_recomputes_verdicts_imports_nothing_that_judges() -> None:
    """Where files are and what a rule is is no judgement."""
    ours = "trigbench.workflow"
    parts = [f"{ours}.report.second_{name}" for name in ("bars", "numbers", "reading")]
    reads = {
        recompute: ["trigbench._places", f"{ours}.machine.git", *parts, f"{ours}.study.claim", f"{ours}.study.places"],
        second_bars: parts[1:2],
    }
    for module, allowed in (reads | {second_numbers: [], second_reading: []}).items():
        lines = Path(module.__file__ or "").read_text(encoding="utf-8").splitlines()
        found = [line.split()[1] for line in lines if line.startswith(("from trigbench", "import trigbench"))]
        assert found == allowed


def test_what_recomputes_verdicts_knows_the_same_of_metrics() -> None:
    known = [*QUANTITIES, *CURVES, *COSTS]
    assert {metric for metric in known if is_exact(metric)} == second_numbers.EXACT
    assert {name for name, of in QUANTITIES.items() if of.better == "higher"} == second_numbers.HIGHER
    limits = {name: (of.floor, of.ceiling) for name, of in QUANTITIES.items() if (of.floor, of.ceiling) != (None, None)}
    assert limits == dict.fromkeys(second_numbers.BOUNDED, (0.0, 1.0))


def _published_anew(study: Study, tables: Tables, folder: Path, claims: dict) -> pd.DataFrame:
    """Tables as they are published, with the verdicts of today's judge; what is recomputed from them."""
    judged = {n: judge(c, study, tables, whole=study)[0] for n, c in claims.items() if study.study in c.decided_by}
    rows = [
        {"claim": name, "holm_verdict": last, "experiment": claims[name].decided_by[study.study].experiment}
        | {key: getattr(found, key) for key in OF_JUDGEMENT}
        for (name, found), last in zip(judged.items(), holm_verdicts([*judged.values()]), strict=True)
    ]
    write_table(tables.runs, folder / "runs.csv")
    if len(tables.curves):
        write_table(tables.curves, folder / "curves.csv")
    write_table(pd.DataFrame(rows), folder / "claims.csv")
    write_json(folder / "provenance.json", {"settings": study.model_dump(exclude={"file"}, mode="json")})
    said = {"exclude_none": True, "exclude_defaults": True, "mode": "json"}
    return recompute.study(folder, {name: claim.model_dump(**said) for name, claim in claims.items()})


@pytest.mark.slow
def test_verdicts_of_the_published_tables_come_out_again_without_the_judge(tmp_path: Path) -> None:
    """Those that rest on curves, which the tables of earlier versions lack, are said to."""
    said, some = set(), ("sizes", "guidance", "steps")
    for name, least in (("oracle", 5), ("digits", 15)):
        study, folder = load(name), tmp_path / name
        runs = read_table(CLAIMS.parents[1] / f"results/published/{name}/runs.csv")
        kept = pd.DataFrame(runs[(name == "oracle") | runs.experiment.isin(some)])
        tables = Tables(kept, pd.DataFrame(columns=CURVE_COLUMNS), ())
        decided = {n: c for n, c in read_claims().claims.items() if name in c.decided_by}
        claims = {n: c for n, c in decided.items() if name == "oracle" or c.decided_by[name].experiment in some}
        found = _published_anew(study, tables, folder, claims)
        there = found[found.recomputed.notna()]
        assert len(there) > least and list(there.published) == list(there.recomputed), name
        assert not there.off.any(), there[there.off != ""]
        assert set(found[found.recomputed.isna()].published) <= {"not run"}
        said |= set(there.published)
    assert said >= {"reproduced", "opposite", "inconclusive"}


def _drawn_tables(draw: np.random.Generator) -> Tables:
    """Made-up numbers of the tiny study: seeds, scatter and divergence as they may be."""
    count = int(draw.choice([2, 3, 5, 8, 12]))
    runs, curves = [], []
    for arm in ("scd", "dscd-4", "dscd-8"):
        level, scatter = float(np.exp(draw.normal() * 0.3)), float(draw.choice([0.01, 0.2, 1.0]))
        values = level * np.exp(scatter * draw.normal(size=count))
        lost = draw.random(count) < draw.choice([0, 0, 0.2, 1])
        for seed in range(count):
            common = dict.fromkeys(COLUMNS) | {"experiment": "discretisation", "arm": arm, "seed": seed}
            common |= {"status": "diverged" if lost[seed] else "finished"}
            value = math.inf if lost[seed] else float(values[seed])
            runs.append(common | {"metric": "map_rms", "value": value})
            runs.append(common | {"metric": "clipped_share", "value": float(draw.choice([0.0, 0.02]))})
            runs.append(common | {"metric": "images_seen", "value": 100.0 if arm == "scd" else 90.0})
            for times in (None, "[1.1]", "[0.8]", "[0.5]"):
                way = {"steps": 1 if times is None else 2, "sampler": "few", "sampling": "few", "times": times}
                distance = value * float(draw.uniform(0.8, 1.2))
                runs.append(common | way | {"metric": "sliced_wasserstein", "value": distance})
            for x in (0.1, 0.5, 1.5):
                row = dict.fromkeys(CURVE_COLUMNS) | {"experiment": "discretisation", "arm": arm, "seed": seed}
                curves.append(row | {"metric": "map_rms", "x": x, "value": float(values[seed]) * x})
    return Tables(pd.DataFrame(runs, columns=COLUMNS), pd.DataFrame(curves, columns=CURVE_COLUMNS), ())


SW = {"metric": "sliced_wasserstein"}
RULES = {
    "plain": {},
    "more": {"direction": "more", "smallest": 0.2},
    "same": {"direction": "same", "smallest": 0.3},
    "each": {"of": {"arms": "scd"}, "against": {"arms": "dscd-*", "take": "each"}},
    "same-each": {
        "of": {"arms": "scd"}, "against": {"arms": "dscd-*", "take": "each"}, "direction": "same", "smallest": 0.4,
    },
    "settings": {**SW, "of": {"arms": "scd", "times": [1.1]}, "against": {"arms": "scd", "steps": 2, "take": "each"}},
    "chosen": {**SW, "of": {"arms": "scd", "choose_on": [0]}, "against": {"arms": "dscd-4", "choose_on": [0]}},
    "average": {
        **SW, "of": {"arms": "scd", "take": "mean"}, "against": [{"arms": "dscd-4", "times": []}, {"value": 1.1}],
    },
    "curve": {"of": {"arms": "scd", "x": "last"}, "against": {"arms": "dscd-4", "x": 0.11}, "smallest": 2.7},
    "shape": {
        "of": {"arms": "scd", "x": "all", "take": "geometric_mean"},
        "against": {"arms": "dscd-4", "x": "all", "take": "max"},
    },
    "exact": {"metric": "images_seen", "of": {"arms": "scd"}, "against": {"arms": "dscd-4"}, "direction": "more"},
    "unlogged": {"activity": {"arms": "dscd-8", "metric": "clamped_share"}},
    "absent": {"of": {"arms": "scd", "x": "last"}, "against": {"arms": "dscd-4", "x": 7}},
    "gap": {"scale": "difference", "of": {"arms": "dscd-4"}, "smallest": 0.5, "against": {"arms": "scd"}},
    "low": {"floor": 0.9},
    "high": {"ceiling": 0.9, "direction": "more"},
    "acting": {"activity": {"arms": "dscd-8", "metric": "clipped_share"}},
    "barred": {
        "sane": {
            "name": "N", "metric": "map_rms", "competitor": {"arms": "dscd-4"}, "of": {"arms": "scd"}, "at_most": 1.5,
        },
    },
    "two": {"metric": "map_rms", "also": "sliced_wasserstein", "of": {"arms": "scd", "take": "mean"},
            "against": {"arms": "dscd-8", "take": "mean"}},
}  # fmt: skip


@pytest.mark.slow
def test_verdicts_of_made_up_tables_come_out_again_whatever_a_rule_says(
    tiny: dict, write_study, tmp_path: Path
) -> None:
    draw, said = np.random.default_rng(0), Counter()
    rules = {name: copy.deepcopy(FINER["decided_by"]["tiny"]) | rule for name, rule in RULES.items()}  # type: ignore[index]
    claims = {name: Claim.model_validate(FINER | {"decided_by": {"tiny": rule}}) for name, rule in rules.items()}
    for plan in (None, {"first": 8, "batch": 4, "most": 12}):
        tiny["experiments"]["discretisation"]["seeds"] = plan
        study = load(write_study(tiny))
        for round_ in range(4):
            found = _published_anew(study, _drawn_tables(draw), tmp_path / f"{plan is None}-{round_}", claims)
            assert list(found.published) == list(found.recomputed), found[found.published != found.recomputed]
            assert not found.off.any(), list(found[found.off != ""].itertuples())
            said.update(found.published)
    assert set(said) == {*WORDS}


@pytest.mark.parametrize("level", [0.5, 1.8])
def test_what_a_look_has_said_later_seeds_do_not_unsay(level: float, tiny: dict, write_study, tmp_path: Path) -> None:
    """A bar that is met by the first seeds alone, or missed by them alone, by both readings."""
    tiny["experiments"]["discretisation"]["seeds"] = {"first": 8, "batch": 4, "most": 16}
    study, bar = load(write_study(tiny)), {"name": "N", "metric": "map_rms", "competitor": {"arms": "dscd-4"}}
    rule = copy.deepcopy(FINER["decided_by"]["tiny"]) | {"sane": bar | {"at_most": 1.6}}  # type: ignore[index]
    claim = Claim.model_validate(FINER | {"decided_by": {"tiny": rule}})
    for count in (8, 12, 16):
        theirs = [2.3 - level if seed >= 5 else level for seed in range(count)]
        values = {"dscd-8": [0.1 + seed / 1000 for seed in range(count)], "dscd-4": theirs}
        runs = pd.DataFrame(_values(values), columns=COLUMNS)
        tables = Tables(runs, pd.DataFrame(columns=CURVE_COLUMNS), ())
        found = _published_anew(study, tables, tmp_path / str(count), {"mine": claim})
        said = "reproduced" if level < 1.6 else "not tested"
        assert (list(found.published), list(found.recomputed), list(found.off)) == ([said], [said], [""])
        about = details(claim, study, *judge(claim, study, tables, whole=study))
        assert list(about["effects"]) == [str(seed) for seed in range(8)], "those of the look that says it"


NAME = "positional-embedding-helps-students"
"""Of a published claim."""


@pytest.mark.slow
def test_the_command_that_recomputes_says_what_differs(tmp_path: Path, monkeypatch, capsys) -> None:
    published = CLAIMS.parents[1] / "results/published/oracle"
    table = read_table(published / "claims.csv").assign(basis="t", verdict="opposite", rule_commit=None)
    for name in ("runs.csv", "provenance.json"):
        (tmp_path / name).symlink_to(published / name)
    write_table(table.set_index("claim").loc[[NAME]].reset_index(), tmp_path / "claims.csv")
    monkeypatch.setattr("sys.argv", ["recompute", str(tmp_path)])
    with pytest.raises(SystemExit, match="1"):
        recompute_command()
    said = capsys.readouterr().out
    assert "of 1 published verdicts 0 agree, 1 differs\n" in said
    assert f"{NAME}: published as opposite, recomputed as reproduced" in said
    monkeypatch.setattr("sys.argv", ["recompute", str(tmp_path), "--table", "--csv", str(tmp_path / "out.csv")])
    right = table.assign(verdict="reproduced").set_index("claim").loc[[NAME]].reset_index()
    wrong = right.assign(effect=-0.9, low=None, high=None, p=None, holm_verdict="inconclusive")
    write_table(wrong, tmp_path / "claims.csv")
    with pytest.raises(SystemExit, match="1"):
        recompute_command()
    said, found = capsys.readouterr().out, pd.read_csv(tmp_path / "out.csv").set_index("claim")
    assert re.search(
        rf"{NAME}: published inconclusive after Holm.*; effect -0.9, recomputed as -[0-9.]+",
        said,
    )
    assert re.search(rf"{NAME}( +reproduced){{2}} +times [0-9.]+ \([0-9.]+ to [0-9.]+\) +[0-9.e-]+ +5", said)
    assert "rules of now that are newer than its table" in said
    assert list(found.loc[NAME, ["published", "seeds"]]) == ["reproduced", 5]
    monkeypatch.setattr("sys.argv", ["recompute", str(tmp_path)])
    write_table(right.drop(columns="basis"), tmp_path / "claims.csv")
    recompute_command()
    gone = right.assign(claim="that-was-there", basis="t")
    assert "0 agree, none differs, and 1 not comparable (1 judged by earlier rules)" in capsys.readouterr().out
    was = {NAME: {"decided_by": {"oracle": {"metric": "another"}}}}
    older = {key: value for key, value in read_json(published / "provenance.json", "").items() if key != "rules"}
    (tmp_path / "provenance.json").unlink()
    write_json(tmp_path / "provenance.json", older)
    monkeypatch.setattr(recompute, "ledger_at", {"abc": was, "def": {}}.get)
    write_table(pd.concat([right.assign(rule_commit="abc"), gone]), tmp_path / "claims.csv")
    recompute_command()
    assert (
        "2 not comparable (1 judged by earlier rules; 1 without a rule in claims.yaml now)" in capsys.readouterr().out
    )
    write_table(right.assign(rule_commit="def"), tmp_path / "claims.csv")
    with pytest.raises(SystemExit, match="1"):  # what git does not tell is held against the rule of now
        recompute_command()
    (tmp_path / "provenance.json").unlink()
    (tmp_path / "provenance.json").symlink_to(published / "provenance.json")
    numbers = found.loc[[NAME], ["effect", "low", "high", "p", "seeds"]].to_dict("records")[0]
    write_table(right.assign(**numbers), tmp_path / "claims.csv")
    capsys.readouterr()
    recompute_command()
    assert "of 1 published verdicts 1 agree, none differs\n" in capsys.readouterr().out
    (tmp_path / "runs.csv").unlink()
    with pytest.raises(BenchError, match=r"not there(.|\n)*runs.csv(.|\n)*remedy"):
        recompute_command()
