"""Policies in a closed loop: how many episodes arrive and how many ways they take, by evaluations of a plan."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from trigbench.workflow.claims.statistics import over_seeds
from trigbench.workflow.report.drawing import legend, line, panels
from trigbench.workflow.report.kinds import Along, Kind
from trigbench.workflow.report.rows import Frame, numeric, results, steps_label
from trigbench.workflow.report.style import LINES, colour, marker, name
from trigbench.workflow.report.words import NOTHING, capital
from trigbench.workflow.study.experiment import Experiment
from trigbench.workflow.study.policies import FROM_LOW_VARIANCE, OF_POLICIES
from trigbench.workflow.study.quantities import QUANTITIES, Quantities
from trigbench.workflow.study.records import REAL

MEASURES = ("success", "ways_taken", "jerk")
"""A panel each."""
SOLID = LINES[:3]
"""Of arms of one method; what starts from low variance is dotted."""


def draw(experiment: Experiment, runs: Frame, curves: Frame, known: Quantities = QUANTITIES) -> Figure:
    """A panel a measure, a line for each arm and way to start; dashed is the expert."""
    figure, axes = panels(len(MEASURES), 3.9)
    for ax, metric in zip(axes, MEASURES, strict=True):
        _panel(ax, runs, metric)
    legend(figure, axes)
    return figure


def _panel(ax: Axes, runs: Frame, metric: str) -> None:
    rows, quantity = results(runs, metric), OF_POLICIES[metric]
    rows = rows[rows.steps.notna()]
    arms = {objective: list(dict.fromkeys(group.arm)) for objective, group in rows.groupby("objective", sort=False)}
    for (arm, objective, sampler), group in rows.groupby(["arm", "objective", "sampler"], sort=False):
        of_arm = SOLID[arms[objective].index(arm) % len(SOLID)]
        words, dash, symbol = FROM_LOW_VARIANCE.get(str(sampler), ("", of_arm, marker(objective)))
        who = name(objective) + (f", {arm}" if len(arms[objective]) > 1 else "")
        look = {"color": colour(objective), "linestyle": dash, "marker": symbol}
        look |= {"markerfacecolor": "white"} if words else {}
        line(ax, group, "steps", quantity.better, label=f"{who}, {words}" if words else who, **look)
    expert = _expert(runs, metric)
    if len(expert):
        ax.axhline(over_seeds(expert).mean, color=colour(REAL), linestyle=(0, (4, 2)), linewidth=1.2, label="expert")
    counts = sorted(rows.steps.unique())
    ax.set(xscale="log", xlabel="evaluations per plan", title=quantity.label)
    ax.set_xticks(counts, [f"{count:.0f}" for count in counts])
    ax.minorticks_off()
    if metric == "success":
        ax.set_ylim(-0.03, 1.03)


def _expert(runs: Frame, metric: str) -> Frame:
    rows = numeric(runs[(runs.objective == REAL) & (runs.metric == metric)])
    return rows.dropna(subset=["value"])


def say(experiment: Experiment, runs: Frame, curves: Frame, known: Quantities = QUANTITIES) -> str:
    """Of the expert, and of each arm in its fewest and most evaluations: the success rate, and the ways taken."""
    rows = results(runs, "success", "ways_taken").dropna(subset=["value", "steps"])
    if not len(rows):
        return NOTHING
    parts = []
    expert = [over_seeds(found).mean for metric in ("success", "ways_taken") if len(found := _expert(runs, metric))]
    if len(expert) > 1:
        parts.append(f"the expert arrives in {expert[0]:.0%} of episodes, by {expert[1]:.2g} ways")
    for (arm, objective, sampler), group in rows.groupby(["arm", "objective", "sampler"], sort=False):
        words = FROM_LOW_VARIANCE.get(str(sampler), ("",))[0]
        for count in dict.fromkeys((group.steps.min(), group.steps.max())):
            success, ways = (over_seeds(group[(group.steps == count) & (group.metric == m)]).mean for m in MEASURES[:2])
            who = f"{arm} {words}".strip()
            parts.append(f"{who} in {steps_label(count, str(objective))} {success:.0%}, by {ways:.2g}")
    return capital("; ".join(parts)) + "."


KIND = Kind(
    draw=draw,
    say=say,
    caption="Policies in a closed loop, by evaluations of the network per plan, of whose actions the first half "
    "are done. Dashed: the expert who shows it. {seeds}.",
    axis=Along("steps", "evaluations per plan", True, ("arm", "sampler")),
    separate=("sampler",),
    pictured=True,
)
