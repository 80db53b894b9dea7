"""What stands on the pages of the report: results on disk -> plain values for the templates.

Nothing is computed here that the tables do not hold; missing files leave a gap on the page, never an error.
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import jinja2
import pandas as pd
import yaml

from workflow.reading import STUDIES
from workflow.report.findings import NOTHING
from workflow.report.style import colour
from workflow.report.tables import COSTS, compared, finished_runs, read_table
from workflow.runtime.files import read_json
from workflow.runtime.quantities import QUANTITIES
from workflow.schema import DigitsData, MixtureData
from workflow.study import DEFAULT_BUDGET, Run, Study

TEMPLATES = Path(__file__).parent / "templates"
ASSETS = Path(__file__).parent / "assets"
AGAIN = "delete it; the workflow makes it again"
DASH = "–"
REAL = "data"
"""The arm of runs.csv that stands for real data judged as if they were samples."""

CURVES = {
    "training_direction_norm": (
        "norm of the direction",
        "before any control, mean over the batch; a curve along training",
    ),
}
"""(label, meaning) of metrics that experiments rest on but that are curves, hence in no table of means."""

SEEDS_SHOWN = "Lines and points are means over seeds, bars and bands span the seeds"
CAPTIONS = {
    "discretisation": "{label} against the number of intervals N of the discrete objective. {seeds}; methods without N "
    "are horizontal lines. A cross at the upper edge is a diverged run.",
    "map_error": "RMS error of the learned map at angle t, from data (0) to pure noise (π/2). {seeds}.",
    "training": "Norm of the direction before any control, mean over the batch, along training. {seeds}.",
    "methods": "{label} by arm and number of steps, every seed a point; precision and recall beside it where measured. "
    "The dashed line is real data judged as if they were samples.",
    "sizes": "Left: {label} against the number of parameters. Right: the ratio of each student to its own teacher, of "
    "the same size and seed. {seeds}.",
    "memorisation": "Mean distance of samples to the nearest training and to the nearest held-out image, every seed a "
    "point. The dashed line is the distance of held-out images to their nearest training image.",
}
"""By kind of figure."""

FACTS = {
    "train": "images in the training part",
    "held_out": "images in the held-out part",
    "classifier_accuracy_held_out": "accuracy of the feature classifier on the held-out part",
    "exact_map_error": "error of the exact map, against a finer integration",
    "component_std": "standard deviation of a component, after standardisation",
}
PRECISION_NOTE = (
    "Precision (fp32, fp16, bf16) is that of the student's network in training, by torch.autocast: its linear maps, "
    "forward, in the JVP of sCD and sCT, and backward, without loss scaling. Time embedding and modulation, the "
    "norms' reductions, the objective's arithmetic, the exact teacher, Adam, the average, sampling and evaluation are "
    "float32. Angles are drawn and subtracted in float64 and reach the network as float32. The adaptive weight is "
    "off in this study."
)
AGREEMENT_NOTE = (
    "“Published” is the mean of the results committed with the code, made under the same budget. The two agree when "
    "Welch's 95% interval of the difference of the means holds zero; where nothing differs, about one comparison in "
    "twenty says “no” by chance. A dash: either side has fewer than two seeds, or a seed diverged, or nothing is "
    "published for it."
)


# --- what the templates see -----------------------------------------------------------------------


@dataclass(frozen=True)
class Cell:
    """One entry of a table; `sort` is what sorting compares (a number, or the text itself when None)."""

    text: str
    sort: float | None = None
    mark: Literal["", "yes", "no", "warning"] = ""
    dot: str | None = None
    """Colour of the method, as in the figures."""

    @property
    def key(self) -> str | None:
        """`sort` as JavaScript reads it; empty for NaN, which sorts last."""
        if self.sort is None:
            return None
        return "" if math.isnan(self.sort) else str(self.sort).replace("inf", "Infinity")


@dataclass(frozen=True)
class Table:
    """Columns (name, is a number) and rows; the row's header stands in column `header`."""

    name: str
    caption: str
    columns: list[tuple[str, bool]]
    rows: list[list[Cell]]
    header: int = 0


@dataclass(frozen=True)
class Picture:
    """An image beside the page, with links to its files."""

    svg: str | None
    png: str | None
    alt: str
    caption: str

    @property
    def source(self) -> str | None:
        return self.svg or self.png


@dataclass(frozen=True)
class Gap:
    """Runs of one arm that are not there."""

    arm: str
    seeds: list[int]


@dataclass(frozen=True)
class Missing:
    """What an experiment lacks, and the command that makes it."""

    title: str
    anchor: str | None
    gaps: list[Gap]
    runs: int
    total: int
    command: str


@dataclass(frozen=True)
class Agreement:
    """How many means agree with the published ones, of those that can be compared."""

    yes: int
    no: int

    def __str__(self) -> str:
        return f"{self.yes} of {self.yes + self.no}"


@dataclass(frozen=True)
class ExperimentSection:
    """One figure of the study with all that belongs to it."""

    name: str
    title: str
    paper: str
    question: str
    expectation: str
    finding: list[str]
    """Sentence by sentence."""
    diverged: list[str]
    figure: Picture | None
    pictures: Picture | None
    main: Table | None
    others: Table | None
    notes: list[str]
    other_notes: list[str]
    downloads: list[tuple[str, str]]
    missing: Missing | None


@dataclass(frozen=True)
class DataSection:
    """A data set: what it is, and how far real data are from real data."""

    name: str
    description: str
    facts: list[tuple[str, str]]
    floors: Table | None
    download: str


@dataclass(frozen=True)
class StudyPage:
    """Everything on the page of one study."""

    label: str
    title: str
    summary: str
    experiments: list[ExperimentSection]
    data: list[DataSection]
    missing: list[Missing]
    runs: int
    runs_total: int
    provenance: Mapping[str, Any]
    in_short: list[tuple[str, str]]
    """Terms and descriptions of the provenance in short."""
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
    copies: dict[str, Path] = field(default_factory=dict)
    """Files that the page links: address relative to the page -> where it is copied from."""
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    """Tables that the page links: address relative to the page -> content."""


# --- the study ------------------------------------------------------------------------------------


def study_page(study: Study) -> StudyPage:
    """The page of a study, from whatever results exist."""
    copies, tables = _copies(study), {}
    provenance = _json(study.folder / "provenance.json")
    published, published_note = _published(study, provenance)
    sections = [_experiment(study, name, published, copies, tables) for name in study.experiments]
    costs, costs_download = cost_table(study), f"tables/{study.label}/costs.csv"
    if costs is not None:
        tables[costs_download] = costs
    there = [run for run in study.runs() if _done(study, run)]
    precisions = pd.Series([study.arms[arm].precision for arm in {run.arm: None for run in study.runs()}], dtype=object)
    counted = [(str(name), int(count)) for name, count in precisions.value_counts(sort=False).items()]
    return StudyPage(
        label=study.label, title=study.title, summary=study.summary.strip(), experiments=sections,
        data=[found for data in study.data if (found := _data(study, data))], missing=missing(study),
        runs=len(there), runs_total=len(study.runs()),
        provenance=provenance, in_short=_in_short(study, provenance, len(there)),
        costs=None if costs is None else _costs_shown(costs), costs_download=costs_download,
        precisions=counted if len(counted) > 1 else [], glossary=_glossary(study),
        published=published_note, agreement=_agreement(t for t in tables.values() if "agrees" in t),
        diverged=list(dict.fromkeys(run for section in sections for run in section.diverged)),
        settings=yaml.safe_dump(provenance.get("settings", {}), sort_keys=False, width=100, allow_unicode=True),
        commands=_commands(study), copies=copies, tables=tables,
    )  # fmt: skip


def index_entry(page: StudyPage) -> dict[str, Any]:
    """What the index says of a study; plain data, kept beside the page."""
    return {
        "label": page.label,
        "title": page.title,
        "summary": page.summary,
        "findings": [{"title": s.title, "anchor": s.name, "finding": " ".join(s.finding)} for s in page.experiments],
        "runs": page.runs,
        "runs_missing": page.runs_total - page.runs,
        "runs_diverged": page.provenance.get("runs_diverged", 0),
        "wall_clock": duration(page.provenance.get("run_seconds") or 0.0),
        "dirty": bool(page.provenance.get("dirty")),
        "agreement": str(page.agreement) if page.agreement else None,
    }


def missing(study: Study) -> list[Missing]:
    """By experiment, the arms and seeds that have no result; teachers that no experiment shows come last."""
    found, listed = [], set()
    for name, experiment in study.experiments.items():
        there, absent = finished_runs(study, name)
        listed |= {*there, *absent}
        if absent:
            total = len(there) + len(absent)
            command = f"snakemake {study.label}/{name}"
            found.append(Missing(experiment.title, name, _gaps(absent), len(absent), total, command))
    teachers = [run for run in study.runs() if run not in listed]
    absent = [run for run in teachers if not _done(study, run)]
    if absent:
        command = f"snakemake {study.label}"
        found.append(Missing("Teachers of several arms", None, _gaps(absent), len(absent), len(teachers), command))
    return found


def cost_table(study: Study) -> pd.DataFrame | None:
    """One row per arm: means over seeds of seconds and memory, and the number of parameters."""
    path = study.folder / "runs.csv"
    runs = read_table(path) if path.is_file() else pd.DataFrame()
    if not len(runs):
        return None
    costs = runs[runs.metric.isin(COSTS)].drop_duplicates(["arm", "seed", "metric"])
    if not len(costs):
        return None
    means = costs.pivot_table(index=["arm", "objective"], columns="metric", values="value", sort=False)
    others = costs.groupby(["arm", "objective"], sort=False).agg(
        parameters=("parameters", "max"), seeds=("seed", "nunique")
    )
    order = {arm: rank for rank, arm in enumerate(study.arms)}
    table = means.reindex(columns=list(COSTS)).join(others).reset_index()
    return table.sort_values("arm", key=lambda arms: arms.map(order), kind="stable", ignore_index=True)


def _costs_shown(costs: pd.DataFrame) -> Table:
    names = ["Training, s", "Total, s", "Peak memory, MB", "Parameters", "Seeds"]
    rows = []
    for row in costs.itertuples():
        values = [(row.train_seconds, ".1f"), (row.total_seconds, ".1f"), (row.peak_memory_mb, ",.0f")]
        values += [(row.parameters, ",.0f"), (row.seeds, ".0f")]
        rows.append([_arm(str(row.arm), str(row.objective)), *(_plain_number(v, form) for v, form in values)])
    caption = "Cost of each arm: means over seeds of wall-clock seconds and of the process's largest resident memory"
    return Table("costs", caption, [("Arm", False), *((name, True) for name in names)], rows)


def _in_short(study: Study, provenance: Mapping[str, Any], there: int) -> list[tuple[str, str]]:
    commits = [str(c)[:12] if c else "unknown (made outside a git checkout)" for c in provenance.get("commits", [])]
    seeds = ", ".join(map(str, study.seeds))
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


def _published(study: Study, provenance: Mapping[str, Any]) -> tuple[pd.DataFrame | None, str]:
    """(published runs that can be compared, what to say of them)."""
    path, origin = study.published / "runs.csv", _json(study.published / "provenance.json")
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
    table = read_table(path)
    return table[~table.arm.isin(changed)], note


def _changed(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """Arms of both whose own settings, size, data or evaluation differ."""

    def settings(study: Mapping[str, Any], name: str) -> tuple[Any, ...]:
        arm = study["arms"][name]
        return arm, study["sizes"][arm["size"]], study["data"][arm["data"]], study["evaluation"], study["sigma_d"]

    shared = [name for name in ours.get("arms", {}) if name in theirs.get("arms", {})]
    return [name for name in shared if settings(ours, name) != settings(theirs, name)]


def _glossary(study: Study) -> list[tuple[str, str, str]]:
    path = study.folder / "runs.csv"
    measured = set(read_table(path).metric) if path.is_file() else set()
    measured |= {experiment.metric for experiment in study.experiments.values()}
    meanings = {
        name: q.meaning if q.better == "neither" else f"{q.meaning}; {q.better} is better"
        for name, q in QUANTITIES.items()
    }
    meanings |= {name: meaning for name, (_, meaning) in CURVES.items()}
    return [(name, _label(name), f"{text}.") for name, text in meanings.items() if name in measured]


def _commands(study: Study) -> list[str]:
    name = study.study if study.file.parent == STUDIES else str(study.file)
    budget = "" if study.budget == DEFAULT_BUDGET else f" --budget {study.budget}"
    return [f"snakemake {study.label}", f"python -m workflow.steps.report --study {name}{budget}"]


def _copies(study: Study) -> dict[str, Path]:
    """Address relative to the page -> file, of those that exist."""
    wanted = {f"tables/{study.label}/provenance.json": study.folder / "provenance.json"}
    for data in study.data:
        wanted[f"tables/{study.label}/data-{data}.json"] = study.data_file(data).with_suffix(".json")
    for name in study.experiments:
        folder = study.experiment_folder(name)
        for stem in ("figure", "pictures"):
            for suffix in ("svg", "png"):
                wanted[f"figures/{study.label}/{name}-{stem}.{suffix}"] = folder / f"{stem}.{suffix}"
        for table in ("runs", "curves"):
            wanted[f"tables/{study.label}/{name}-{table}.csv"] = folder / f"{table}.csv"
    return {address: path for address, path in wanted.items() if path.is_file()}


# --- one experiment -------------------------------------------------------------------------------


def _experiment(
    study: Study, name: str, published: pd.DataFrame | None, copies: Mapping[str, Path], tables: dict[str, pd.DataFrame]
) -> ExperimentSection:
    settings, folder = study.experiments[name], study.experiment_folder(name)
    path = folder / "runs.csv"
    runs = read_table(path) if path.is_file() else pd.DataFrame()
    some = bool(len(runs)) and bool((runs.objective != REAL).any())
    theirs = None if published is None else published[published.experiment == name]
    table = compared(runs, theirs) if some else pd.DataFrame()
    downloads = [(f"tables/{study.label}/{name}-table.csv", "means (CSV)")] if len(table) else []
    if len(table):
        tables[downloads[0][0]] = table
    for kind, text in (("runs", "every run (CSV)"), ("curves", "curves (CSV)")):
        address = f"tables/{study.label}/{name}-{kind}.csv"
        downloads += [(address, text)] if address in copies and some else []
    finding = _json(folder / "finding.json") if some else {}
    is_main = table.metric == settings.metric if len(table) else pd.Series(dtype=bool)
    main = _means(f"{name}-means", _caption(settings.metric), table[is_main]) if is_main.any() else None
    rest = table[~is_main] if len(table) else table
    others = _means(f"{name}-others", "Other metrics of the same runs", rest, True) if len(rest) else None
    return ExperimentSection(
        name=name, title=settings.title, paper=settings.paper, question=settings.question.strip(),
        expectation=settings.expectation.strip(), finding=sentences(str(finding.get("finding") or NOTHING)),
        diverged=_diverged_runs(runs) if some else [],
        figure=_figure(study, name, copies) if some else None,
        pictures=_pictures(study, name, copies) if some else None,
        main=main, others=others, downloads=downloads,
        notes=_notes(study, runs, main is not None, settings.metric) if some else [],
        other_notes=_notes(study, runs, True, *rest.metric.unique()) if len(rest) else [],
        missing=next((m for m in missing(study) if m.anchor == name), None),
    )  # fmt: skip


def _diverged_runs(runs: pd.DataFrame) -> list[str]:
    found = runs[runs.status == "diverged"][["arm", "seed"]].drop_duplicates()
    return [f"{arm} seed {seed:.0f}" for arm, seed in zip(found.arm, found.seed, strict=True)]


def _caption(metric: str) -> str:
    better = QUANTITIES[metric].better
    side = "" if better == "neither" else f" ({better} is better)"
    return f"{_label(metric)}{side}: mean and 95% t interval over seeds"


def _means(name: str, caption: str, table: pd.DataFrame, with_metric: bool = False) -> Table:
    """The summary as a table; columns that would be empty are left out."""
    with_steps, with_published = bool(table.steps.notna().any()), bool(table.published[table.arm != REAL].notna().any())
    columns = [("Metric", False)] if with_metric else []
    columns += [("Arm", False)] + ([("Steps", True)] if with_steps else [])
    columns += [("Mean", True), ("95% interval", True), ("Seeds", True), ("Diverged", True)]
    columns += [("Published", True), ("Agrees", False)] if with_published else []
    rows = []
    for row in table.to_dict("records"):
        cells = [Cell(_label(row["metric"]))] if with_metric else []
        cells += [_arm(row["arm"], row["objective"])] + ([_plain_number(row["steps"], ".0f")] if with_steps else [])
        cells += [_mean(row["mean"]), _span(row), _plain_number(row["seeds"], ".0f"), _diverged(row)]
        cells += [_mean(row["published"]), _verdict(row["agrees"])] if with_published else []
        rows.append(cells)
    return Table(name, caption, columns, rows, header=1 if with_metric else 0)


def _arm(arm: str, objective: str) -> Cell:
    return Cell("real data" if arm == REAL else arm, dot=colour(objective))


def _mean(value: float | None) -> Cell:
    number = math.nan if value is None or pd.isna(value) else float(value)
    return Cell(shown(number), number, mark="warning" if math.isinf(number) else "")


def _span(row: Mapping[str, Any]) -> Cell:
    low, high = float(row["low"]), float(row["high"])
    if math.isnan(low):
        return Cell(DASH, math.nan)
    return Cell(f"[{shown(low)}, {shown(high)}]", high - low)


def _diverged(row: Mapping[str, Any]) -> Cell:
    count = int(row["diverged"])
    return Cell(f"{count} of {int(row['seeds'])}" if count else "0", count, mark="warning" if count else "")


def _verdict(agrees: object) -> Cell:
    if agrees is None or pd.isna(agrees):  # pyright: ignore[reportArgumentType, reportCallIssue]
        return Cell(DASH)
    return Cell("yes", mark="yes") if agrees else Cell("no", mark="no")


def _plain_number(value: float, form: str) -> Cell:
    return Cell(DASH, math.nan) if pd.isna(value) else Cell(format(value, form), float(value))


def _agreement(tables: Iterable[pd.DataFrame]) -> Agreement | None:
    """Over all experiments; a mean that several of them show counts once."""
    rows = [row for table in tables for row in table[["arm", "steps", "metric", "agrees"]].to_dict("records")]
    verdicts = list({(r["arm"], str(r["steps"]), r["metric"]): _verdict(r["agrees"]).text for r in rows}.values())
    found = Agreement(verdicts.count("yes"), verdicts.count("no"))
    return found if found.yes + found.no else None


def _notes(study: Study, runs: pd.DataFrame, has_main: bool, *metrics: str) -> list[str]:
    """What the numbers of these metrics cannot be read without."""
    notes = [] if has_main else ["The figure rests on a curve, which has no single number; its points are in the CSV."]
    data = str(runs.data.iloc[0])
    facts = _json(study.data_file(data).with_suffix(".json")).get("facts", {})
    if {"fd_train", "fd_held_out", "kid_train"} & set(metrics):
        seeds = ", ".join(f"{seed:.0f}" for seed in sorted(runs.seed.dropna().unique()))
        notes.append(
            f"Fréchet and kernel distances: n = {study.evaluation.samples} samples of each run, against the training "
            f"part (n = {facts.get('train', '?')}) or, for the held-out metric, the held-out part "
            f"(n = {facts.get('held_out', '?')}), in the features of a classifier trained on the training part; "
            f"seeds {seeds}. They depend on n and on the features and compare with no number of a paper. "
            f"Real data: the held-out part (n = {facts.get('held_out', '?')}) against the training part."
        )
    if "sliced_wasserstein" in metrics:
        notes.append(
            f"Sliced Wasserstein distance: n = {study.evaluation.samples} samples against as many fresh data points. "
            "Real data: another draw of fresh data, the best that samples can reach."
        )
    return notes


def _figure(study: Study, name: str, copies: Mapping[str, Path]) -> Picture | None:
    settings = study.experiments[name]
    label = _label(settings.metric)
    caption = CAPTIONS[settings.figure].format(label=label, seeds=SEEDS_SHOWN)
    alt = f"Chart, {settings.title}: {label}. Its finding and its numbers stand beside it as text and table."
    return _picture(f"figures/{study.label}/{name}-figure", alt, caption, copies)


def _pictures(study: Study, name: str, copies: Mapping[str, Path]) -> Picture | None:
    """Samples of the first seed; None where the data cannot be seen or nothing was drawn."""
    first = [run for run in finished_runs(study, name)[0] if run.seed == study.seeds[0]]
    data = study.data[study.arms[study.arms_of(name)[0]].data]
    if not first or (isinstance(data, MixtureData) and data.dimension != 2):
        return None
    names = ", ".join(run.arm for run in first)
    if isinstance(data, DigitsData):
        caption = "In each column, every method starts from the same noise and label; the first row is training images"
    else:
        caption = "Every method starts from the same noise; fresh data in grey"
    caption += f". Seed {study.seeds[0]}, chosen beforehand, samples not selected."
    alt = f"Samples from the same noise by {names}."
    return _picture(f"figures/{study.label}/{name}-pictures", alt, caption, copies)


def _picture(stem: str, alt: str, caption: str, copies: Mapping[str, Path]) -> Picture | None:
    svg, png = (f"{stem}.{suffix}" if f"{stem}.{suffix}" in copies else None for suffix in ("svg", "png"))
    return Picture(svg, png, alt, caption) if svg or png else None


# --- data -----------------------------------------------------------------------------------------


def _data(study: Study, data: str) -> DataSection | None:
    path = study.data_file(data).with_suffix(".json")
    found = _json(path)
    if not found:
        return None
    settings = study.data[data]
    if isinstance(settings, MixtureData):
        description = (
            f"A mixture of {settings.components} Gaussians in {settings.dimension} dimensions, of unit variance."
        )
        against = f"fresh data against fresh data, n = {study.evaluation.samples} each"
    else:
        description = "scikit-learn's digits: 8×8 grey images with labels."
        facts = found.get("facts", {})
        counts = f"n = {facts.get('held_out', '?')}, training part: n = {facts.get('train', '?')}"
        against = f"the held-out part judged as if it were samples ({counts})"
    facts = [(FACTS.get(key, key.replace("_", " ")), shown(value, 4)) for key, value in found.get("facts", {}).items()]
    rows = [[Cell(_label(v["metric"])), _mean(v["value"])] for v in found.get("floors", [])]
    caption = f"Floors: {against}"
    floors = Table(f"floors-{data}", caption, [("Metric", False), ("Real data", True)], rows) if rows else None
    return DataSection(data, description, facts, floors, f"tables/{study.label}/data-{data}.json")


# --- the index ------------------------------------------------------------------------------------


def index_entries(reports: Path) -> list[dict[str, Any]]:
    """What was left by the study pages that exist in that folder, by name."""
    found = [(page, _json(reports / "assets" / f"{page.stem}.json")) for page in sorted(reports.glob("*.html"))]
    return [entry for page, entry in found if entry.get("label") == page.stem]


def time_spent(timing: Path) -> Table | None:
    """Where the workflow's time went: a mapping of rule -> seconds, where one was written."""
    spent = {k: float(v) for k, v in _json(timing).items() if isinstance(v, int | float)}
    rows = [
        [Cell(name), Cell(duration(seconds), seconds)]
        for name, seconds in sorted(spent.items(), key=lambda item: -item[1])
    ]
    return Table("time", "Where the time went", [("Part", False), ("Wall-clock", True)], rows) if rows else None


# --- rendering ------------------------------------------------------------------------------------


def render(template: str, **context: Any) -> str:
    """The filled template; an unknown name in it is an error."""
    loader = jinja2.FileSystemLoader(TEMPLATES)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template(template).render(**context)


def shown(value: float, digits: int = 3) -> str:
    """A number as people read it; whole ones in full.

    >>> shown(0.02088), shown(1234.6), shown(float("inf")), shown(float("nan")), shown(1.1e-8)
    ('0.0209', '1,235', 'diverged', '–', '1.10e-08')
    """
    if isinstance(value, int):
        return f"{value:,}"
    if math.isnan(value):
        return DASH
    if math.isinf(value):
        return "diverged"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:#.{digits}g}".removesuffix(".")


def sentences(text: str) -> list[str]:
    """The text cut after every full stop that a space follows.

    >>> sentences("Best at N = 8 (0.02 [0.01, 0.03]). Worse elsewhere.")
    ['Best at N = 8 (0.02 [0.01, 0.03]).', 'Worse elsewhere.']
    """
    return [part for part in re.split(r"(?<=\.)\s+", text.strip()) if part]


def duration(seconds: float) -> str:
    """Wall-clock time in the two largest units.

    >>> duration(4.24), duration(65), duration(7300)
    ('4.2 s', '1 min 5 s', '2 h 1 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


# --- small things ---------------------------------------------------------------------------------


def _label(metric: str) -> str:
    """The metric's label, to begin a line with."""
    label = QUANTITIES[metric].label if metric in QUANTITIES else CURVES.get(metric, (metric.replace("_", " "),))[0]
    return _capital(label)


def _gaps(runs: Iterable[Run]) -> list[Gap]:
    seeds: dict[str, list[int]] = {}
    for run in runs:
        seeds.setdefault(run.arm, []).append(run.seed)
    return [Gap(arm, found) for arm, found in seeds.items()]


def _done(study: Study, run: Run) -> bool:
    return (study.run_folder(run) / "metrics.json").is_file()


def _json(path: Path) -> dict[str, Any]:
    """The file's content, or nothing where there is no file."""
    return read_json(path, AGAIN) if path.is_file() else {}


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
