"""A sweep of N: the discrete objectives against their continuous limit."""

import math

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from trigbench.core.objectives import OBJECTIVES
from trigbench.workflow.claims.statistics import paired, per_seed
from trigbench.workflow.report.drawing import floor, label_first, legend, line, panels, say_when_empty
from trigbench.workflow.report.kinds import Along, Kind, by_intervals
from trigbench.workflow.report.rows import TEACHERS, Frame, first_way, is_lost, lines, results, steps_label
from trigbench.workflow.report.style import INTERVALS, PRECISIONS, colour, marker, name
from trigbench.workflow.report.words import NOTHING, mean_of, short_name
from trigbench.workflow.study.experiment import Experiment
from trigbench.workflow.study.quantities import QUANTITIES, Quantities, Quantity

LIMITS = {name: method.limit for name, method in OBJECTIVES.items() if method.limit}


def draw(experiment: Experiment, runs: Frame, curves: Frame, known: Quantities = QUANTITIES) -> Figure:
    """The metric against N, a line per precision and number of steps; methods without N as bands."""
    rows = results(runs, experiment.metric)
    counts = sorted(rows[rows.intervals.notna()].steps.dropna().unique()) or [None]
    figure, axes = panels(len(counts), 4.3, share_y=True)
    for ax, steps in zip(axes, counts, strict=True):
        _sweep(ax, rows if steps is None else rows[(rows.steps == steps) | rows.objective.isin(TEACHERS)])
        floor(ax, runs, experiment.metric)
        ax.set_xlabel(INTERVALS)
        ax.set_xscale("log", base=2)
        if rows.intervals.notna().any():  # said outright: crosses alone would not set it
            ax.set_xlim(rows.intervals.min() / 1.5, rows.intervals.max() * 1.5)
        ax.set_title("" if steps is None else steps_label(steps))
        say_when_empty(ax)
    label_first(axes, known[experiment.metric])
    legend(figure, axes)
    return figure


def _sweep(ax: Axes, rows: Frame) -> None:
    precisions = [p for p in PRECISIONS if p in set(rows.precision)] or ["fp32"]
    for rank, precision in enumerate(precisions):
        style, symbol = PRECISIONS[precision]
        suffix = f", {precision}" if len(precisions) > 1 else ""
        mine = rows[(rows.precision == precision) | rows.precision.isna()]
        for (objective,), words, group in lines(mine[mine.intervals.notna()], ["objective"], "intervals"):
            shade = sns.light_palette(colour(objective), 5)[4 - rank]
            look = {"color": shade, "linestyle": style, "marker": symbol if suffix else marker(objective)}
            line(ax, group, "intervals", label=name(objective) + suffix + words, **look)
        for (objective,), words, group in lines(first_way(mine[mine.intervals.isna()]), ["objective"], "objective"):
            if rank and objective in TEACHERS:
                continue
            values = per_seed(group[~is_lost(group)])
            if len(values):
                label = name(objective) + ("" if objective in TEACHERS else suffix) + words
                ax.axhline(values.mean(), color=colour(objective), linestyle=style, linewidth=1.4, label=label)
                ax.axhspan(values.min(), values.max(), color=colour(objective), alpha=0.10, linewidth=0)


def say(experiment: Experiment, runs: Frame, curves: Frame, known: Quantities = QUANTITIES) -> str:
    """Per discrete method, precision and steps: the best N, and whether continuous time is better than every N."""
    rows = runs[runs.metric == experiment.metric]
    sentences = []
    discrete = rows[rows.intervals.notna()]
    for (objective, precision, steps), group in discrete.groupby(
        ["objective", "precision", "steps"], dropna=False, sort=False
    ):
        where = [str(precision)] if discrete.precision.nunique() > 1 else []
        where += [steps_label(steps)] if pd.notna(steps) else []
        means = group.groupby(["intervals", "arm"], sort=True).value.mean()
        best = means.idxmax() if known[experiment.metric].better == "higher" else means.idxmin()
        text = f"{short_name(objective)} is best at N = {best[0]:.0f} ({mean_of(group, best[1])})"
        last_n, last = means.index[-1][0], means.iloc[-1]
        if last_n != best[0]:
            text += f" and {last / means[best]:.2f} times that" if math.isfinite(last) else " and diverges"
            text += f" at N = {last_n:.0f}"
        rivals = rows[(rows.objective == LIMITS.get(objective)) & (rows.precision == precision)]
        rivals = rivals[rivals.steps == steps] if pd.notna(steps) else rivals
        if len(rivals):
            text += ", " + _against(group, rivals, best[1], known[experiment.metric])
        sentences.append((f"{', '.join(where)}: " if where else "") + text)
    return "; ".join(sentences) + "." if sentences else NOTHING


def _against(discrete: Frame, continuous: Frame, best: str, of: Quantity) -> str:
    """The continuous method beside the best N; choosing the best N afterwards favours the discrete one."""
    arm = continuous.arm.iloc[0]
    gap = paired(pd.concat([discrete, continuous]), arm, best)
    sign = -1 if of.better == "higher" else 1
    shown = f"{short_name(continuous.objective.iloc[0])} reaches {mean_of(continuous, arm)}"
    if not math.isfinite(gap.mean):
        return f"{shown} (a run diverged, so there is no gap to speak of)"
    if math.isnan(gap.low):
        return f"{shown} (too few seeds for an interval)"
    about = f"gap to the best N {gap}, paired by seed"
    if min(sign * gap.low, sign * gap.high) > 0:
        return f"{shown}, better than every N ({about})"
    if max(sign * gap.low, sign * gap.high) < 0:
        return f"{shown}, worse than the best N ({about})"
    side = "better" if sign * gap.mean > 0 else "worse"
    return f"{shown}, {side} than the best N on average, but the interval holds zero ({about})"


KIND = Kind(
    draw=draw,
    say=say,
    caption="{label} against the number of intervals N of the discrete objective. {seeds}; methods without N are "
    "horizontal lines. A cross at the upper edge is a diverged run.",
    axis=Along("intervals", INTERVALS, True, ("family", "steps"), by_intervals, flat=True),
)
