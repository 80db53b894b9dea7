"""The interactive versions of figures: plain numbers for assets/report.js, the same as in the CSV beside them."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Literal

import pandas as pd

from trigbench.workflow.claims.statistics import over_seeds_along, per_seed
from trigbench.workflow.report.kinds import OfCurve, kind_of
from trigbench.workflow.report.pages.common import label, meaning
from trigbench.workflow.report.rows import Frame, lines, steps_label
from trigbench.workflow.report.style import ANGLE, AXES, STEP, colour
from trigbench.workflow.report.words import capital
from trigbench.workflow.study.experiment import Experiment
from trigbench.workflow.study.quantities import QUANTITIES, Quantities, along, is_signed
from trigbench.workflow.study.records import REAL

Dash = Literal["", "dashed", "dotted", "dashdot"]
DASHES: tuple[Dash, ...] = ("", "dashed", "dotted", "dashdot")
MOST = 8
"""So many lines can be told in words."""


@dataclass(frozen=True)
class Series:
    """One line, or one row of dots."""

    name: str
    colour: str
    dash: Dash
    points: list[list[float | int | None]]
    """Lines: x, mean, lowest and highest seed, seeds. Dots: value, steps, seed."""
    flat: bool = False
    """A method without x: its one value holds all along."""
    lost: list[float] = field(default_factory=list)
    """x (of dots: seeds) where a run diverged."""


@dataclass(frozen=True)
class Chart:
    """What the script draws."""

    name: str
    title: str
    kind: Literal["lines", "dots"]
    x: str
    y: str
    x_log: bool
    y_log: bool
    series: list[Series]
    words: str = ""
    """Its ends in a sentence, where few lines are no part of training."""


def main_chart(
    name: str, settings: Experiment, runs: Frame, curves: Frame, known: Quantities = QUANTITIES
) -> Chart | None:
    """The experiment's own figure; None where there is nothing to draw."""
    metric, axis = settings.metric, kind_of(settings.figure).axis
    if isinstance(axis, OfCurve):
        return curve_chart(f"{name}-chart", axis.metric or metric, curves, known)
    rows, title = runs[(runs.metric == metric) & (runs.arm != REAL)], label(metric, known)
    if axis is None:
        series = [_dots(str(arm), group) for arm, group in rows.groupby("arm", sort=False)]
        log = _logarithmic(metric, rows.value, known)
        return _chart(Chart(f"{name}-chart", title, "dots", title, "", log, False, series))
    rows = axis.rows(rows)
    rows = rows if axis.flat else rows[rows[axis.column].notna()]
    series = [
        _line(_named(rows, group, axis.keys) + words, group, axis.column)
        for _, words, group in lines(rows, list(axis.keys), axis.column)
    ]
    vertical = _logarithmic(metric, rows.value, known)
    return _chart(Chart(f"{name}-chart", title, "lines", axis.label, title, axis.log, vertical, series))


def curve_chart(name: str, metric: str, curves: Frame, known: Quantities = QUANTITIES) -> Chart | None:
    """A metric along training, along the angle or along N, a line per arm and number of steps."""
    rows = curves[curves.metric == metric]
    rows = rows.assign(arm=rows.arm.fillna(rows.objective))
    series = [
        _line(_named(rows, group, ("arm", "steps")), group, "x")
        for _, group in rows.groupby(["arm", "steps"], dropna=False, sort=False)
    ]
    x, vertical, words = AXES[along(metric)], _logarithmic(metric, rows.value, known), in_words(metric, curves, known)
    text = label(metric, known)
    return _chart(Chart(name, text, "lines", x, text, x not in (ANGLE, STEP), vertical, series, words))


def other_charts(name: str, settings: Experiment, curves: Frame, known: Quantities = QUANTITIES) -> dict[str, Chart]:
    """Every other curve that the experiment has, by metric."""
    axis = kind_of(settings.figure).axis
    drawn = (axis.metric or settings.metric) if isinstance(axis, OfCurve) else None
    metrics = [str(metric) for metric in dict.fromkeys(curves.metric) if metric != drawn]
    found = {metric: curve_chart(f"{name}-{metric}", metric, curves, known) for metric in metrics}
    return {metric: chart for metric, chart in found.items() if chart}


def in_words(metric: str, curves: Frame, known: Quantities = QUANTITIES) -> str:
    """What a measured curve is at its ends and at its largest, with intervals over seeds; empty for training's own."""
    rows = curves[curves.metric == metric].dropna(subset=["value", "x"])
    groups = list(rows.assign(arm=rows.arm.fillna(rows.objective)).groupby("arm", sort=False))
    x = AXES[along(metric)]
    if x == STEP or not 0 < len(groups) <= MOST:
        return ""
    parts = []
    for arm, group in groups:
        values = over_seeds_along(group, "x")
        ends = [min(values), max(values)]
        top = max(values, key=lambda at: values[at].mean)
        shown = [f"{values[at]} at {at:.3g}" for at in dict.fromkeys(ends)]
        shown += [f"at most {values[top]} at {top:.3g}"] if top not in ends else []
        parts.append(f"{arm}: {', '.join(shown)}")
    about = meaning(metric, known).split("; ")[0]
    return f"{capital(about)}, along the {x.split(' (')[0].strip()}: {'; '.join(parts)}."


def _chart(chart: Chart) -> Chart | None:
    there = any(series.points or series.lost for series in chart.series)
    return replace(chart, series=_apart(chart.series)) if there else None


def _apart(all_series: list[Series]) -> list[Series]:
    """Lines of one colour that nothing else tells apart get dashes by their rank."""
    alike: dict[str, list[Series]] = {}
    for series in all_series:
        alike.setdefault(series.colour, []).append(series)
    dashes = {
        series.name: DASHES[rank % len(DASHES)]
        for group in alike.values()
        for rank, series in enumerate(group)
        if len({other.dash for other in group}) == 1
    }
    return [replace(series, dash=dashes.get(series.name, series.dash)) for series in all_series]


def _line(name: str, group: Frame, column: str) -> Series:
    points, lost = [], []
    twice = group[group.duplicated([column, "seed"])]
    if len(twice):  # raises: a line of two settings has no mean
        per_seed(group[group[column].isin(twice[column])])
    found = group.groupby(column, dropna=False).value.agg(["mean", "min", "max", "count"])
    for x, (mean, low, high, seeds) in zip(found.index, found.to_numpy(), strict=True):
        place = None if pd.isna(x) else _rounded(float(x))
        if math.isfinite(mean):
            points.append([place, *map(_rounded, (mean, low, high)), int(seeds)])
        elif place is not None and seeds:
            lost.append(place)
    flat = bool(points) and points[0][0] is None
    return Series(name, colour(str(group.objective.iloc[0])), _dash(group), points[:1] if flat else points, flat, lost)


def _dots(name: str, group: Frame) -> Series:
    rows = [(row.value, row.steps, row.seed) for row in group.itertuples() if pd.notna(row.value)]
    points = [[_rounded(v), None if pd.isna(k) else int(k), int(seed)] for v, k, seed in rows if math.isfinite(v)]
    lost = sorted({int(seed) for v, _, seed in rows if not math.isfinite(v)})
    return Series(name, colour(str(group.objective.iloc[0])), "", points, lost=[float(seed) for seed in lost])


def _dash(group: Frame) -> Dash:
    """As in the static figures: two steps and fp16 are dashed, bf16 is dotted."""
    steps, precision = group.steps.dropna(), group.precision.iloc[0]
    if precision == "bf16":
        return "dotted"
    return "dashed" if precision == "fp16" or (len(steps) and (steps == 2).all()) else ""


def _named(rows: Frame, group: Frame, keys: Iterable[str]) -> str:
    """What tells this line from the others."""
    parts = []
    for key in keys:
        value = group[key].iloc[0]
        if pd.isna(value):
            continue
        if key == "steps":
            parts += [steps_label(value, str(group.objective.iloc[0]))] if rows.steps.nunique() > 1 else []
        elif key != "sampler" or rows[rows.arm == group.arm.iloc[0]].sampler.nunique() > 1:
            parts.append(str(value))
    return ", ".join(parts)


def _logarithmic(metric: str, values: pd.Series, known: Quantities) -> bool:
    finite = values[values.map(math.isfinite)]
    low, high = float(finite.min()), float(finite.max())  # NaN without any
    return not is_signed(metric, known) and low > 0 and high > 4 * low


def _rounded(value: float) -> float:
    return float(f"{value:.5g}")
