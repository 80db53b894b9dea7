"""The page of a study: what was found in short, its experiments, data, costs, words and origin."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from trigbench._places import to_step
from trigbench.workflow.claims.statistics import COLUMNS, SAMPLING
from trigbench.workflow.claims.tables import read_table
from trigbench.workflow.claims.verdict_records import read_verdicts
from trigbench.workflow.claims.verdicts import fresh, totals
from trigbench.workflow.report.pages.caveats import floors_of, lengths_of, redrawn_of
from trigbench.workflow.report.pages.common import (
    SYMBOLS,
    Badge,
    Picture,
    Table,
    content,
    duration,
    label,
    meaning,
    picture,
)
from trigbench.workflow.report.pages.costs import cost_table, costs_shown
from trigbench.workflow.report.pages.data import DataSection, data_section
from trigbench.workflow.report.pages.experiment import ExperimentPage, experiment_page, verdict_cell
from trigbench.workflow.report.pages.gaps import Missing, is_done, missing
from trigbench.workflow.report.pages.outside import OutsideSection, outside_section
from trigbench.workflow.study.places import forms
from trigbench.workflow.study.quantities import COSTS, CURVES, Quantities, quantities_of
from trigbench.workflow.study.study import DEFAULT_BUDGET, Study

PRECISION_NOTE = (
    "Precision (fp32, fp16, bf16) is that of the student's network in training, by torch.autocast: its linear maps, "
    "forward, in the JVP of sCD and sCT, and backward, without loss scaling. Time embedding and modulation, the "
    "norms' reductions, the objective's arithmetic, the exact teacher, Adam, the average, sampling and evaluation are "
    "float32. Angles are drawn and subtracted in float64 and reach the network as float32."
)
AGREEMENT_NOTE = (
    "“Published” is the mean of the results committed with the code, made under the same budget. The two agree when "
    "Welch's 95% interval of the difference of the means holds zero; where nothing differs, about one comparison in "
    "twenty says “no” by chance. A dash: either side has fewer than two seeds, or a seed diverged, or nothing is "
    "published for it."
)


@dataclass(frozen=True)
class Agreement:
    """How many means agree with the published ones, of those that can be compared."""

    yes: int
    no: int

    def __str__(self) -> str:
        return f"{self.yes} of {self.yes + self.no}"


@dataclass(frozen=True)
class StudyPage:
    """Everything on the page of one study; addresses are relative to the reports folder."""

    label: str
    title: str
    summary: str
    shipped: bool
    """Whether it is one of the project's own, held against all claims of the papers."""
    experiments: list[ExperimentPage]
    data: list[DataSection]
    missing: list[Missing]
    runs: int
    runs_total: int
    seeds: list[int]
    provenance: Mapping[str, Any]
    in_short: list[tuple[str, str]]
    """Terms and descriptions of the provenance in short."""
    claims: list[dict[str, Any]]
    """All that is known of every claim (results/<study>/claims.json)."""
    verdicts: dict[str, float]
    headline: dict[str, float]
    """The same of rules that stood before any of their results was published."""
    """Totals of the claims; empty before they are judged."""
    costs: Table | None
    costs_download: str
    precisions: list[tuple[str, int]]
    """(precision, number of arms), empty when there is one only."""
    glossary: list[tuple[str, str, str]]
    """(name, label, meaning) of every metric that the page shows."""
    published: str
    """What the user's numbers are held against, or why there is nothing."""
    agreement: Agreement | None
    diverged: list[str]
    settings: str
    commands: list[str]
    one_noise: Picture | None = None
    """What its methods make of one noise."""
    outside: OutsideSection | None = None
    """What was trained elsewhere; no part of anything else on the page."""
    copies: dict[str, Path] = field(default_factory=dict)
    """Files that the pages link: address -> where it is copied from."""
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    """Tables that the pages link: address -> content."""

    @property
    def counts(self) -> list[tuple[Badge, int]]:
        """How many claims got each verdict."""
        return [(Badge(name, self.label), int(self.verdicts[name])) for name in SYMBOLS if name in self.verdicts]


def study_page(study: Study) -> StudyPage:
    """The page of a study, from whatever results exist."""
    copies, tables, known = _copies(study), {}, quantities_of(study.data.values())
    provenance = content(study.made.origin)
    published, published_note = _published(study, provenance)
    costs, costs_download = cost_table(study), f"tables/{study.label}/costs.csv"
    lacking = missing(study)
    experiments = [
        experiment_page(study, name, published, costs, lacking, copies, tables, known) for name in study.experiments
    ]
    if costs is not None:
        tables[costs_download] = costs
    there = [run for run in study.runs() if is_done(study, run)]
    precisions = pd.Series([study.arms[arm].precision for arm in {run.arm: None for run in study.runs()}], dtype=object)
    counted = [(str(name), int(count)) for name, count in precisions.value_counts(sort=False).items()]
    verdicts = read_table(path) if (path := study.made.verdicts).is_file() else pd.DataFrame()
    return StudyPage(
        label=study.label, title=study.title, summary=study.summary.strip(), shipped=study.is_shipped,
        experiments=experiments,
        data=[found for data in study.data if (found := data_section(study, data, known))], missing=lacking,
        runs=len(there), runs_total=len(study.runs()), seeds=list(study.seeds),
        provenance=provenance, in_short=_in_short(study, provenance, len(there)),
        claims=[verdict.model_dump() for verdict in read_verdicts(study.made.details)],
        verdicts=totals(verdicts) if len(verdicts) else {},
        headline=totals(fresh(verdicts)) if len(verdicts) else {},
        costs=None if costs is None else costs_shown(costs), costs_download=costs_download,
        precisions=counted if len(counted) > 1 else [], glossary=_glossary(study, known),
        published=published_note, agreement=_agreement(t for t in tables.values() if "agrees" in t),
        diverged=list(dict.fromkeys(run for page in experiments for run in page.diverged)),
        settings=yaml.safe_dump(provenance.get("settings", {}), sort_keys=False, width=100, allow_unicode=True),
        commands=_commands(study), one_noise=_one_noise(study, copies),
        outside=outside_section(study, tables), copies=copies, tables=tables,
    )  # fmt: skip


def entry(page: StudyPage, study: Study) -> dict[str, Any]:
    """What the front page and the pages of claims say of a study; plain data, kept beside its page."""
    return {
        "label": page.label,
        "study": study.study,
        "commands": {c["claim"]: study.command(f"claims/{c['claim']}") for c in page.claims if c["rule"]},
        "title": page.title,
        "summary": page.summary,
        "experiments": [
            {
                "name": e.name, "title": e.title, "paper": e.paper, "address": e.address,
                "finding": e.finding, "curves": {m: asdict(chart) for m, chart in e.charts.items() if chart.words},
                "figure": e.figure and e.figure.source, "alt": e.figure and e.figure.alt,
            }
            for e in page.experiments
        ],
        "quick": study.quick,
        "leads": study.leads,
        "one_noise": page.one_noise and asdict(page.one_noise),
        "runs": page.runs,
        "runs_missing": page.runs_total - page.runs,
        "runs_diverged": page.provenance.get("runs_diverged", 0),
        "run_seconds": page.provenance.get("run_seconds") or 0.0,
        "seeds": page.seeds,
        "hardware": hardware(page.provenance),
        "dirty": bool(page.provenance.get("dirty")),
        "agreement": str(page.agreement) if page.agreement else None,
        "verdicts": page.verdicts,
        "headline": page.headline,
        "lengths": lengths_of(study),
        "floors": floors_of(study),
        "redrawn": redrawn_of(study),
        "claims": page.claims,
        "tables": sorted(a for a in {*page.copies, *page.tables} if a.count("/") == 2 and a.endswith(".csv")),
    }  # fmt: skip


def _one_noise(study: Study, copies: Mapping[str, Path]) -> Picture | None:
    said = content(study.made.one_noise)
    return picture(f"figures/{study.label}/one-noise", said["alt"], said["caption"], copies) if said else None


OF_A_COPY = {"releases": "version", "sources": "files"}
"""What of the provenance stands for a commit where there is none, and how it is called."""


def _other_seeds(study: Study) -> list[str]:
    """Of experiments with seeds of their own, how many."""
    return [
        f"{name}: {len(study.seeds_of(name))} of its own"
        for name, e in study.experiments.items()
        if e.seeds is not None
    ]


def _in_short(study: Study, provenance: Mapping[str, Any], there: int) -> list[tuple[str, str]]:
    known = [f"{key} {', '.join(filter(None, provenance.get(name, [])))}" for name, key in OF_A_COPY.items()]
    copy = f"unknown (made outside a git checkout: {', '.join(known)})"
    commits = [str(c)[:12] if c else copy for c in provenance.get("commits", [])]
    numbers = ", ".join(map(str, study.seeds))
    numbers = numbers if len(study.seeds) > 1 else f"one, number {numbers}"  # a lone 0 would read as none
    seeds = "; ".join([numbers, *_other_seeds(study)])
    runs = f"{there} of {len(study.runs())}"
    lines = [("Budget", study.budget), ("Seeds", seeds), ("Runs", runs)]
    if not provenance.get("runs"):
        return lines
    return [
        ("Commit", ", ".join(commits)),
        *lines,
        ("Diverged", str(provenance.get("runs_diverged", 0))),
        ("Wall-clock, all runs", duration(provenance.get("run_seconds") or 0.0)),
        ("Hardware", hardware(provenance)),
        ("Made", " to ".join(dict.fromkeys(str(provenance.get(k, ""))[:10] for k in ("first", "last")))),
    ]


def hardware(provenance: Mapping[str, Any]) -> str:
    """Processor, cores and device, as far as the runs recorded them."""
    processors = " / ".join(str(p) for p in provenance.get("processor", []) if p)
    cores = " / ".join(f"{c} cores" for c in provenance.get("cores", []) if c)
    devices = " / ".join(str(d).upper() for d in provenance.get("device", []) if d)
    cuda = " / ".join(f"CUDA {c}" for c in provenance.get("cuda", []) if c)
    return ", ".join(part for part in (processors, cores, f"device {devices}" if devices else "", cuda) if part)


def _glossary(study: Study, known: Quantities) -> list[tuple[str, str, str]]:
    paths = [study.made.runs, study.made.curves]
    measured = {metric for path in paths if path.is_file() for metric in read_table(path).metric}
    measured |= {experiment.metric for experiment in study.experiments.values()}
    return [
        (name, label(name, known), f"{meaning(name, known)}.") for name in (*known, *COSTS, *CURVES) if name in measured
    ]


def _commands(study: Study) -> list[str]:
    budget = [] if study.budget == DEFAULT_BUDGET else ["--budget", study.budget]
    return [study.command(), to_step("report", "--study", study.said, *budget)]


def _copies(study: Study) -> dict[str, Path]:
    """Address -> file, of those that exist."""
    made, tables, figures = study.made, f"tables/{study.label}", f"figures/{study.label}"
    wanted = {f"{tables}/{path.name}": path for path in (made.origin, made.verdicts)}
    wanted |= {f"{tables}/all-{path.name}": path for path in (made.runs, made.curves)}
    wanted |= {f"{figures}/{path.name}": path for path in forms(made.one_noise)}
    for data in study.data:
        wanted[f"{tables}/data-{data}.json"] = made.facts(data)
    for name in study.experiments:
        files = made.experiment(name)
        wanted |= {f"{figures}/{name}-{path.name}": path for path in (*forms(files.figure), *forms(files.pictures))}
        wanted |= {f"{tables}/{name}-{path.name}": path for path in (files.runs, files.curves)}
    return {address: path for address, path in wanted.items() if path.is_file()}


# --- beside the published numbers -----------------------------------------------------------------


def _published(study: Study, provenance: Mapping[str, Any]) -> tuple[pd.DataFrame | None, str]:
    """(published runs that can be compared, what to say of them)."""
    path, origin = study.published.runs, content(study.published.origin)
    if not path.is_file() or not origin:
        return None, "Nothing is published for this study, so nothing stands beside these numbers."
    if origin.get("budget") != study.budget:
        return None, (
            f"The published results were made under the budget “{origin.get('budget')}”, these under “{study.budget}”; "
            "they are not compared."
        )
    changed = _changed(provenance.get("settings") or {}, origin.get("settings") or {})
    note = AGREEMENT_NOTE
    if changed:
        note += f" Arms whose settings are not the published ones are not compared: {', '.join(changed)}."
    ours, theirs = provenance.get("fingerprints", {}), origin.get("fingerprints", {})
    if any(ours[run] != theirs[run] for run in ours if run in theirs and run.split("/")[0] not in changed):
        note += " The published runs were made by another state of the code."
    table = read_table(path).reindex(columns=COLUMNS)  # an older table lacks the newest columns
    return table[~table.arm.isin(changed)], note


def _changed(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """Arms of both whose own settings, size, data or evaluation differ."""

    def settings(study: Mapping[str, Any], name: str) -> tuple[Any, ...]:
        arm = study["arms"][name]
        return arm, study["sizes"][arm["size"]], study["data"][arm["data"]], study["evaluation"], study["sigma_d"]

    shared = [name for name in ours.get("arms", {}) if name in theirs.get("arms", {})]
    return [name for name in shared if settings(ours, name) != settings(theirs, name)]


def _agreement(tables: Iterable[pd.DataFrame]) -> Agreement | None:
    """Over all experiments; a mean that several of them show counts once."""
    keys = ["arm", *SAMPLING, "metric"]
    rows = [row for table in tables for row in table[[*keys, "agrees"]].to_dict("records")]
    verdicts = list({str([r[key] for key in keys]): verdict_cell(r["agrees"]).text for r in rows}.values())
    found = Agreement(verdicts.count("yes"), verdicts.count("no"))
    return found if found.yes + found.no else None
