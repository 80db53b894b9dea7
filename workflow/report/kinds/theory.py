"""Errors against N beside what theory says of their order."""

import re

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from trigbench.workflow.claims.statistics import interval, over_seeds
from trigbench.workflow.report.drawing import legend, line, log_scale, panels, say_when_empty
from trigbench.workflow.report.kinds import Along, Kind, by_intervals
from trigbench.workflow.report.rows import Frame, arm_of, is_lost, lines, points, results, steps_label
from trigbench.workflow.report.style import GUIDE, INTERVALS, colour, marker
from trigbench.workflow.report.words import NOTHING
from trigbench.workflow.study.experiment import Experiment
from trigbench.workflow.study.quantities import QUANTITIES, Quantities

ORDERS = {"euler": ("-", "^", 1), "heun": ("--", "v", 2)}
"""Line, marker and order of a solver."""

THEORY = {
    "ct_minus_cd_loss": ("loss of CT minus loss of CD", colour("dsct"), marker("dsct")),
    "gradient_bias": ("bias of CT's gradient", colour("ct"), marker("ct")),
    "gradient_noise": ("noise of CT's gradient", colour("ict"), marker("ict")),
}
"""Words, colour and marker of what theory computes beside errors."""

TARGETS = {"ct": ("-", ""), "ct_ema": ("--", ", targets from a lagging average")}
"""Line and words of where the targets come from."""


def draw(experiment: Experiment, runs: Frame, curves: Frame, known: Quantities = QUANTITIES) -> Figure:
    """Errors of the trained map and of the exact fixed points against N; beside them what else theory computes."""
    trained = with_solver(results(runs, experiment.metric))
    extras = {m: points(curves, m) for m in THEORY}
    shown = {m: rows for m, rows in extras.items() if rows.value.notna().any()}
    figure, axes = panels(1 + (len(shown) > 0), 4.4)
    for solver, (style, symbol, order) in ORDERS.items():
        exact = points(curves, f"fixed_point_error_{solver}")
        group = trained[(trained.objective == "cd") & (trained.solver == solver)]
        look = {"color": colour("cd"), "linestyle": style, "marker": symbol}
        for (count,), words, own in lines(group, ["steps"], "intervals"):
            label = f"CD, {solver.capitalize()}, trained{words}" + _in_steps(count)
            line(axes[0], own, "intervals", label=label, **look)
        line(
            axes[0], exact, "x", label=f"CD, {solver.capitalize()}, exact fixed point",
            **(look | {"color": "#5E7F35", "markerfacecolor": "white", "markersize": 5, "linewidth": 1.1}),
        )  # fmt: skip
        along, anchor = ("x", exact) if exact.value.notna().any() else ("intervals", group[~is_lost(group)])
        _slope(axes[0], anchor.dropna(subset=["value"]).groupby(along).value.mean(), order)
    for (count,), words, own in lines(trained[trained.objective == "ct"], ["steps"], "intervals"):
        look = {"color": colour("ct"), "linestyle": "", "marker": marker("ct")}
        line(axes[0], own, "intervals", label=f"CT, trained{words}" + _in_steps(count), **look)
    for metric, rows in shown.items():
        words, face, symbol = THEORY[metric]
        for objective, (style, whose) in TARGETS.items():
            group = rows[rows.objective == objective]
            if len(group):
                line(axes[1], group, "x", color=face, linestyle=style, marker=symbol, label=words + whose)
        axes[1].set_title("Consistency training against distillation")
        axes[1].set_ylabel("relative size")
    axes[0].set_ylabel(known[experiment.metric].title)
    axes[0].set_title("Error of the map" if shown else "")
    for ax in axes:
        ax.set_xlabel(INTERVALS)
        ax.set_xscale("log", base=2)
        log_scale(ax.yaxis)
        say_when_empty(ax)
    legend(figure, axes)
    return figure


def _in_steps(count: float) -> str:
    return "" if np.isnan(count) else f", {steps_label(count)}"


def with_solver(rows: Frame) -> Frame:
    """The rows with the solver that their arm names, and N from the name where the objective has none."""
    arms = rows.arm.map(arm_of)
    numbers = [re.search(r"-(\d+)$", arm) for arm in arms]
    named = pd.Series([float(found[1]) if found else np.nan for found in numbers], rows.index, float)
    solver = ["heun" if "heun" in arm else "euler" for arm in arms]
    return rows.assign(intervals=rows.intervals.fillna(named), solver=solver)


def _slope(ax: Axes, means: pd.Series, order: int) -> None:
    """A grey line of this order through the first point."""
    if len(means) < 2 or not means.iloc[0] > 0:
        return
    n = means.index.to_numpy()
    ax.plot(n, means.iloc[0] * (n[0] / n) ** order, color=GUIDE, linewidth=0.9, linestyle=(0, (1, 1.5)), zorder=1)
    end = f"N$^{{-{order}}}$"
    ax.annotate(end, (n[-1], means.iloc[0] * (n[0] / n[-1]) ** order), (4, -3), textcoords="offset points", fontsize=9)


def say(experiment: Experiment, runs: Frame, curves: Frame, known: Quantities = QUANTITIES) -> str:
    """The order of each error in 1/N, fitted by least squares in logarithms, of each seed."""
    trained = with_solver(results(runs, experiment.metric))
    parts = []
    for solver in ORDERS:
        group = trained[(trained.objective == "cd") & (trained.solver == solver)]
        exact = points(curves, f"fixed_point_error_{solver}").drop_duplicates("x")
        for kind, rows, along in (("trained", group, "intervals"), ("exact fixed point", exact, "x")):
            for (count,), words, own in lines(rows, ["steps"], along):
                text = _order_of(own[np.isfinite(own.value) & (own.value > 0)], along)
                which = kind + words + (f", {steps_label(count)}" if pd.notna(count) else "")
                parts += [f"CD with {solver.capitalize()}, {which}: {text}"] if text else []
    sentences = [f"Fitted order p of an error ~ N^-p. {'; '.join(parts)}."] if parts else []
    return " ".join(sentences + _beside_errors(curves)) or NOTHING


def _beside_errors(curves: Frame) -> list[str]:
    """What CM's Theorem 2 and iCT's Sec. 3.2 come to at the finest grid."""
    losses, biases = (
        points(curves, metric).dropna(subset=["value"]) for metric in ("ct_minus_cd_loss", "gradient_bias")
    )
    found = []
    if len(losses):
        last = losses[losses.x == losses.x.max()]
        share = over_seeds(last.assign(value=100 * last.value))
        found.append(f"At N = {last.x.iloc[0]:.0f} CT's loss is {share} % above CD's at the same network.")
    last = biases[biases.x == biases.x.max()]
    own, lagging = (last[last.objective == kind] for kind in ("ct", "ct_ema"))
    if len(own) and len(lagging):
        averaged = over_seeds(lagging)
        text = f"the bias of CT's gradient is {over_seeds(own)}, with targets from a lagging average {averaged}"
        found.append(f"At N = {last.x.iloc[0]:.0f} {text}.")
    return found


def _order_of(rows: Frame, along: str) -> str:
    """`1.02 [0.98, 1.06] from N = 8 to 128`; nothing from fewer than two N."""
    slopes = []
    for _, seed in rows.groupby("seed"):
        means = seed.groupby(along).value.mean()
        if len(means) > 1:
            slopes.append(-float(np.polyfit(np.log(means.index.to_numpy(float)), np.log(means), 1)[0]))
    if not slopes:
        return ""
    return f"{interval(np.array(slopes))} from N = {rows[along].min():.0f} to {rows[along].max():.0f}"


KIND = Kind(
    draw=draw,
    say=say,
    caption="Errors of trained maps and of exact fixed points against the number of intervals N. {seeds}.",
    axis=Along("intervals", INTERVALS, True, ("family", "steps"), by_intervals, flat=True),
)
