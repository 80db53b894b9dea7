"""One thing in full: what it is, what it needs, its verdict where there is one, and the command that makes it.

Imports no torch and no tables: verdicts are read as they were written.
"""

import csv
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from trigbench._nearest import nearest
from trigbench.core.objectives import OBJECTIVES
from trigbench.workflow.claims.ledger import all_claims, claims_of
from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine.files import read_json
from trigbench.workflow.report.catalogue import LISTINGS, Lines, Listing, about, arms_said, few_words, papers_claims
from trigbench.workflow.report.shown_samplers import samplers_shown
from trigbench.workflow.study.claim import Claim, Rule, Term
from trigbench.workflow.study.kinds import known_of
from trigbench.workflow.study.reading import budgets_of
from trigbench.workflow.study.sources import places_named
from trigbench.workflow.study.standing import standing
from trigbench.workflow.study.study import Study


def shown(name: str, studies: Sequence[Study]) -> list[Lines]:
    """Everything of that name in these studies and in the project's tables, what is said in full first.

    `study/experiment`, `study/arm` and `claims/id` name one thing. Raises BenchError for what is not there.
    """
    within, _, rest = name.rpartition("/")
    chosen = [study for study in studies if within in (study.said, study.study)]
    if chosen:
        name, studies = rest, chosen
    elif within == "claims":
        name = rest
    found = [
        lines
        for show in (_studies, _objectives, _claims, _experiments, _arms, samplers_shown)
        for lines in show(name, studies)
    ]
    found = found or [
        _row(listing, row) for listing in LISTINGS.values() for row in listing.rows(studies) if row[0] == name
    ]
    if not found:
        known = dict.fromkeys(row[0] for listing in LISTINGS.values() for row in listing.rows(studies))
        remedy = nearest(name, known) or "name one that `trigbench list` shows"
        raise BenchError(f"there is no {name!r}", key="NAME", remedy=remedy)
    return found


def _row(listing: Listing, row: Sequence[str]) -> Lines:
    return list(zip(listing.columns, row, strict=True))


def _studies(name: str, studies: Sequence[Study]) -> list[Lines]:
    return [study_shown(study) for study in studies if name in (study.study, study.said)]


def _objectives(name: str, studies: Sequence[Study]) -> list[Lines]:
    return [objective_shown(name, studies)] if name in OBJECTIVES else []


def _claims(name: str, studies: Sequence[Study]) -> list[Lines]:
    claims = all_claims(papers_claims(), studies)
    return [claim_shown(name, claims[name], studies)] if name in claims else []


def _experiments(name: str, studies: Sequence[Study]) -> list[Lines]:
    those = [study for study in studies if name in study.experiments]
    if len(those) > 1:
        return [[("experiment", name), *_each(those, lambda study: study.experiments[name].title, name)]]
    return [experiment_shown(study, name) for study in those]


def _arms(name: str, studies: Sequence[Study]) -> list[Lines]:
    those = [study for study in studies if name in study.arms]
    if len(those) > 1:
        return [[("arm", name), *_each(those, lambda study: arms_said(study)[name], name)]]
    return [arm_shown(study, name) for study in those]


def _each(studies: Iterable[Study], said: Callable[[Study], str], name: str) -> Lines:
    """Of what stands in several studies: in few words, and how one sees which."""
    lines = [(f"of {study.said}", said(study)) for study in studies]
    return [*lines, ("one of them", f"trigbench show {name} --study NAME")]


def study_shown(study: Study) -> Lines:
    """What a study asks, holds and needs."""
    claims = [name for name, claim in claims_of(papers_claims(), study).items() if study.study in claim.decided_by]
    known = verdicts_of(study)
    verdicts = [known[name] for name in claims if name in known]
    counted = Counter(found["verdict"] for found in verdicts)
    where = Counter(found["where"] for found in verdicts)
    lines: Lines = [
        ("study", study.said),
        ("what", study.title),
        ("", study.summary.strip()),
        ("budgets", ", ".join(["laptop", *budgets_of(study.file)])),
        ("seeds", ", ".join(map(str, study.seeds))),
        ("runs", f"{len(study.runs())} of {len(study.arms)} arms"),
        *(("data", f"{name}: {known_of(data).sentence}") for name, data in study.data.items()),
        *(("experiment", f"{name}: {experiment.title}") for name, experiment in study.experiments.items()),
        ("claims", f"it decides {len(claims)}"),
    ]
    if counted:
        said = ", ".join(f"{count} {verdict}" for verdict, count in counted.most_common())
        lines.append(("verdicts", f"{said} ({', '.join(where)})"))
    return [*lines, ("make it", study.command())]


def experiment_shown(study: Study, name: str) -> Lines:
    """What an experiment asks, and of which arms."""
    experiment, runs = study.experiments[name], study.runs_of(name)
    rules = {n: c for n, c in claims_of(papers_claims(), study).items() if study.study in c.decided_by}
    decides = [n for n, claim in rules.items() if claim.decided_by[study.study].experiment == name]
    return [
        ("experiment", f"{name} of {study.said}"),
        ("what", experiment.title),
        ("paper", experiment.paper),
        ("question", experiment.question),
        ("expectation", experiment.expectation.strip()),
        ("figure", f"{experiment.figure} of {experiment.metric}"),
        *([("measured", experiment.measurement)] if experiment.measurement else []),
        ("arms", ", ".join(study.arms_of(name))),
        ("runs", f"{len(runs)}, at seeds {', '.join(map(str, study.seeds_of(name)))}"),
        *([("decides", ", ".join(decides))] if decides else []),
        ("make it", study.command(name)),
    ]


def arm_shown(study: Study, name: str) -> Lines:
    """All settings of an arm, the runs that it waits for, and the experiments that show it."""
    arm = study.arms[name]
    size = study.sizes[arm.size].model_dump(exclude_defaults=True)
    before = sorted({other.arm for run in study.runs() if run.arm == name for other in study.runs_before(run)})
    places = [str(path) for path in places_named(study.data[arm.data].model_dump())]
    file = study.teacher_file(name)
    needs = [*([f"the runs of {', '.join(before)}"] if before else []), *places, *([str(file)] if file else [])]
    shows = [experiment for experiment in study.experiments if name in study.arms_of(experiment)]
    return [
        ("arm", f"{name} of {study.said}"),
        ("what", arms_said(study)[name]),
        *([("paper", paper)] if (paper := arm.method.paper) else []),
        *((key, _plain(value)) for key, value in arm.said.items() if key not in ("objective", "samplers")),
        ("network", f"{arm.size}: " + ", ".join(f"{key} {_plain(value)}" for key, value in size.items())),
        ("samplers", ", ".join(study.samplers_of(name))),
        ("needs", "; ".join(needs) or "nothing beside its data"),
        ("shown in", ", ".join(shows) or "nothing; it chooses a rate, or others start from it"),
        ("make it", study.command(shows[0]) if shows else study.command()),
    ]


def objective_shown(name: str, studies: Sequence[Study]) -> Lines:
    """What an objective is, what it may be told, and who uses it."""
    method = OBJECTIVES[name]
    uses = {True: "an arm's teacher", False: "no teacher", None: "a teacher or none"}[method.teacher]
    uses += ", a target time" if method.two_times else ""
    uses += ", a fake that it trains beside the student" if method.fake else ""
    users = {s.said: sum(arm.objective == name for arm in s.arms.values()) for s in studies}
    return [
        ("objective", name),
        ("what", " ".join(about(method.path).split())),
        *([("paper", paper)] if (paper := method.paper) else []),
        ("function", method.path),
        ("trained with", uses),
        ("settings", ", ".join(n + " (needed)" * (n in method.needs) for n in method.accepted) or "none of its own"),
        ("sampled by", method.sampler),
        ("arms", ", ".join(f"{count} in {study}" for study, count in users.items() if count) or "of no study"),
        ("see them", f"trigbench list arms | grep ' {name} on '"),
    ]


def claim_shown(name: str, claim: Claim, studies: Sequence[Study]) -> Lines:
    """A claim, the rule of every study that decides it, and its verdict where there is one."""
    lines: Lines = [
        ("claim", name),
        ("what", claim.claim),
        ("paper", f"{claim.paper}, {claim.place}"),
        *(("published", f"{label}: {value:g}") for label, value in claim.published.items()),
        *((key, text) for key in ("erratum", "caveat") if (text := getattr(claim, key))),
    ]
    if claim.needs:
        lines.append(("needs", f"the study {claim.needs}, which no rule decides yet"))
    if claim.withdrawn:
        lines.append(("withdrawn", f"on {claim.withdrawn.date}: {claim.withdrawn.why}"))
    for change in claim.changed:
        of = f" ({', '.join(change.studies)})" if change.studies else ""
        lines.append(("changed", f"on {change.date}{of}: {change.why}"))
    for study in (study for study in studies if study.study in claim.decided_by):
        found = verdicts_of(study).get(name)
        lines += [
            (f"on {study.said}", rule_said(claim.decided_by[study.study])),
            ("verdict", verdict_said(found) if found else "not judged: no results here, and none published"),
            ("make it", study.command(f"claims/{name}")),
        ]
    return lines


def rule_said(rule: Rule) -> str:
    """What decides a claim, in a sentence.

    >>> terms = {"of": {"arms": "a"}, "against": {"value": 2.0}}
    >>> rule_said(Rule.model_validate({"experiment": "e", "metric": "m", "scale": "difference", "direction": "less",
    ...                                "smallest": 0, **terms}))
    'difference of m, a against 2, is less, in the experiment e'
    """
    sides = [" and ".join(_term(term) for term in side) for side in (rule.of, rule.against)]
    way = "the same within" if rule.direction == "same" else f"{rule.direction} by more than"
    is_so = f"{way} {rule.smallest:g}" if rule.smallest else rule.direction
    scale = "ratio (log)" if rule.scale == "log_ratio" else "difference"
    return f"{scale} of {rule.metric}, {' against '.join(sides)}, is {is_so}, in the experiment {rule.experiment}"


def _term(term: Term) -> str:
    if term.value is not None:
        return f"{term.value:g}"
    chosen = term.model_dump(exclude_none=True, exclude_defaults=True, exclude={"arms", "take", "choose_on"})
    at = ", ".join(f"{key} {_plain(value)}" for key, value in chosen.items())
    said = ", ".join(term.arms) or "the measurement"
    if term.take is not None:
        said = f"each of {said}" if term.take == "each" else f"the {term.take.replace('_', ' ')} of {said}"
    if term.choose_on:
        said = f"the one of {said} that is best over seeds {', '.join(map(str, term.choose_on))}"
    return f"{said} at {at}" if at else said


def verdicts_of(study: Study) -> dict[str, dict[str, str]]:
    """By claim the row of its verdict: of results that stand here, of any budget; else of the published table.

    `where` says which.
    """
    others = [other for other in standing()[0] if other.study == study.study and other.label != study.label]
    tables = [(study.published.verdicts, "as published with the project")]
    tables += [(made.made.verdicts, "of results here") for made in (*others, study)]
    found = {row["claim"]: row | {"where": where} for table, where in tables for row in _rows(table)}
    for made in (*others, study):
        whole = made.made.verdicts.stat().st_mtime if made.made.verdicts.is_file() else 0
        for file in sorted(made.made.verdict("*").parent.glob("*.json")):
            if file.stat().st_mtime > whole:
                content = read_json(file, "delete the file, and make the claim again")
                row = {key: "" if value is None else str(value) for key, value in content.items()}
                found[file.stem] = row | {"where": "of results here"}
    return found


def _rows(table: Path) -> list[dict[str, str]]:
    if not table.is_file():
        return []
    with table.open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


def verdict_said(row: Mapping[str, str]) -> str:
    """A verdict in a sentence that says of which results it is."""
    said = f"{row['verdict']} on {row['study']}, {row['where']}"
    if row.get("effect"):
        ends = f", 95% interval {float(row['low']):.3g} to {float(row['high']):.3g}" if row.get("low") else ""
        said += f": effect {float(row['effect']):.3g}{ends}, {row['seeds']} seeds"
    return said + (f" ({row['note']})" if row.get("note") else "")


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(one)}" for key, one in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_plain, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else few_words(str(value))
