"""The page of an experiment: figure, tables, pictures, curves, costs, and the claims that rest on it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from trigbench.core.noise_left import COLLAPSED
from trigbench.workflow.claims.tables import compared, read_table
from trigbench.workflow.claims.verdict_records import read_verdicts
from trigbench.workflow.report import edited, paths
from trigbench.workflow.report.beside import left_to_see
from trigbench.workflow.report.films import Shown
from trigbench.workflow.report.kinds import AT_BEST, kind_of
from trigbench.workflow.report.pages.charts import Chart, main_chart, other_charts
from trigbench.workflow.report.pages.common import (
    DASH,
    SYMBOLS,
    Badge,
    Cell,
    Picture,
    Table,
    arm_cell,
    content,
    label,
    mean_cell,
    number_cell,
    picture,
    sentences,
    shown,
)
from trigbench.workflow.report.pages.costs import costs_shown
from trigbench.workflow.report.pages.gaps import Missing, is_done
from trigbench.workflow.report.pages.outside import outside_of
from trigbench.workflow.report.sounds import Heard
from trigbench.workflow.report.words import NOTHING
from trigbench.workflow.study.kinds import data_kind, known_of
from trigbench.workflow.study.quantities import QUANTITIES, Quantities
from trigbench.workflow.study.records import REAL, read_record
from trigbench.workflow.study.study import Run, Study


@dataclass(frozen=True)
class Decided:
    """A claim that rests on the experiment."""

    claim: str
    says: str
    place: str
    badge: Badge


@dataclass(frozen=True)
class ExperimentPage:
    """One figure of the study with all that belongs to it; addresses are relative to the reports folder."""

    study: str
    name: str
    title: str
    paper: str
    question: str
    expectation: str
    finding: list[str]
    """Sentence by sentence."""
    diverged: list[str]
    collapsed: list[str]
    """Runs whose students leave the noise that comes in, by arm."""
    figure: Picture | None
    chart: Chart | None
    charts: dict[str, Chart]
    """Of its other curves, by metric."""
    pictures: Picture | None
    main: Table | None
    others: Table | None
    costs: Table | None
    notes: list[str]
    other_notes: list[str]
    downloads: list[tuple[str, str]]
    missing: Missing | None
    claims: list[Decided]
    arms: list[str]
    seeds: list[int]
    command: str
    """What makes it."""
    outside: Table | None = None
    """What was trained elsewhere, in the experiment's metric."""
    sounds: Heard | None = None
    """Samples of the first seed."""
    films: Shown | None = None
    """The same, where they move."""

    @property
    def address(self) -> str:
        return f"{self.study}/{self.name}.html"

    @property
    def counts(self) -> list[tuple[Badge, int]]:
        """How many of its claims got each verdict."""
        verdicts = [claim.badge.verdict for claim in self.claims]
        return [(Badge(verdict, self.study), count) for verdict in SYMBOLS if (count := verdicts.count(verdict))]


def experiment_page(
    study: Study,
    name: str,
    published: pd.DataFrame | None,
    costs: pd.DataFrame | None,
    lacking: list[Missing],
    copies: Mapping[str, Path],
    tables: dict[str, pd.DataFrame],
    known: Quantities = QUANTITIES,
) -> ExperimentPage:
    """The page of one experiment, from whatever it has; its tables join those that are to be written."""
    settings, files = study.experiments[name], study.made.experiment(name)
    runs, curves = (_table(path) for path in (files.runs, files.curves))
    some = bool(len(runs)) and bool((runs.objective != REAL).any())
    theirs = None if published is None else published[published.experiment == name]
    table = compared(runs, theirs, known) if some else pd.DataFrame()
    finding = content(files.finding) if some else {}
    is_main = table.metric == settings.metric if len(table) else pd.Series(dtype=bool)
    main = _means(f"{name}-means", _caption(settings.metric, known), table[is_main], known) if is_main.any() else None
    rest = table[~is_main] if len(table) else table
    others = _means(f"{name}-others", "Other metrics of the same runs", rest, known, True) if len(rest) else None
    own = None if costs is None or not some else costs[costs.arm.isin(study.arms_of(name))]
    shown_runs, shown_curves = kind_of(settings.figure).shown(settings, runs, curves, known) if some else (runs, curves)
    at_best = len(shown_runs) + len(shown_curves) < len(runs) + len(curves)
    chart = main_chart(name, settings, shown_runs, shown_curves, known) if some else None
    return ExperimentPage(
        study=study.label, name=name, title=settings.title, paper=settings.paper, question=settings.question.strip(),
        expectation=settings.expectation.strip(), finding=sentences(str(finding.get("finding") or NOTHING)),
        diverged=_diverged_runs(study, runs) if some else [], collapsed=collapsed_arms(runs) if some else [],
        figure=_figure(study, name, copies, at_best, known) if some else None,
        chart=chart, charts=other_charts(name, settings, shown_curves, known) if len(curves) else {},
        pictures=_pictures(study, name, copies) if some else None,
        main=main, others=others, costs=None if own is None or not len(own) else costs_shown(own),
        downloads=_downloads(study, name, table, own, copies, tables) if some else [],
        notes=_notes(study, runs, main is not None, settings.metric) if some else [],
        other_notes=_notes(study, runs, True, *rest.metric.unique()) if len(rest) else [],
        missing=next((m for m in lacking if m.experiment == name), None),
        claims=_claims(study, name), arms=study.arms_of(name), seeds=list(study.seeds_of(name)),
        command=study.command(name), outside=outside_of(study, name), sounds=_sounds(study, name) if some else None,
        films=_films(study, name) if some else None,
    )  # fmt: skip


def _table(path: Path) -> pd.DataFrame:
    return read_table(path) if path.is_file() else pd.DataFrame()


def _claims(study: Study, name: str) -> list[Decided]:
    found = [verdict for verdict in read_verdicts(study.made.details) if verdict.experiment == name]
    return [Decided(v.claim, v.says, f"{v.paper}, {v.place}", Badge(v.verdict, study.label)) for v in found]


def _downloads(
    study: Study,
    name: str,
    table: pd.DataFrame,
    costs: pd.DataFrame | None,
    copies: Mapping[str, Path],
    tables: dict[str, pd.DataFrame],
) -> list[tuple[str, str]]:
    stem = f"tables/{study.label}/{name}"
    made = {"table": (table, "means (CSV)"), "costs": (costs, "costs (CSV)")}
    found = []
    for kind, (frame, text) in made.items():
        if frame is not None and len(frame):
            tables[f"{stem}-{kind}.csv"] = frame
            found.append((f"{stem}-{kind}.csv", text))
    for kind, text in (("runs", "every run (CSV)"), ("curves", "curves (CSV)")):
        found += [(f"{stem}-{kind}.csv", text)] if f"{stem}-{kind}.csv" in copies else []
    return found


def _diverged_runs(study: Study, runs: pd.DataFrame) -> list[str]:
    """Each with its reason, where its record is still there."""
    found = runs[runs.status == "diverged"][["arm", "seed"]].drop_duplicates()
    named = []
    for arm, seed in zip(found.arm, found.seed, strict=True):
        path = study.files(Run(arm=arm, seed=int(seed))).metrics
        reason = read_record(path).reason if path.is_file() else None
        named.append(f"{arm} seed {seed:.0f}" + (f" ({reason})" if reason else ""))
    return named


def collapsed_arms(runs: pd.DataFrame) -> list[str]:
    """Each with its seeds, and how far at most (1 is a dead map), of those that finished."""
    found = runs[(runs.metric == "collapse") & (runs.status == "finished") & (runs.value >= COLLAPSED)]
    named = []
    for arm, rows in found.drop_duplicates(["arm", "seed"]).groupby("arm", sort=False):
        seeds = ", ".join(f"{seed:.0f}" for seed in sorted(rows.seed))
        named.append(f"{arm} seed{'s' if len(rows) > 1 else ''} {seeds} (up to {rows.value.max():.2f})")
    return named


# --- tables ---------------------------------------------------------------------------------------


def _caption(metric: str, known: Quantities) -> str:
    better = known[metric].better
    side = "" if better == "neither" else f" ({better} is better)"
    return f"{label(metric, known)}{side}: mean and 95% t interval over seeds"


SETTINGS = {"steps": "Steps", "sampler": "Sampler", "guidance": "Guidance", "mid_time": "Middle angle"}
"""Columns that tell the samplings of an arm apart; those that do not vary are left out."""
SETTINGS_BESIDE = {"sampling": "Name of the sampler", "times": "All middle angles"}
"""Where the others do not."""
TEXTS = ("sampler", "sampling", "times")


def _means(name: str, caption: str, table: pd.DataFrame, known: Quantities, with_metric: bool = False) -> Table:
    """The summary as a table; columns that would be empty, or say the same of all, are left out."""
    made = table[table.arm != REAL]
    varying = [c for c in SETTINGS if c in made and (made[c].nunique() > 1 or (c == "steps" and made[c].notna().any()))]
    for more in SETTINGS_BESIDE:  # where these do not tell all rows apart
        if made.duplicated(["arm", "metric", *varying]).any() and made[more].nunique() > 1:
            varying.append(more)
    with_published = bool(made.published.notna().any())
    columns = [("Metric", False)] if with_metric else []
    columns += [("Arm", False), *(((SETTINGS | SETTINGS_BESIDE)[c], c not in TEXTS) for c in varying)]
    columns += [("Mean", True), ("95% interval", True), ("Seeds", True), ("Diverged", True)]
    columns += [("Published", True), ("Agrees", False)] if with_published else []
    rows = []
    for row in table.to_dict("records"):
        cells = [Cell(label(row["metric"], known))] if with_metric else []
        arm = arm_cell(row["arm"], row["objective"])
        several = row["arm"] == REAL and table[table.arm == REAL].data.nunique() > 1
        cells += [replace(arm, text=f"{arm.text}, {row['data']}") if several else arm]
        cells += [_setting(row[c]) for c in varying]
        cells += [mean_cell(row["mean"]), _span(row), number_cell(row["seeds"], ".0f"), _diverged(row)]
        cells += [mean_cell(row["published"]), verdict_cell(row["agrees"])] if with_published else []
        rows.append(cells)
    return Table(name, caption, columns, rows, header=1 if with_metric else 0)


def _setting(value: Any) -> Cell:
    if isinstance(value, str):
        return Cell(value)
    return number_cell(value, "g")


def _span(row: Mapping[str, Any]) -> Cell:
    low, high = float(row["low"]), float(row["high"])
    if math.isnan(low):
        return Cell(DASH, math.nan)
    return Cell(f"[{shown(low)}, {shown(high)}]", high - low)


def _diverged(row: Mapping[str, Any]) -> Cell:
    count = int(row["diverged"])
    return Cell(f"{count} of {int(row['seeds'])}" if count else "0", count, mark="warning" if count else "")


def verdict_cell(agrees: object) -> Cell:
    """Whether a mean agrees with the published one; a dash where that cannot be said."""
    if agrees is None or pd.isna(agrees):  # pyright: ignore[reportArgumentType, reportCallIssue]
        return Cell(DASH)
    return Cell("yes", mark="yes") if agrees else Cell("no", mark="no")


def _noise(study: Study) -> str:
    """What samples start from."""
    own = " plus the training seed" if study.evaluation.noise else ", the noise of all runs"
    return f"sampling seed {study.evaluation.seed}{own}"


def _notes(study: Study, runs: pd.DataFrame, has_main: bool, *metrics: str) -> list[str]:
    """What the numbers of these metrics cannot be read without."""
    notes = [] if has_main else ["The figure rests on a curve, which has no single number; its points are in the CSV."]
    facts = content(study.made.facts(str(runs.data.dropna().iloc[0]))).get("facts", {})
    if {"fd_train", "fd_held_out", "kid_train"} & set(metrics):
        seeds = ", ".join(f"{seed:.0f}" for seed in sorted(runs.seed.dropna().unique()))
        protocol = facts.get("protocol", {})
        reference = protocol.get("reference", f"the training part (n = {facts.get('train', '?')})")
        features = "the features of " + protocol.get("extractor", "a classifier trained on the training part")
        resizing = {"resize": "images resized", "extractor_resize": "for the features"}
        resized = "".join(f"{what}: {protocol[key]}; " for key, what in resizing.items() if key in protocol)
        labelled = f" (labels {protocol['labels']})" if "labels" in protocol else ""
        published = not protocol.get("extractor", "classifier").startswith(("classifier", "random"))
        compared_with = "" if published else " and compare with no number of a paper"
        notes.append(
            f"Fréchet and kernel distances: n = {study.evaluation.samples} samples of each run{labelled}, "
            f"against {reference} or, for the held-out metric, the held-out part "
            f"(n = {facts.get('held_out', '?')}), in {features}; "
            f"{resized}training seeds {seeds}, {_noise(study)}. "
            f"They depend on n and on the features{compared_with}. "
            f"Real data: the held-out part (n = {facts.get('held_out', '?')}) against the training part."
        )
    if "sliced_wasserstein" in metrics:
        notes.append(
            f"Sliced Wasserstein distance: n = {study.evaluation.samples} samples against as many fresh data points, "
            f"{_noise(study)}. "
            "Real data: another draw of fresh data, the best that samples can reach."
        )
    return notes


# --- pictures -------------------------------------------------------------------------------------


def _figure(study: Study, name: str, copies: Mapping[str, Path], at_best: bool, known: Quantities) -> Picture | None:
    settings = study.experiments[name]
    text = label(settings.metric, known)
    caption = kind_of(settings.figure).captioned(text)
    caption += f" {AT_BEST} The table has every scale." if at_best else ""
    alt = f"Chart, {settings.title}: {text}. Its finding and its numbers stand beside it as text and table."
    return picture(f"figures/{study.label}/{name}-figure", alt, caption, copies)


def _sounds(study: Study, name: str) -> Heard | None:
    found = content(study.made.experiment(name).sounds)
    return Heard.of(found) if found else None


def _films(study: Study, name: str) -> Shown | None:
    found = content(study.made.experiment(name).films)
    return Shown.of(found) if found else None


def _pictures(study: Study, name: str, copies: Mapping[str, Path]) -> Picture | None:
    """Samples of the first seed; None where the data cannot be seen or nothing was drawn."""
    seed = study.seeds_of(name)[0]
    runs = [Run(arm=arm, seed=seed) for arm in study.arms_of(name)]
    first = [run for run in runs if is_done(study, run)]
    data = study.data[study.arms[study.arms_of(name)[0]].data]
    names = ", ".join(run.arm for run in first)
    if left_to_see(study, name, "paths"):
        caption = f"{paths.CAPTION} Seed {seed}, chosen beforehand, noises not selected."
        return picture(f"figures/{study.label}/{name}-pictures", f"Paths of {names}.", caption, copies)
    if not first or not known_of(data).seen:
        return None
    if left_to_see(study, name, "strips"):
        caption = f"{edited.CAPTION} Seed {seed}, chosen beforehand, images and noises not selected."
        alt = f"Held-out images, what is seen of them, and edits by {names}."
        return picture(f"figures/{study.label}/{name}-pictures", alt, caption, copies)
    if data_kind(data).images is not None:
        caption = "In each column, every method starts from the same noise and label; the first row is training images"
    else:
        caption = "Every method starts from the same noise; fresh data in grey"
    caption += f". Seed {seed}, chosen beforehand, samples not selected."
    alt = f"Samples from the same noise by {names}."
    return picture(f"figures/{study.label}/{name}-pictures", alt, caption, copies)
