"""Judge the claims of workflow/claims.yaml and a study's own by its tables, and write results/<study>/claims.csv.

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

from workflow.claims.ledger import CLAIMS, all_claims, check_claims, claims_of, in_full, read_claims, resolved, unknown
from workflow.claims.statistics import COLUMNS
from workflow.claims.tables import CURVE_COLUMNS, read_table, write_table
from workflow.claims.verdicts import CLAIM_NEW, RULE_CHANGED, Effects, Judgement, effects, holm_verdicts, judged, totals
from workflow.errors import BenchError, Mistake
from workflow.machine.files import read_json, write_json
from workflow.machine.git import is_ancestor, versions
from workflow.machine.plain import StrictLoader
from workflow.machine.provenance import attribution
from workflow.steps.command import main, parser, study_of
from workflow.study.claim import Claim
from workflow.study.freshness import MADE_FROM, claim_from
from workflow.study.quantities import QUANTITIES, quantities_of
from workflow.study.records import read_record
from workflow.study.study import Study

RULE_FIRST = "yes"
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


@dataclasses.dataclass(frozen=True)
class Dated:
    """When a rule came: the commits that first held it as it is, and that first held any for its claim and study."""

    rule: str | None = None
    claim: str | None = None
    """None where no commit holds it."""


def judge_study(study: Study, path: Path = CLAIMS) -> pd.DataFrame:
    """Judge the study's claims (`claims_of`) by its tables, write claims.csv and claims.json, return the first."""
    claims, sources = _claims(study, path)
    claims = {name: claims[name] for name in claims_of(read_claims(path), study)}
    origin = read_json(study.folder / "provenance.json", f"make the study first: {study.command()}")
    runs, curves = read_table(study.folder / "runs.csv"), read_table(study.folder / "curves.csv")
    tables = Tables(runs, curves, tuple(commit or UNKNOWN for commit in origin["commits"]))
    whole = in_full(study)
    found = {name: judge(claim, whole, tables, sources[name]) for name, claim in claims.items()}
    history = {file: rule_commits(file) for file in {*sources.values()}}
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
    commits = {read_record(path).provenance.get("commit") or UNKNOWN for path in records if path.is_file()}
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
    dated = (history or {}).get(_key(name, study.study), Dated())
    return about | {
        "experiment": rule.experiment,
        "smallest_effect": rule.smallest,
        "direction": rule.direction,
        "scale": rule.scale,
        "rule_commit": dated.rule,
        "rule_first": rule_first(dated, results, path.parent, history is not None),
    }


def rule_commits(path: Path = CLAIMS) -> dict[str, Dated] | None:
    """By `claim study`, of a ledger or a study with claims of its own. None where git knows nothing of the file."""
    if path == CLAIMS and attribution()["commit"] is None:  # the commits around a copy are somebody else's
        return None
    present = _rules(path.read_text(encoding="utf-8"))
    rules, claims = dict[str, str](), dict[str, str]()
    past = list(versions(path))
    for commit, text in past:
        held = _rules(text)
        for key in present.keys() & held.keys():
            claims.setdefault(key, commit)
            if held[key] == present[key]:
                rules.setdefault(key, commit)
    return {key: Dated(rules.get(key), claims.get(key)) for key in present} if past else None


def rule_first(dated: Dated, results: tuple[str, ...], folder: Path, tracked: bool) -> str | None:
    """Whether the rule's commit came before all results, or is theirs; None without results.

    A rule that came after them is either the first of a claim that is new, or was another one before.
    """
    if not tracked:
        return UNKNOWN
    if not results:
        return None
    if dated.claim is None:  # no commit speaks of it yet
        return UNKNOWN
    if dated.rule is None:  # it is another one since the last commit
        return RULE_CHANGED
    answers = [is_ancestor(folder, dated.rule, result) for result in results]
    if False in answers:
        return CLAIM_NEW if dated.rule == dated.claim else RULE_CHANGED
    return UNKNOWN if None in answers else RULE_FIRST


def _rules(text: str) -> dict[str, str]:
    """Every rule of a version of a file with claims, as it is written but for layout; none where it had none.

    Read as today's are, and where that refuses an old version, as it was read then.
    """
    for loader in (StrictLoader, yaml.SafeLoader):
        try:
            content = yaml.load(text, Loader=loader)
            return {
                _key(name, study): json.dumps(rule, sort_keys=True)
                for name, claim in content["claims"].items()
                for study, rule in (claim.get("decided_by") or {}).items()
            }
        except (Mistake, ValueError, yaml.YAMLError):
            continue
        except (AttributeError, KeyError, TypeError):
            break
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
