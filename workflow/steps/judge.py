"""Judge the claims of workflow/claims.yaml by a study's tables, and write results/<study>/claims.csv.

Beside it, results/<study>/claims.json says all that is known of each. With --claim one claim is judged by its
experiment's tables alone, and its verdict is printed.
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from workflow.claims import (
    CLAIMS,
    Claim,
    Ledger,
    check_claims,
    details_file,
    in_full,
    read_claims,
    resolved,
    unknown,
    verdict_file,
    verdicts_file,
)
from workflow.report.statistics import COLUMNS
from workflow.report.tables import CURVE_COLUMNS, read_table, write_table
from workflow.report.verdicts import Effects, Judgement, effects, holm_verdicts, judged, totals
from workflow.runtime.files import read_json, write_json
from workflow.runtime.freshness import MADE_FROM, claim_from
from workflow.runtime.history import is_ancestor, versions
from workflow.runtime.records import read_record
from workflow.steps.command import main, parser, study_of
from workflow.study import Study

RULE_FIRST = "yes"
RULE_CHANGED = "rule changed after results"
UNKNOWN = "unknown"
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
    """Judge every claim by the study's tables, write claims.csv and claims.json, return the first."""
    ledger = _ledger(study, path)
    origin = read_json(study.folder / "provenance.json", f"make the study first: snakemake {study.label}")
    runs, curves = read_table(study.folder / "runs.csv"), read_table(study.folder / "curves.csv")
    tables = Tables(runs, curves, tuple(commit or UNKNOWN for commit in origin["commits"]))
    whole = in_full(study)
    found = {name: judge(claim, whole, tables) for name, claim in ledger.claims.items()}
    history = rule_commits(path)
    survivors = holm_verdicts([judgement for judgement, _ in found.values()])
    rows = [
        {**row(name, ledger.claims[name], study, judgement, tables.commits, history, path), "holm_verdict": survivor}
        for (name, (judgement, _)), survivor in zip(found.items(), survivors, strict=True)
    ]
    table = pd.DataFrame(rows, columns=VERDICT_COLUMNS)
    write_table(table, verdicts_file(study))
    about = [row | details(ledger.claims[row["claim"]], whole, found[row["claim"]][1]) for row in rows]
    write_json(details_file(study), about)
    return table


def judge_claim(study: Study, name: str, path: Path = CLAIMS) -> dict[str, Any]:
    """Judge one claim by what its experiment has, write its verdict and return it."""
    ledger = _ledger(study, path)
    if name not in ledger.claims:
        raise unknown("claim", name, ledger.claims, path, "claims")
    claim = ledger.claims[name]
    rule = claim.decided_by.get(study.study)
    tables = experiment_tables(study, rule.experiment) if rule else Tables(_empty(COLUMNS), _empty(CURVE_COLUMNS), ())
    judgement, found = judge(claim, in_full(study), tables)
    content = row(name, claim, study, judgement, tables.commits, rule_commits(path), path)
    content |= details(claim, in_full(study), found) | {MADE_FROM: claim_from(study, name, ledger)}
    write_json(verdict_file(study, name), content)
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
        **claim.model_dump(include={"published", "erratum", "caveat", "needs"}),
    }


def experiment_tables(study: Study, experiment: str) -> Tables:
    """The tables of one experiment, empty where it was not made, and the commits of its runs."""
    folder = study.experiment_folder(experiment)
    there = (folder / "runs.csv").is_file()
    runs = read_table(folder / "runs.csv") if there else _empty(COLUMNS)
    curves = read_table(folder / "curves.csv") if there else _empty(CURVE_COLUMNS)
    made = study.runs_of(experiment) if experiment in study.experiments else []  # a budget may leave it out
    records = [study.run_folder(run) / "metrics.json" for run in made]
    commits = {read_record(path).provenance.get("commit") or UNKNOWN for path in records if path.is_file()}
    return Tables(runs, curves, tuple(sorted(commits)))


def _ledger(study: Study, path: Path) -> Ledger:
    ledger = read_claims(path)
    check_claims(ledger, [study], path)
    return ledger


def _empty(columns: list[str]) -> pd.DataFrame:
    return pd.DataFrame(columns=columns)


def judge(claim: Claim, study: Study, tables: Tables) -> tuple[Judgement, Effects]:
    """The verdict of a study (in full) on a claim, and the effects by seed that it rests on."""
    rule = claim.decided_by.get(study.study)
    if rule is None:
        needed = " or ".join(claim.decided_by) or claim.needs
        return Judgement("not run", note=f"needs study {needed}"), Effects((), ())
    found = effects(resolved(rule, study.arms_of(rule.experiment)), tables.runs, tables.curves)
    return judged(found, rule.direction, rule.smallest), found


def row(
    name: str,
    claim: Claim,
    study: Study,
    judgement: Judgement,
    results: tuple[str, ...],
    history: Mapping[str, str] | None,
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
    commit = (history or {}).get(_key(name, study.study))
    return about | {
        "experiment": rule.experiment,
        "smallest_effect": rule.smallest,
        "direction": rule.direction,
        "scale": rule.scale,
        "rule_commit": commit,
        "rule_first": rule_first(commit, results, path.parent, history is not None),
    }


def rule_commits(path: Path = CLAIMS) -> dict[str, str] | None:
    """By `claim study`: the commit that first held the present rule. None outside a git checkout.

    A rule that no commit holds is left out.
    """
    present = _rules(path.read_text(encoding="utf-8"))
    found: dict[str, str] = {}
    past = list(versions(path))
    for commit, text in past:
        held = _rules(text)
        for key, rule in present.items():
            if held.get(key) == rule:
                found.setdefault(key, commit)
    return found if past else None


def rule_first(commit: str | None, results: tuple[str, ...], folder: Path, tracked: bool) -> str | None:
    """Whether the rule's commit came before all results, or is theirs; None without results."""
    if not tracked:
        return UNKNOWN
    if not results:
        return None
    if commit is None:  # not committed yet: it cannot have come first
        return RULE_CHANGED
    answers = [is_ancestor(folder, commit, result) for result in results]
    if False in answers:
        return RULE_CHANGED
    return UNKNOWN if None in answers else RULE_FIRST


def _rules(text: str) -> dict[str, str]:
    """Every rule of a version of claims.yaml, as it is written but for layout; none where it was no ledger."""
    try:
        content = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        return {
            _key(name, study): json.dumps(rule, sort_keys=True)
            for name, claim in content["claims"].items()
            for study, rule in (claim.get("decided_by") or {}).items()
        }
    except (yaml.YAMLError, AttributeError, KeyError, TypeError):
        return {}


def _key(claim: str, study: str) -> str:
    return f"{claim} {study}"


def sentence(content: Mapping[str, Any]) -> str:
    """A verdict to read; it always names the study that it is of."""
    verdict, study = content["verdict"], content["study"]
    lines = [f"{content['claim']} ({content['paper']}, {content['place']}): {verdict} on {study}", content["says"]]
    if content["effect"] is not None:
        low, high = content["low"], content["high"]
        around = "" if low is None else f", 95% interval {low:.3g} to {high:.3g}"
        lines.append(f"effect {content['effect']:.3g}{around} ({content['scale']} of {content['metric']})")
    if content["direction"] is not None:
        lines.append(f"claimed: {content['direction']}, smallest effect that matters {content['smallest_effect']:.3g}")
        lines.append(f"seeds: {content['seeds']}; experiment: {content['experiment']}")
        lines.append(f"rule of commit {content['rule_commit'] or UNKNOWN}; before the results: {content['rule_first']}")
    lines += [f"{key}: {content[key]}" for key in ("note", "erratum", "caveat") if content[key]]
    return "\n  ".join(lines)


def summary(table: pd.DataFrame, label: str) -> str:
    """The totals to read."""
    found = totals(table)
    counts = ", ".join(f"{found[name]:.0f} {name}" for name in ("reproduced", "not reproduced", "inconclusive"))
    holm = ", ".join(f"{found[f'{name} (Holm)']:.0f} {name}" for name in ("reproduced", "not reproduced"))
    return (
        f"on {label}: {found['tested']:.0f} claims tested; {counts}, {found['not run']:.0f} not run; "
        f"after Holm's adjustment {holm}; at most {found['false at most']:.1f} false verdicts to expect"
    )


def command() -> None:
    """Parse the arguments and judge."""
    arguments = parser(__doc__)
    arguments.add_argument("--claim", help="one claim; without it all of them")
    parsed = arguments.parse_args()
    study = study_of(parsed)
    if parsed.claim is None:
        print(summary(judge_study(study), study.label))
    else:
        print(sentence(judge_claim(study, parsed.claim)))


if __name__ == "__main__":
    main(command)
