"""The verdicts of a study, or of one claim, from its tables."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from trigbench.workflow.claims.dating import UNKNOWN, Dated, key_of, rule_commits, rule_first
from trigbench.workflow.claims.effects import Effects, comparisons
from trigbench.workflow.claims.family import after_holm, family_of, keep, late_notes
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
from trigbench.workflow.claims.seen import Published, published_results, seen, used_by
from trigbench.workflow.claims.statistics import COLUMNS
from trigbench.workflow.claims.tables import CURVE_COLUMNS, read_table, write_table
from trigbench.workflow.claims.untested import missing_beside, too_short, untested
from trigbench.workflow.claims.verdict_records import VerdictRecord, write_verdicts
from trigbench.workflow.claims.verdicts import (
    Judgement,
    judged,
    judged_exactly,
    judged_in_looks,
    not_tested,
)
from trigbench.workflow.errors import BenchError, Mistake
from trigbench.workflow.machine.files import read_json, write_json
from trigbench.workflow.study.claim import Claim, Rule
from trigbench.workflow.study.freshness import MADE_FROM, claim_from
from trigbench.workflow.study.quantities import QUANTITIES, Quantities, quantities_of
from trigbench.workflow.study.records import read_record
from trigbench.workflow.study.study import Study

VERDICT_COLUMNS = [
    "claim", "paper", "place", "study", "verdict", "effect", "low", "high", "seeds", "experiment",
    "holm_verdict", "p", "smallest_effect", "direction", "scale", "topic", "note",
    "rule_commit", "results_commit", "rule_first", "seen", "basis", "seeds_needed", "correlation",
]  # fmt: skip
"""Of claims.csv; others rely on the first ten."""
OF_JUDGEMENT = (
    "verdict", "effect", "low", "high", "p", "seeds", "note", "basis", "seeds_needed", "correlation",
)  # fmt: skip


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
    tables = study_tables(study)
    whole = in_full(study)
    found = {name: judge(claim, study, tables, sources[name], whole) for name, claim in claims.items()}
    past = {file: Past.of(file) for file in {sources[name] for name in claims}}
    rules = {n: claim.decided_by[study.study] for n, claim in claims.items() if study.study in claim.decided_by}
    judgements = {n: judgement for n, (judgement, _) in found.items()}
    family = family_of(study, rules, judgements)
    keep(study, family, rules)
    survivors, notes = after_holm(judgements, rules, family), late_notes(rules, family)
    found = {n: (_noted(judgement, notes.get(n)), effects) for n, (judgement, effects) in found.items()}
    rows = [
        {**row(n, claims[n], study, whole, found[n], tables.commits, past[sources[n]]), "holm_verdict": survivors[n]}
        for n in found
    ]
    table = pd.DataFrame(rows, columns=VERDICT_COLUMNS)
    write_table(table, study.made.verdicts)
    about = [row | details(claims[row["claim"]], whole, *found[row["claim"]]) for row in rows]
    write_verdicts(study.made.details, [VerdictRecord(**each) for each in about])
    return table


def _noted(judgement: Judgement, more: str | None) -> Judgement:
    return dataclasses.replace(judgement, note="; ".join(filter(None, (judgement.note, more))))


def study_tables(study: Study) -> Tables:
    """What the study's tables hold. Raises BenchError before they are made."""
    origin = read_json(study.made.origin, f"make the study first: {study.command()}")
    runs, curves = read_table(study.made.runs), read_table(study.made.curves)
    return Tables(runs, curves, tuple(commit or UNKNOWN for commit in origin["commits"]))


def judge_claim(study: Study, name: str, path: Path = CLAIMS) -> dict[str, Any]:
    """Judge one claim by what its experiment has, write its verdict and return it."""
    claims, sources = _claims(study, path)
    if name not in claims:
        raise unknown("claim", name, claims, path, "claims")
    claim, source = claims[name], sources[name]
    rule = claim.decided_by.get(study.study)
    tables = experiment_tables(study, rule.experiment) if rule else Tables(_empty(COLUMNS), _empty(CURVE_COLUMNS), ())
    whole = in_full(study)
    found = judge(claim, study, tables, source, whole)
    content = row(name, claim, study, whole, found, tables.commits, Past.of(source))
    content |= details(claim, whole, *found) | {MADE_FROM: claim_from(study, name, claim)}
    write_json(study.made.verdict(name), content)
    return content


def details(claim: Claim, study: Study, judgement: Judgement, found: Sequence[Effects]) -> dict[str, Any]:
    """What a reader of a verdict wants beside its row: the rule, the arms of a study (in full), effects by seed (of
    several comparisons, of the one that decides, and of each)."""
    found = judgement.used(found)
    deciding = found[judgement.which] if found else Effects((), ())
    rule = claim.decided_by.get(study.study)
    named = resolved(rule, study.arms_of(rule.experiment)) if rule else None
    return {
        "metric": rule.metric if rule else None,
        "planned": bool(rule and study.looks_of(rule.experiment)),
        "rule": rule.model_dump(exclude_none=True, exclude_defaults=True) if rule else None,
        "arms": list(named.arms) if named else [],
        "effects": dict(zip(map(str, deciding.seeds), deciding.values, strict=True)),
        "comparisons": {e.name: float(np.median(e.values)) for e in found if e.values} if len(found) > 1 else {},
        "compared": _compared(judgement, found) if len(found) > 1 else [],
        "says": claim.claim,
        "labels": _own_labels(rule.metrics, study) if rule else {},
        **claim.model_dump(include={"published", "erratum", "caveat", "needs", "changed"}, mode="json"),
    }


def _compared(judgement: Judgement, found: Sequence[Effects]) -> list[dict[str, Any]]:
    own = zip(found, judgement.ends or [(None, None)] * len(found), strict=True)
    return [
        {
            "name": e.name, "effects": dict(zip(map(str, e.seeds), e.values, strict=True)),
            "median": float(np.median(e.values)), "low": low, "high": high,
        }
        for e, (low, high) in own
        if e.values
    ]  # fmt: skip


def _own_labels(metrics: tuple[str, ...], study: Study) -> dict[str, str]:
    """Of metrics that the study's data declare, for pages that know no study."""
    known = quantities_of(study.data.values()) if set(metrics) - QUANTITIES.keys() else QUANTITIES
    return {name: known[name].title for name in metrics if name in known and name not in QUANTITIES}


def experiment_tables(study: Study, experiment: str) -> Tables:
    """The tables of one experiment, empty where it was not made, and the commits of its runs."""
    files = study.made.experiment(experiment)
    there = files.runs.is_file()
    runs = read_table(files.runs) if there else _empty(COLUMNS)
    curves = read_table(files.curves) if there else _empty(CURVE_COLUMNS)
    made = study.runs_of(experiment) if experiment in study.experiments else []  # a budget may leave it out
    records = [study.files(run).metrics for run in made]
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


def judge(
    claim: Claim, study: Study, tables: Tables, source: Path = CLAIMS, whole: Study | None = None
) -> tuple[Judgement, tuple[Effects, ...]]:
    """The verdict of a study on a claim, and the effects by seed of the comparisons that it rests on. `whole` is the
    study in full, where it is known.

    Raises BenchError naming the claim's file where its rule does not fit what the study measures.
    """
    rule = claim.decided_by.get(study.study)
    if claim.withdrawn is not None:
        return Judgement("not run", note=f"withdrawn on {claim.withdrawn.date}: {claim.withdrawn.why}"), ()
    if rule is None:
        needed = " or ".join(claim.decided_by) or claim.needs
        return Judgement("not run", note=f"needs study {needed}"), ()
    whole = whole or in_full(study)
    known = quantities_of(study.data.values())
    try:
        rule.check_metrics(known)
    except Mistake as error:
        raise BenchError(str(error), file=source, key="claims", remedy=error.remedy) from None
    rule = resolved(rule, whole.arms_of(rule.experiment))
    found = comparisons(rule, tables.runs, tables.curves, known, source)
    if found[0].missing:
        return judged(found, rule.direction, rule.smallest), found
    if gap := missing_beside(rule, tables.runs, known):
        return Judgement("not run", note=f"there is no {gap}"), found
    if reason := too_short(study):
        return not_tested(reason, found), found
    return _tested(rule, found, tables.runs, study.looks_of(rule.experiment), whole, known), found


def _tested(
    rule: Rule,
    found: tuple[Effects, ...],
    runs: pd.DataFrame,
    looks: Sequence[tuple[int, ...]],
    whole: Study,
    known: Quantities,
) -> Judgement:
    """Of all seeds; in a plan look by look, and exactly at the first, so that later seeds unsay nothing."""

    def why_not(there: Sequence[Effects], seeds: Sequence[int]) -> str | None:
        own = pd.DataFrame(runs[runs.seed.isna() | runs.seed.isin(seeds)]) if seeds else runs
        return untested(rule, there, own, whole, known)

    exact, first = rule.is_exact(known), looks[0] if looks else ()
    if looks and not exact:
        return judged_in_looks(looks, found, rule.direction, rule.smallest, why_not)
    of_first = [effects.among(first) for effects in found] if first else found
    if not all(effects.seeds for effects in of_first):
        return Judgement("inconclusive", seeds=min(len(e.seeds) for e in found), note="the first look has no seed yet")
    if reason := why_not(of_first, first):
        judgement = not_tested(reason, of_first)
    else:
        judgement = (judged_exactly if exact else judged)(of_first, rule.direction, rule.smallest)
    return dataclasses.replace(judgement, looked=first)


@dataclasses.dataclass(frozen=True)
class Past:
    """What git knows of a file with claims."""

    folder: Path
    rules: Mapping[str, Dated] | None
    results: Published | None

    @classmethod
    def of(cls, path: Path) -> "Past":
        rules = rule_commits(path)
        return cls(path.parent, rules, None if rules is None else published_results(path.parent))


def row(
    name: str,
    claim: Claim,
    study: Study,
    whole: Study,
    found: tuple[Judgement, Sequence[Effects]],
    results: tuple[str, ...],
    past: Past,
) -> dict[str, Any]:
    """One row of claims.csv but for the Holm verdict, which needs all of them."""
    judgement, effects = found
    rule = claim.decided_by.get(study.study)
    about: dict[str, Any] = {"claim": name, "paper": claim.paper, "place": claim.place, "study": study.label}
    about |= {key: getattr(judgement, key) for key in OF_JUDGEMENT}
    about |= {"topic": claim.topic, "results_commit": " ".join(results) if rule else None}
    if rule is None:
        blank = ("experiment", "smallest_effect", "direction", "scale", "rule_commit", "rule_first", "seen")
        return about | dict.fromkeys(blank)
    dated = (past.rules or {}).get(key_of(name, study.study), Dated())
    used = resolved(rule, whole.arms_of(rule.experiment)).arms
    seeds = {seed for e in judgement.used(effects) for seed in (*e.seeds, *e.spent)}
    return about | {
        "experiment": rule.experiment,
        "smallest_effect": rule.smallest,
        "direction": rule.direction,
        "scale": rule.scale,
        "rule_commit": dated.rule,
        "rule_first": rule_first(dated, results, past.folder, past.rules is not None),
        "seen": seen(dated, used_by(study, used, seeds), past.results) if seeds else None,
    }
