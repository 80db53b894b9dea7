"""How rows become marks: lines with the span of the seeds, crosses for diverged runs, legends outside the axes."""

import fnmatch
import re
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from trigbench.workflow.claims.statistics import COLUMNS, SAMPLING, at_best_guidance, per_seed
from trigbench.workflow.claims.tables import CURVE_COLUMNS
from trigbench.workflow.report.style import colour
from trigbench.workflow.study.quantities import QUANTITIES, Quantities, Quantity
from trigbench.workflow.study.schema import Experiment

WIDTH = 9.4
"""Inches of a full figure: shown 700 pixels wide, its text of 9 points is 9 pixels high."""
DIVERGED = "a run diverged"
AT_BEST = (
    "Guided samples are at the scale of best mean among those that most seeds have, "
    "chosen afterwards from the same runs, which favours them."
)
NUMBERS = ("intervals", "steps", "guidance", "seed", "value", "parameters", "mid_time", "x")
Frame = pd.DataFrame


def results(runs: Frame, *metrics: str) -> Frame:
    """Rows of runs.csv of these metrics, real data left out; every column there, numbers as numbers."""
    rows = numeric(runs.reindex(columns=COLUMNS))
    return rows[rows.metric.isin(metrics) & (rows.objective != "data")]


def drawn(experiment: Experiment, runs: Frame, curves: Frame, known: Quantities = QUANTITIES) -> tuple[Frame, Frame]:
    """What its figure, charts and finding show: guided samples at their best scale, unless it is about scales."""
    runs, curves = numeric(runs.reindex(columns=COLUMNS)), numeric(curves.reindex(columns=CURVE_COLUMNS))
    if experiment.figure != "guidance":
        runs = at_best_guidance(runs, experiment.metric, known)
    parts = [at_best_guidance(part, metric, known) for metric, part in curves.groupby("metric", sort=False)]
    separate = SEPARATE.get(experiment.figure, ())
    return told_apart(runs, separate), told_apart(pd.concat(parts) if parts else curves, separate)


SEPARATE = {"guidance": ("guidance",), "steps": ("sampler",), "mid_time": ("sampler", "mid_time")}
"""Columns beside arm and steps that a kind of figure tells apart itself."""


def told_apart(rows: Frame, separate: Sequence[str] = ()) -> Frame:
    """The rows; where an arm is sampled in several ways with equal steps, all but the first are named after the way.

    `scd` of the study's sampler `few` and `scd by mine` of its `mine` are two settings, as two arms are, and
    `scd at [1.1, 0.05]` is another one than `scd` with other middle angles. `separate` are columns by which they
    are told apart already.
    """
    columns = ["arm", *SAMPLING]
    sampled = rows[rows.steps.notna() & (rows.sampler.notna() | rows.sampling.notna())]
    ways = sampled[columns].astype(object).drop_duplicates().to_dict("records")
    place = ("arm", "steps", *separate)
    first: dict[tuple, str | None] = {}
    beside = set()
    for way in ways:
        name = _known(way["sampling"]) or way["sampler"]
        if first.setdefault(tuple(map(_known, (way[c] for c in place))), name) != name:
            beside.add((way["arm"], name))
    names, taken = dict[tuple, str](), dict[tuple, tuple]()
    for way in ways:
        name = _known(way["sampling"]) or way["sampler"]
        label = f"{way['arm']} by {name}" if (way["arm"], name) in beside else way["arm"]
        angles = _known(way["times"]) or _known(way["mid_time"])
        there = (label, *(_known(way[c]) for c in place[1:]))
        if taken.setdefault(there, angles) != angles:
            label = f"{label} at {angles or 'no middle angle'}"
        names[tuple(_known(way[c]) for c in columns)] = label
    told = (tuple(map(_known, way)) for way in rows[columns].astype(object).itertuples(index=False))
    return rows.assign(arm=[names.get(way, way[0]) for way in told]) if set(names.values()) - set(rows.arm) else rows


def _known(value: object) -> object:
    """None for a number or name that is not there."""
    return None if pd.isna(value) else value  # pyright: ignore[reportArgumentType, reportCallIssue, reportGeneralTypeIssues]


def arm_of(shown: str) -> str:
    """The arm of the study whose rows `told_apart` calls so; no arm's name holds a space.

    >>> arm_of("scd by mine at [1.1, 0.8]")
    'scd'
    """
    return str(shown).split(" ", 1)[0]


def family(arm: str, intervals: float = float("nan"), size: object = None) -> str:
    """The arm's name without its N (or the number of its segments), and without its size.

    >>> family("dscd-64-fp32", 64.0), family("scd-fp32"), family("scd-xl by mine", size="xl")
    ('dscd-fp32', 'scd-fp32', 'scd by mine')
    """
    parts = [] if pd.isna(intervals) else [f"{intervals:.0f}"]
    for part in (*parts, *([] if _known(size) is None else [re.escape(str(size))])):
        arm = re.sub(rf"-{part}(?=[- ]|$)", "", str(arm), count=1)
    return str(arm)


def lines(rows: Frame, keys: list[str], along: str) -> Iterator[tuple[tuple, str, Frame]]:
    """(values of the keys, words, rows) of each line along a column.

    Arms that differ in what the keys do not say, and so would be one line with several values of one seed at one
    place, have a line each; the words name it.
    """
    for key, group in rows.groupby(keys, sort=False, dropna=False):
        if not group.duplicated([along, "seed"]).any():
            yield key, "", group
            continue
        apart = [family(a, n, s) for a, n, s in zip(group.arm, group.intervals, group["size"], strict=True)]
        for own, part in group.groupby(np.array(apart, object), sort=False):
            yield key, f", {own}", part


def first_way(rows: Frame) -> Frame:
    """Of each arm's rows those of its first way of sampling: its main one."""
    first = dict[str, tuple]()
    ways = (tuple(map(_known, way)) for way in rows[["arm", *SAMPLING]].astype(object).itertuples(index=False))
    return rows.loc[np.array([first.setdefault(str(way[0]), way) == way for way in ways], bool)]


def taught_by(rows: Frame) -> pd.Series:
    """The arm of each row's teacher, of a teacher itself; where none is named, the diffusion arm of its size."""
    teachers = rows[rows.objective == "diffusion"].drop_duplicates("size")
    by_size = dict(zip(teachers["size"], teachers.arm, strict=True))
    named = rows.teacher.mask(rows.teacher == "exact")
    return rows.arm.where(rows.objective == "diffusion", named).fillna(rows["size"].map(by_size))


def evaluations(rows: Frame) -> pd.Series:
    """Of the network for one sample: a guided diffusion model is evaluated with and without its label."""
    return rows.steps * (1 + ((rows.objective == "diffusion") & rows.guidance.notna()))


def in_order(experiment: Experiment, rows: Frame) -> Frame:
    """Rows with their arms as the experiment lists them: its first is what the others are held against."""

    def place(arm: str) -> int:
        fits = [i for i, pattern in enumerate(experiment.arms) if fnmatch.fnmatchcase(arm_of(arm), pattern)]
        return min(fits, default=len(experiment.arms))

    return rows.sort_values("arm", key=lambda arms: arms.map(place), kind="stable")


def points(curves: Frame, *metrics: str) -> Frame:
    """Rows of curves.csv of these metrics; what is not finite is no value."""
    rows = numeric(curves.reindex(columns=CURVE_COLUMNS))
    return rows[rows.metric.isin(metrics)]


def numeric(rows: Frame) -> Frame:
    """The same with floats, where a table of few rows has none or objects."""
    return rows.assign(**{c: pd.to_numeric(rows[c]).astype(float) for c in NUMBERS if c in rows})


def is_lost(rows: Frame) -> pd.Series:
    """Whether a row has no value: its run diverged."""
    lost = ~np.isfinite(rows.value)
    return lost | (rows.status == "diverged") if "status" in rows else lost


def panels(count: int, height: float, share_y: bool = False, ratios: list[float] | None = None) -> tuple[Figure, list]:
    """A full-width figure with axes side by side."""
    figure, axes = plt.subplots(
        1, count, figsize=(WIDTH, height), squeeze=False, sharey=share_y, layout="constrained", width_ratios=ratios
    )
    return figure, list(axes[0])


def line(ax: Axes, rows: Frame, x: str, better: str = "lower", band: bool = False, **style) -> None:
    """Mean of the seeds that have a value, and their span; a cross at the bad edge where a run diverged."""
    lost = is_lost(rows)
    twice = rows[rows.duplicated([x, "seed"])]
    if len(twice):  # raises: a line of two settings has no mean
        per_seed(rows[rows[x] == twice[x].iloc[0]])
    seeds = rows[~lost].groupby(x).value
    low, mean, high = seeds.min(), seeds.mean(), seeds.max()
    face = style["color"]
    if len(mean):
        ax.plot(mean.index, mean, **{"linewidth": 1.6, "markersize": 6, **style})
        if band:
            ax.fill_between(mean.index, low, high, color=face, alpha=0.15, linewidth=0)
        else:
            ax.vlines(mean.index, low, high, color=face, linewidth=1.3)
    crosses(ax, rows[lost][x].dropna().unique(), face, better)


def crosses(ax: Axes, places: np.ndarray, face: str | tuple, better: str = "lower", across: bool = False) -> None:
    """Diverged runs at these places of the x axis (of the y axis if `across`), at the edge of the worst values."""
    if not len(places):
        return
    edge = np.full(len(places), 0.03 if better == "higher" else 0.97)
    at = (edge, places) if across else (places, edge)
    transform = ax.get_yaxis_transform() if across else ax.get_xaxis_transform()
    ax.scatter(*at, transform=transform, marker="x", color=to_hex(face), s=45, linewidth=1.8, zorder=4, label=DIVERGED)


def floor(ax: Axes, runs: Frame, metric: str, across: bool = False) -> None:
    """Real data judged as if they were samples, a line for each data set."""
    found = numeric(runs[(runs.objective == "data") & (runs.metric == metric)]).dropna(subset=["value"])
    draw = ax.axvline if across else ax.axhline
    several = found.data.nunique() > 1
    for data, rows in found.groupby("data", sort=False, dropna=False):
        label = f"real data, {data}" if several else "real data"
        draw(per_seed(rows).mean(), color=colour("data"), linestyle=(0, (4, 2)), linewidth=1.2, label=label)


LABELLED = {
    0.5: (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0),
    1.0: (1.0, 1.5, 2.0, 3.0, 5.0, 7.0),
    1.7: (1.0, 2.0, 5.0),
    3.0: (1.0, 3.0),
}
"""Decades of an axis below which these places of every decade have a number."""


def log_scale(axis: Axis) -> None:
    """Logarithmic, with plain numbers at readable places; nothing where the axis shows no positive value."""
    low, high = axis.get_data_interval()
    if not (np.isfinite([low, high]).all() and low > 0):
        return
    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    decades = np.log10(high / low)
    between = next((places for most, places in LABELLED.items() if 0 < decades < most), (1.0, 2.0, 5.0))
    axis.set_major_locator(ticker.LogLocator(subs=(1.0,) if decades > 3 else between))
    axis.set_minor_formatter(ticker.NullFormatter())
    if decades <= 3:
        axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))


def log_metric(ax: Axes, quantity: Quantity, axis: str = "y") -> None:
    """Label the axis; logarithmic for distances and errors, whose ratios matter."""
    chosen = ax.yaxis if axis == "y" else ax.xaxis
    chosen.set_label_text(quantity.title)
    if quantity.better == "lower" and not quantity.signed:
        log_scale(chosen)


def say_when_empty(ax: Axes) -> None:
    """An axes without a finite value says so."""
    if not any(len(np.atleast_1d(drawn.get_xdata())) for drawn in ax.get_lines()):
        ax.text(0.5, 0.5, "no finite value", transform=ax.transAxes, ha="center", va="center", color="#555555")


def legend(figure: Figure, axes: list[Axes], extra: list[Line2D] | None = None) -> None:
    """One legend above all axes, every label once, diverged runs last."""
    found = {}
    for ax in axes:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    found |= {str(handle.get_label()): handle for handle in extra or []}
    if found.pop(DIVERGED, None):
        found[DIVERGED] = mark("x", "", DIVERGED)
    if found:
        widest = 0.078 * max(len(label) for label in found) + 0.55
        columns = max(1, min(len(found), int(figure.get_figwidth() / widest)))
        rows = -(-len(found) // columns)
        figure.legend(list(found.values()), list(found), loc="outside upper center", ncols=-(-len(found) // rows))


def mark(marker: str | None, linestyle, label: str, face: str = "#555555") -> Line2D:
    """An entry of a legend that speaks of no one method."""
    return Line2D([], [], color=face, marker=marker, linestyle=linestyle, label=label)


def steps_label(count: float, objective: str = "") -> str:
    """`2 steps`, or `35 evaluations` of a teacher's solver."""
    unit = "evaluation" if objective == "diffusion" else "step"
    return f"{count:.0f} {unit}{'' if count == 1 else 's'}"
