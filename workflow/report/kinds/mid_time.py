"""Two-step samples against their middle angle."""

import numpy as np
from matplotlib.figure import Figure

from trigbench.core.constants import MID_TIME
from trigbench.workflow.claims.statistics import over_seeds
from trigbench.workflow.report.drawing import legend, line, log_metric, panels, say_when_empty, styles
from trigbench.workflow.report.kinds import Along, Kind
from trigbench.workflow.report.rows import Frame, results
from trigbench.workflow.report.style import GUIDE, colour, marker, name
from trigbench.workflow.report.words import NOTHING, best_first, compared, mean_of, with_worst
from trigbench.workflow.study.experiment import Experiment
from trigbench.workflow.study.quantities import QUANTITIES, Quantities

SEARCH = "search"
"""The sampler of rows that a search for middle times left."""


def draw(experiment: Experiment, runs: Frame, curves: Frame, known: Quantities = QUANTITIES) -> Figure:
    """The metric of two-step samples against the middle angle; stars are what CM's search found."""
    rows = results(runs, experiment.metric)
    rows = rows[rows.mid_time.notna() & (rows.steps == 2)]
    rows, found = rows[rows.sampler != SEARCH], rows[rows.sampler == SEARCH]
    figure, axes = panels(1, 4.2)
    for arm, style in styles(rows):
        symbol = marker(rows[rows.arm == arm].objective.iloc[0])
        own, better = rows[rows.arm == arm], known[experiment.metric].better
        line(axes[0], own, "mid_time", better, band=True, marker=symbol, **style)
    for objective, group in found.groupby("objective", sort=False):
        label = f"{name(objective)}, found by search (other noise)"
        look = {"marker": "*", "s": 110, "facecolor": "white", "edgecolor": colour(objective), "zorder": 3}
        axes[0].scatter(group.mid_time, group.value, label=label, **look)
    axes[0].axvline(MID_TIME, color=GUIDE, linestyle=":", linewidth=1.4, label=f"{MID_TIME:g}, the paper's")
    axes[0].set_xlabel("middle angle of two steps  (0: data, π/2: noise)")
    if rows.mid_time.nunique():
        axes[0].set_xticks(sorted(rows.mid_time.unique()))
    log_metric(axes[0], known[experiment.metric])
    say_when_empty(axes[0])
    legend(figure, axes)
    return figure


def say(experiment: Experiment, runs: Frame, curves: Frame, known: Quantities = QUANTITIES) -> str:
    """The best middle angle of each arm, and how much worse 1.1 is, paired by seed."""
    rows = results(runs, experiment.metric)
    rows = rows[rows.mid_time.notna() & (rows.steps == 2)]
    searched = rows[rows.sampler == SEARCH]
    parts = []
    for arm, group in rows[rows.sampler != SEARCH].groupby("arm", sort=False):
        by_time = group.assign(arm=[f"{t:g}" for t in group.mid_time])
        if not np.isfinite(with_worst(by_time, known[experiment.metric])).any():
            parts.append(f"{arm} diverged")
            continue
        best = best_first(by_time, known[experiment.metric])[0]
        text = f"{arm} is best at {best} ({mean_of(by_time, best)})"
        if best == f"{MID_TIME:g}":
            text += ", the paper's"
        elif f"{MID_TIME:g}" in set(by_time.arm):
            side, shown = compared(by_time, best, f"{MID_TIME:g}", known[experiment.metric])
            text += f", {MID_TIME:g} against it {shown}, {side}"
        found = searched[searched.arm == arm]
        if len(found):
            text += f"; the search finds {over_seeds(found.assign(value=found.mid_time))}"
        parts.append(text)
    after = " The best angles are chosen afterwards, from the same runs, which favours them."
    return f"{'; '.join(parts)}.{after}" if parts else NOTHING


def _of_two_steps(rows: Frame) -> Frame:
    return rows[rows.steps == 2]


KIND = Kind(
    draw=draw,
    say=say,
    caption="{label} of two-step samples against their middle angle. {seeds}.",
    axis=Along("mid_time", "middle angle of two steps", False, ("arm", "sampler"), _of_two_steps),
    separate=("sampler", "mid_time"),
)
