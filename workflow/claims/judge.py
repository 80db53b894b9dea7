"""The verdicts of a study, or of one claim, from its tables."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from trigbench.workflow.claims.dating import UNKNOWN, Dated, key_of, rule_commits, rule_first
from trigbench.workflow.claims.ledger import (
    CLAIMS,
    all_claims,
    check_claims,
    claims_of,
    in_full,
    read_claims,
    resolved,
    unknown,
)
from trigbench.workflow.claims.statistics import COLUMNS
from trigbench.workflow.claims.tables import CURVE_COLUMNS, read_table, write_table
from trigbench.workflow.claims.verdicts import Effects, Judgement, effects, holm_verdicts, judged
from trigbench.workflow.errors import BenchError, Mistake
from trigbench.workflow.machine.files import read_json, write_json
from trigbench.workflow.study.claim import Claim
from trigbench.workflow.study.freshness import MADE_FROM, claim_from
from trigbench.workflow.study.quantities import QUANTITIES, quantities_of
from trigbench.workflow.study.records import read_record
from trigbench.workflow.study.study import Study

VERDICT_COLUMNS = [
    "claim", "paper", "place", "study", "verdict", "effect", "low", "high", "seeds", "experiment",
    "holm_verdict", "p", "smallest_effect", "direction", "scale", "topic", "note",
    "rule_commit", "results_commit", "rule_first",
]  # fmt: skip
"""Of claims.csv; others rely on the first ten."""


@dataclasses.dataclass(frozen=True)
class Tables:
    """What a study has measured."""

    runs: pd.DataFrame
    curves: pd.DataFrame
    commits: tuple[str, ...]
    """Of the checkouts that made the runs; `unknown` where there was none."""


def judge_study(study: Study, path: Path = CLAIMS) -> pd.DataFrame:
    """Judge the study's claims (`claims_of`) by its tables, write claims.csv and claims.json, return the first."""
    claims, sources = _claims(study, path)
    claims = {name: claims[name] for name in claims_of(read_claims(path), study)}
    origin = read_json(study.folder / "provenance.json", f"make the study first: {study.command()}")
    runs, curves = read_table(study.folder / "runs.csv"), read_table(study.folder / "curves.csv")
    tables = Tables(runs, curves, tuple(commit or UNKNOWN for commit in origin["commits"]))
    whole = in_full(study)
    found = {name: judge(claim, whole, tables, sources[name]) for name, claim in claims.items()}
    history = {file: rule_commits(file) for file in {sources[name] for name in claims}}
    survivors = holm_verdicts([judgement for judgement, _ in found.values()])
    rows = [
        {**row(n, claims[n], study, judgement, tables.commits, history[sources[n]], sources[n]), "holm_verdict": last}
        for (n, (judgement, _)), last in zip(found.items(), survivors, strict=True)
    ]
    table = pd.DataFrame(rows, columns=VERDICT_COLUMNS)
    write_table(table, study.verdicts_file)
    about = [row | details(claims[row["claim"]], whole, found[row["claim"]][1]) for row in rows]
    write_json(study.details_file, about)
    return table


def judge_claim(study: Study, name: str, path: Path = CLAIMS) -> dict[str, Any]:
    """Judge one claim by what its experiment has, write its verdict and return it."""
    claims, sources = _claims(study, path)
    if name not in claims:
        raise unknown("claim", name, claims, path, "claims")
    claim, source = claims[name], sources[name]
    rule = claim.decided_by.get(study.study)
    tables = experiment_tables(study, rule.experiment) if rule else Tables(_empty(COLUMNS), _empty(CURVE_COLUMNS), ())
    judgement, found = judge(claim, in_full(study), tables, source)
    content = row(name, claim, study, judgement, tables.commits, rule_commits(source), source)
    content |= details(claim, in_full(study), found) | {MADE_FROM: claim_from(study, name, claim)}
    write_json(study.verdict_file(name), content)
    return content


def details(claim: Claim, study: Study, found: Effects) -> dict[str, Any]:
    """What a reader of a verdict wants beside its row: the rule, the arms of a study (in full), effects by seed."""
    rule = claim.decided_by.get(study.study)
    named = resolved(rule, study.arms_of(rule.experiment)) if rule else None
    return {
        "metric": rule.metric if rule else None,
        "rule": rule.model_dump(exclude_none=True, exclude_defaults=True) if rule else None,
        "arms": list(dict.fromkeys(arm for term in named.measured for arm in term.arms)) if named else [],
        "effects": dict(zip(map(str, found.seeds), found.values, strict=True)),
        "says": claim.claim,
        "labels": _own_labels(rule.metrics, study) if rule else {},
        **claim.model_dump(include={"published", "erratum", "caveat", "needs"}),
    }


def _own_labels(metrics: tuple[str, ...], study: Study) -> dict[str, str]:
    """Of metrics that the study's data declare, for pages that know no study."""
    known = quantities_of(study.data.values()) if set(metrics) - QUANTITIES.keys() else QUANTITIES
    return {name: known[name].title for name in metrics if name in known and name not in QUANTITIES}


def experiment_tables(study: Study, experiment: str) -> Tables:
    """The tables of one experiment, empty where it was not made, and the commits of its runs."""
    folder = study.experiment_folder(experiment)
    there = (folder / "runs.csv").is_file()
    runs = read_table(folder / "runs.csv") if there else _empty(COLUMNS)
    curves = read_table(folder / "curves.csv") if there else _empty(CURVE_COLUMNS)
    made = study.runs_of(experiment) if experiment in study.experiments else []  # a budget may leave it out
    records = [study.run_folder(run) / "metrics.json" for run in made]
    origins = [origin for path in records if path.is_file() for origin in read_record(path).provenances]
    commits = {origin.get("commit") or UNKNOWN for origin in origins}
    return Tables(runs, curves, tuple(sorted(commits)))


def _claims(study: Study, path: Path) -> tuple[dict[str, Claim], dict[str, Path]]:
    """(all claims that the study may be asked about, the file of each)."""
    ledger = read_claims(path)
    check_claims(ledger, [study], path)
    return all_claims(ledger, [study]), dict.fromkeys(ledger.claims, path) | dict.fromkeys(study.claims, study.file)


def _empty(columns: list[str]) -> pd.DataFrame:
    return pd.DataFrame(columns=columns)


def judge(claim: Claim, study: Study, tables: Tables, source: Path = CLAIMS) -> tuple[Judgement, Effects]:
    """The verdict of a study (in full) on a claim, and the effects by seed that it rests on.

    Raises BenchError naming the claim's file where its rule does not fit what the study measures.
    """
    rule = claim.decided_by.get(study.study)
    if rule is None:
        needed = " or ".join(claim.decided_by) or claim.needs
        return Judgement("not run", note=f"needs study {needed}"), Effects((), ())
    known = quantities_of(study.data.values())
    try:
        rule.check_metrics(known)
    except Mistake as error:
        raise BenchError(str(error), file=source, key="claims", remedy=error.remedy) from None
    found = effects(resolved(rule, study.arms_of(rule.experiment)), tables.runs, tables.curves, known, source)
    return judged(found, rule.direction, rule.smallest), found


def row(
    name: str,
    claim: Claim,
    study: Study,
    judgement: Judgement,
    results: tuple[str, ...],
    history: Mapping[str, Dated] | None,
    path: Path,
) -> dict[str, Any]:
    """One row of claims.csv but for the Holm verdict, which needs all of them."""
    rule = claim.decided_by.get(study.study)
    about: dict[str, Any] = {"claim": name, "paper": claim.paper, "place": claim.place, "study": study.label}
    about |= {key: getattr(judgement, key) for key in ("verdict", "effect", "low", "high", "p", "seeds", "note")}
    about |= {"topic": claim.topic, "results_commit": " ".join(results) if rule else None}
    if rule is None:
        blank = ("experiment", "smallest_effect", "direction", "scale", "rule_commit", "rule_first")
        return about | dict.fromkeys(blank)
    dated = (history or {}).get(key_of(name, study.study), Dated())
    return about | {
        "experiment": rule.experiment,
        "smallest_effect": rule.smallest,
        "direction": rule.direction,
        "scale": rule.scale,
        "rule_commit": dated.rule,
        "rule_first": rule_first(dated, results, path.parent, history is not None),
    }
