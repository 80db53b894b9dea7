"""Quality against what a sample costs in evaluations of the network."""

import math
from collections import Counter

import seaborn as sns
from matplotlib.figure import Figure

from trigbench.core.objectives import OBJECTIVES
from trigbench.core.solvers import SOLVERS
from trigbench.workflow.report.drawing import floor, legend, line, log_metric, panels, say_when_empty
from trigbench.workflow.report.kinds import Along, Kind, of_families
from trigbench.workflow.report.rows import Frame, evaluations, is_lost, lines, points, results, steps_label, taught_by
from trigbench.workflow.report.style import LINES, colour, marker, name
from trigbench.workflow.report.words import NOTHING, best_first, compared, mean_of, with_worst
from trigbench.workflow.study.experiment import Experiment
from trigbench.workflow.study.measurements import MEASUREMENTS
from trigbench.workflow.study.quantities import QUANTITIES, Quantities, Quantity

ERRORS = {
    "excess_renoised": ("exact map with an error, all re-noised", "#0072B2", "-"),
    "predicted_renoised": ("a Gaussian in closed form, all re-noised", "#0072B2", ":"),
    "excess_jumps": ("exact map with an error, nothing re-noised", "#D55E00", "-"),
    "predicted_jumps": ("a Gaussian in closed form, nothing re-noised", "#D55E00", ":"),
}
"""Words, colour and line."""
SEGMENTED = frozenset(name for name, method in OBJECTIVES.items() if "segments" in method.needs)
"""Objectives of students that have a network for each number of steps."""
MEASURED = {sampler: drawn for one in MEASUREMENTS.values() for sampler, drawn in one.samples.items()}


def draw(experiment: Experiment, runs: Frame, curves: Frame, known: Quantities = QUANTITIES) -> Figure:
    """The metric against what a sample costs in evaluations of the network, a line per method, solver and network.

    Beside it what a controlled error of the map becomes by steps, where that was measured.
    """
    rows = results(runs, experiment.metric)
    rows = rows[rows.steps.notna()]
    rows = rows.assign(teacher=taught_by(rows).fillna(""), steps=evaluations(rows))
    networks = list(rows.sort_values("parameters", kind="stable").teacher.unique())
    sized = len(set(rows["size"])) > 1
    errors = points(curves, *ERRORS)
    figure, axes = panels(1 + bool(errors.value.notna().any()), 4.6)
    for (objective, sampler), alike in rows.groupby(["objective", "sampler"], sort=False):
        known_one = SOLVERS.get(sampler)
        words, style, symbol = MEASURED.get(sampler, ("", "-", marker(objective)))
        if known_one:
            words, style, symbol = known_one.name, known_one.line, known_one.marker
        face = {"markerfacecolor": "white"} if known_one else {}
        drawn = Counter[str]()
        for (network, size), own, group in sorted(
            lines(alike.sort_values(["teacher", "size"], kind="stable"), ["teacher", "size"], "steps"),
            key=lambda found: networks.index(found[0][0]),
        ):
            label = name(objective) + (f", {words}" if words else "")
            label += (f", {size if sized else network}" if len(networks) > 1 else "") + own
            label = words if sampler in MEASURED else label  # no sampling of a run's: of two together, say
            of_arm = LINES[drawn[network] % len(LINES)] if style == LINES[0] else style
            drawn[network] += 1
            shade = sns.light_palette(colour(objective), len(networks) + 1)[1 + networks.index(network)]
            line(
                axes[0], group, "steps", known[experiment.metric].better,
                color=shade, linestyle=of_arm, marker=symbol, label=label, **face,
            )  # fmt: skip
    floor(axes[0], runs, experiment.metric)
    axes[0].set_xlabel("evaluations of the network per sample (steps of a student)")
    axes[0].set_xscale("log", base=2)
    doubling = [2**k for k in range(8) if 2**k <= rows.steps.max()] or [1]
    axes[0].set_xticks(doubling, [str(k) for k in doubling])
    axes[0].minorticks_off()
    log_metric(axes[0], known[experiment.metric])
    say_when_empty(axes[0])
    for metric, (words, shade, style) in ERRORS.items() if len(axes) > 1 else ():
        own = errors[errors.metric == metric]
        line(axes[1], own, "x", color=shade, linestyle=style, marker="o", label=words)
        axes[1].set(xlabel="steps", ylabel="size of samples over\nthat without an error, less 1")
        axes[1].set_xscale("log", base=2)
    legend(figure, axes)
    return figure


def say(experiment: Experiment, runs: Frame, curves: Frame, known: Quantities = QUANTITIES) -> str:
    """The best way to sample at each budget of evaluations, and two-step sCD against multi-step sCD of two segments."""
    of = known[experiment.metric]
    rows = results(runs, experiment.metric)
    rows = rows[rows.steps.notna()].assign(value=lambda r: with_worst(r, of), steps=evaluations, teacher=taught_by)
    if is_lost(rows).all():
        return NOTHING
    ways = rows.assign(way=[_way(*row) for row in zip(rows.arm, rows.objective, rows.sampler, rows.steps, strict=True)])
    alone = ways["data"].nunique() <= 1  # distances to other data compare with nothing
    said = [
        ("" if alone else f" on {data}") + f": {_best_ways(own, of)}"
        for data, own in ways.groupby("data", sort=False, dropna=False)
    ]
    text = f"Best within a budget of evaluations (where it changes){';'.join(said)}"
    for pair in ((segmented, method.unsegmented) for segmented, method in OBJECTIVES.items() if method.unsegmented):
        two = rows[(rows.steps == 2) & rows.objective.isin(pair)]
        for _, alike in two.groupby("teacher", sort=False):
            arms = [next(iter(alike[alike.objective == objective].arm), None) for objective in pair]
            if None not in arms:
                side, shown = compared(alike, str(arms[0]), str(arms[1]), of)
                text += f". Two steps of {arms[1]} against {arms[0]}: {side}, {shown}"
    return text + "."


def _best_ways(ways: Frame, of: Quantity) -> str:
    best, parts = "", []
    for budget in sorted(ways.steps.unique()):
        within = ways[ways.steps <= budget].assign(arm=ways.way)
        leader = best_first(within, of)[0]
        if leader != best and math.isfinite(mean_of(within, leader).mean):
            parts.append(f"{budget:.0f}: {leader}, {mean_of(within, leader)}")
        best = leader
    return "; ".join(parts)


def _way(arm: str, objective: str, sampler: str, count: float) -> str:
    solver = f" by {SOLVERS[sampler].name}" if sampler in SOLVERS else ""
    solver += f" ({MEASURED[sampler][0]})" if sampler in MEASURED else ""
    return f"{arm}{solver} in {steps_label(count, objective)}"


def _by_cost(rows: Frame) -> Frame:
    """By evaluations; a student of segments is one of a family, too."""
    swept = rows.steps.where(rows.objective.isin(SEGMENTED))
    return of_families(rows.assign(steps=evaluations(rows)), swept)


KIND = Kind(
    draw=draw,
    say=say,
    caption="{label} against evaluations of the network per sample; a guided teacher takes two for each of its "
    "solver's. {seeds}.",
    axis=Along("steps", "evaluations of the network per sample", True, ("family", "sampler"), _by_cost),
    separate=("sampler",),
    pictured=True,
)
