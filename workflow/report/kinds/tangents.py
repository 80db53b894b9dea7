"""Both parts of the network's tangent along the angle."""

import math

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from trigbench.workflow.claims.statistics import interval
from trigbench.workflow.report.drawing import crosses_at_the_end, legend, line, log_scale, mark, panels, say_when_empty
from trigbench.workflow.report.kinds import Kind, OfCurve
from trigbench.workflow.report.rows import Frame, in_order, points
from trigbench.workflow.report.style import ANGLE, colour, name
from trigbench.workflow.report.words import NOTHING, as_factor, geometric_mean
from trigbench.workflow.study.experiment import Experiment
from trigbench.workflow.study.quantities import QUANTITIES, Quantities

NETWORKS = {
    "fourier": ("--", "s", "Fourier features of the angle"),
    "log": ("-.", "^", "positional, log noise level"),
    "fourier-log": (":", "D", "Fourier features, log noise level"),
}
"""Line, marker and words for the sizes that change how the network is told the time."""


def draw(experiment: Experiment, runs: Frame, curves: Frame, known: Quantities = QUANTITIES) -> Figure:
    """Both parts of the network's tangent along the angle: colour is the method, line how it is told the time."""
    parts = {"space_tangent": "Along the data's velocity, ‖∂F/∂x · v‖ / √D", "time_tangent": "In time, ‖∂F/∂t‖ / √D"}
    found = points(curves, *parts)
    figure, axes = panels(2, 4.4)
    networks = {}
    for ax, (metric, title) in zip(axes, parts.items(), strict=True):
        rows = found[found.metric == metric]
        for (_, objective, size), group in rows.groupby(["arm", "objective", "size"], sort=False, dropna=False):
            style, symbol, words = NETWORKS.get(str(size), ("-", "o", "positional, angle (the paper's)"))
            networks[words] = (style, symbol)
            spaced = {"marker": symbol, "markersize": 4.5, "markevery": (1, 4)}
            line(ax, group, "x", band=True, color=colour(objective), linestyle=style, **spaced)
        crosses_at_the_end(ax, runs, rows)
        ax.set(xlabel=ANGLE, title=title)
        log_scale(ax.yaxis)
        say_when_empty(ax)
    axes[0].set_ylabel("norm of this part of the tangent")
    marks = [Line2D([], [], color=colour(o), linewidth=4, label=name(o)) for o in dict.fromkeys(found.objective)]
    order = [words for _, _, words in NETWORKS.values()]
    shown = sorted(networks.items(), key=lambda item: order.index(item[0]) if item[0] in order else -1)
    legend(figure, axes, marks + [mark(symbol, style, words) for words, (style, symbol) in shown])
    return figure


def say(experiment: Experiment, runs: Frame, curves: Frame, known: Quantities = QUANTITIES) -> str:
    """The largest time tangent of each network over that of the method's first, and where it is."""
    rows = in_order(experiment, points(curves, "time_tangent"))
    sentences = []
    for _, block in rows.groupby(["objective", "data"], sort=False, dropna=False):
        arms = list(dict.fromkeys(block.arm))
        infinite = block.assign(value=block.value.fillna(math.inf))
        largest = infinite.groupby(["arm", "seed"]).value.max().unstack("arm")
        places = {arm: infinite[infinite.arm == arm].groupby("x").value.mean().idxmax() for arm in arms}
        parts = []
        for arm in arms:
            if arm == arms[0]:
                found = interval(largest[arm].dropna())
            else:
                found = geometric_mean((largest[arm] / largest[arms[0]]).dropna())
            told = str(found) if arm == arms[0] else as_factor(found)
            shown = told if math.isfinite(found.mean) else "not finite"
            parts.append(f"{arm} {shown} at t = {places[arm]:.2f}")
        sentences.append(parts[0] + (f", and over it: {', '.join(parts[1:])}" if parts[1:] else ""))
    return f"Largest ‖∂F/∂t‖ / √D along the angle: {'; '.join(sentences)}." if sentences else NOTHING


KIND = Kind(
    draw=draw,
    say=say,
    caption="The two parts of the tangent along the angle, from data (0) to pure noise (π/2). {seeds}.",
    axis=OfCurve(),
)
