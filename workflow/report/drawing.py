"""How rows become marks: lines with the span of the seeds, crosses for diverged runs, legends outside the axes."""

from itertools import cycle

import numpy as np
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from trigbench.workflow.claims.statistics import per_seed
from trigbench.workflow.report.rows import Frame, is_lost, numeric
from trigbench.workflow.report.style import QUIET, colour, name
from trigbench.workflow.study.quantities import Quantity
from trigbench.workflow.study.records import REAL

WIDTH = 9.4
"""Inches of a full figure: shown 700 pixels wide, its text of 9 points is 9 pixels high."""

DIVERGED = "a run diverged"


def panels(count: int, height: float, share_y: bool = False, ratios: list[float] | None = None) -> tuple[Figure, list]:
    """A full-width figure with axes side by side."""
    figure, axes = plt.subplots(
        1, count, figsize=(WIDTH, height), squeeze=False, sharey=share_y, layout="constrained", width_ratios=ratios
    )
    return figure, list(axes[0])


def curves_along(runs: Frame, rows: Frame, along: str, label: str) -> Figure:
    """A figure of one curve: a line for each arm, with the band of its seeds."""
    figure, axes = panels(1, 4.4)
    for arm, style in styles(rows):
        line(axes[0], rows[rows.arm == arm], "x", band=True, **style)
    crosses_at_the_end(axes[0], runs, rows)
    axes[0].set(xlabel=along, ylabel=label)
    log_scale(axes[0].yaxis)
    say_when_empty(axes[0])
    legend(figure, axes)
    return figure


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


def crosses_at_the_end(ax: Axes, runs: Frame, rows: Frame, better: str = "lower") -> None:
    """Of methods with a diverged run: its curve ends early, or is not there at all."""
    lost = runs[runs.status == "diverged"].objective
    for objective in dict.fromkeys(lost):
        crosses(ax, np.array([rows.x.max() if len(rows) else 1.0]), colour(objective), better)


REAL_LINES = ((4, 2), (1, 1.5), (6, 2, 1, 2))
"""Dashes, by data set."""


def floor(ax: Axes, runs: Frame, metric: str, across: bool = False) -> None:
    """Real data judged as if they were samples, a line for each data set."""
    found = numeric(runs[(runs.objective == REAL) & (runs.metric == metric)]).dropna(subset=["value"])
    draw = ax.axvline if across else ax.axhline
    several = found.data.nunique() > 1
    for (data, rows), dashes in zip(found.groupby("data", sort=False, dropna=False), cycle(REAL_LINES), strict=False):
        label = f"real data, {data}" if several else "real data"
        draw(per_seed(rows).mean(), color=colour(REAL), linestyle=(0, dashes), linewidth=1.2, label=label)


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


def label_first(axes: list[Axes], quantity: Quantity) -> None:
    """One label for axes that share theirs."""
    log_metric(axes[0], quantity)
    for ax in axes[1:]:
        ax.set_ylabel("")
        ax.tick_params(labelleft=False)


def engineering(ax: Axes) -> None:
    """50000 -> 50k, 3e9 -> 3G."""
    if ax.get_xscale() == "log":
        ax.xaxis.set_major_formatter(ticker.EngFormatter(sep=""))


def styles(rows: Frame) -> list[tuple[str, dict]]:
    """A colour by objective; arms of one objective differ in shade and dashes."""
    found = []
    for objective, group in rows.groupby("objective", sort=False):
        arms = list(dict.fromkeys(group.arm))
        shades = sns.light_palette(colour(objective), len(arms) + 2)[2:]
        for rank, arm in enumerate(arms):
            style = ["-", "--", "-.", ":"][(len(arms) - 1 - rank) % 4]
            intervals = group[group.arm == arm].intervals.iloc[0]
            more = "" if len(arms) == 1 else f", {arm}" if np.isnan(intervals) else f", N = {intervals:.0f}"
            found.append((arm, {"color": shades[rank], "linestyle": style, "label": name(objective) + more}))
    return found


def say_when_empty(ax: Axes) -> None:
    """An axes without a finite value says so."""
    if not any(len(np.atleast_1d(drawn.get_xdata())) for drawn in ax.get_lines()):
        ax.text(0.5, 0.5, "no finite value", transform=ax.transAxes, ha="center", va="center", color=QUIET)


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


def mark(marker: str | None, linestyle, label: str, face: str = QUIET) -> Line2D:
    """An entry of a legend that speaks of no one method."""
    return Line2D([], [], color=face, marker=marker, linestyle=linestyle, label=label)
