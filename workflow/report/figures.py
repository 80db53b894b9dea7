"""One function per kind of figure: the experiment's tidy rows -> a figure.

Bars and bands span the seeds, lines are their mean; a diverged run is a cross at the edge of the worst values.
"""

import itertools
import re
from collections.abc import Callable

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, MaxNLocator

from trigbench.core.constants import MID_TIME
from trigbench.workflow.claims.statistics import per_seed
from trigbench.workflow.report.drawing import (
    arm_of,
    crosses,
    evaluations,
    first_way,
    floor,
    in_order,
    is_lost,
    legend,
    line,
    lines,
    log_metric,
    log_scale,
    mark,
    numeric,
    panels,
    points,
    results,
    say_when_empty,
    steps_label,
    taught_by,
)
from trigbench.workflow.report.style import PRECISIONS, colour, dashes, marker, name
from trigbench.workflow.study.quantities import QUANTITIES, Quantities, Quantity
from trigbench.workflow.study.schema import Experiment

Frame = pd.DataFrame
ANGLE = "angle t  (0: data, π/2: noise)"
NETWORKS = {
    "fourier": ("--", "s", "Fourier features of the angle"),
    "log": ("-.", "^", "positional, log noise level"),
    "fourier-log": (":", "D", "Fourier features, log noise level"),
}
"""Line, marker and words for the sizes that change how the network is told the time."""
SOLVERS = {
    "heun": ("-", "d", "Heun"),
    "ddim": (":", "<", "DDIM"),
    "dpm_2s": ("--", "P", "DPM-Solver 2S"),
    "dpm_pp_2m": ("-.", "h", "DPM-Solver++ 2M"),
}
"""Line, marker and words for the teacher's solvers."""


def discretisation(experiment: Experiment, runs: Frame, curves: Frame, known: Quantities = QUANTITIES) -> Figure:
    """The metric against N, a line per precision and number of steps; methods without N as bands."""
    rows = results(runs, experiment.metric)
    counts = sorted(rows[rows.intervals.notna()].steps.dropna().unique()) or [None]
    figure, axes = panels(len(counts), 4.3, share_y=True)
    for ax, steps in zip(axes, counts, strict=True):
        _sweep(ax, rows if steps is None else rows[(rows.steps == steps) | (rows.objective == "diffusion")])
        floor(ax, runs, experiment.metric)
        ax.set_xlabel("number of intervals N")
        ax.set_xscale("log", base=2)
        if rows.intervals.notna().any():  # said outright: crosses alone would not set it
            ax.set_xlim(rows.intervals.min() / 1.5, rows.intervals.max() * 1.5)
        ax.set_title("" if steps is None else steps_label(steps))
        say_when_empty(ax)
    _label_first(axes, known[experiment.metric])
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
            if rank and objective == "diffusion":
                continue
            values = per_seed(group[~is_lost(group)])
            if len(values):
                label = name(objective) + ("" if objective == "diffusion" else suffix) + words
                ax.axhline(values.mean(), color=colour(objective), linestyle=style, linewidth=1.4, label=label)
                ax.axhspan(values.min(), values.max(), color=colour(objective), alpha=0.10, linewidth=0)


def map_error(experiment: Experiment, runs: Frame, curves: Frame, known: Quantities = QUANTITIES) -> Figure:
    """RMS error of the learned map as a function of the angle."""
    return _curves(runs, points(curves, "map_rms"), ANGLE, "RMS error of the map at t")


def training(experiment: Experiment, runs: Frame, curves: Frame, known: Quantities = QUANTITIES) -> Figure:
    """The norm of the direction, before any control, along training."""
    return _curves(runs, points(curves, experiment.metric), "optimiser step", "norm of the direction, batch mean")


def _curves(runs: Frame, rows: Frame, along: str, label: str) -> Figure:
    figure, axes = panels(1, 4.4)
    for arm, style in _styles(rows):
        line(axes[0], rows[rows.arm == arm], "x", band=True, **style)
    _crosses_at_the_end(axes[0], runs, rows)
    axes[0].set(xlabel=along, ylabel=label)
    log_scale(axes[0].yaxis)
    say_when_empty(axes[0])
    legend(figure, axes)
    return figure


def methods(experiment: Experiment, runs: Frame, curves: Frame, known: Quantities = QUANTITIES) -> Figure:
    """The metric by arm and number of steps, every seed a point.

    Beside it precision and recall where measured; or the learned weight, where one method's arms differ in having one;
    or the bias of normalising sCT's directions, where that was measured.
    """
    weights = _weights_in_question(results(runs, experiment.metric), points(curves, "log_weight"))
    bias = points(curves, "normalisation_bias")
    bias = bias[bias.value.notna()]
    wanted = [m for m in (experiment.metric, "precision", "recall") if m in set(runs.metric)] or [experiment.metric]
    wanted = wanted[:1] if len(weights) or len(bias) else wanted
    arms = _in_blocks(in_order(experiment, results(runs, *wanted)))
    count = len(wanted) + (len(weights) > 0 or len(bias) > 0)
    figure, axes = panels(count, 1.6 + 0.34 * max(len(arms), 4), ratios=[1.25, *[1.0] * (count - 1)])
    for ax, metric in zip(axes, wanted, strict=False):
        _by_arm(ax, results(runs, metric), arms, known[metric])
        floor(ax, runs, metric, across=True)
        ax.tick_params(axis="y", left=False, labelleft=ax is axes[0])
    if len(weights):
        for arm, style in _styles(weights):
            line(axes[-1], weights[weights.arm == arm], "x", band=True, **(style | {"label": arm}))
        axes[-1].set(xlabel=ANGLE, ylabel="learned w(t), log weight")
        axes[-1].legend(loc="best", fontsize=8)
    elif len(bias):
        line(axes[-1], bias, "x", color=colour("sct"), linestyle="-", marker=marker("sct"))
        axes[-1].set(xlabel="dimension", ylabel="bias of sCT's normalised direction,\nmean over root mean square")
        axes[-1].set_xscale("log", base=2)
    counts = results(runs, experiment.metric)[["steps", "objective"]].dropna().drop_duplicates()
    marks = [mark(_steps_marker(k), "", steps_label(k, o)) for k, o in sorted(counts.itertuples(index=False))]
    legend(figure, axes[: len(wanted)], marks)
    return figure


def _weights_in_question(rows: Frame, weights: Frame) -> Frame:
    """The learned weights of the methods that the experiment runs with and without one."""
    without = set(rows[~rows.arm.map(arm_of).isin(weights.arm) & (rows.status != "diverged")].objective)
    return weights[weights.objective.isin(without)]


def _in_blocks(rows: Frame) -> list[str]:
    """Arms in their order, those of one method and data together."""
    firsts = rows.drop_duplicates("arm")
    return [arm for _, block in firsts.groupby(["data", "objective"], sort=False, dropna=False) for arm in block.arm]


def _by_arm(ax: Axes, rows: Frame, arms: list[str], quantity: Quantity) -> None:
    better = quantity.better
    for position, arm in enumerate(arms):
        mine = rows[rows.arm == arm]
        if not len(mine):
            continue
        lost, face = is_lost(mine), colour(mine.objective.iloc[0])
        crosses(ax, np.array([position] if lost.any() else []), face, better, across=True)
        counts = sorted(mine.steps.dropna().unique()) or [np.nan]
        for rank, steps in enumerate(counts):
            values = per_seed(mine[~lost & (mine.steps.isna() if np.isnan(steps) else mine.steps == steps)])
            if not len(values):
                continue
            y, symbol = position + (rank - (len(counts) - 1) / 2) * 0.34, _steps_marker(steps)
            ax.hlines(y, values.min(), values.max(), color=face, linewidth=1.5)
            ax.scatter(values, [y] * len(values), color=face, marker=symbol, s=18, alpha=0.5, linewidth=0)
            ax.scatter(values.mean(), y, facecolor=face, edgecolor="white", marker=symbol, s=52, zorder=3)
    ax.set(yticks=range(len(arms)), yticklabels=arms, ylim=(len(arms) - 0.4, -0.6))
    first = rows.drop_duplicates("arm").set_index("arm")
    blocks = first[["objective", "data"]].drop_duplicates()
    for position, (one, other) in enumerate(itertools.pairwise(arms)) if len(blocks) < len(first) else ():
        if one in first.index and other in first.index and first.objective[one] != first.objective[other]:
            ax.axhline(position + 0.5, color="#dddddd", linewidth=0.8)
    values = rows.value[~is_lost(rows)]
    ax.set_xlabel(quantity.title)
    if better == "lower" and not quantity.signed and len(values) and values.max() > 8 * values.min() > 0:
        log_scale(ax.xaxis)
    else:
        ax.xaxis.set_major_locator(MaxNLocator(4))
    ax.grid(axis="x", alpha=0.3)


def _steps_marker(count: float) -> str:
    """One, two, more; a circle for what has no steps."""
    return "o" if np.isnan(count) or count == 1 else "s" if count == 2 else "D"


def sizes(experiment: Experiment, runs: Frame, curves: Frame, known: Quantities = QUANTITIES) -> Figure:
    """The metric against the number of parameters, and the students' ratio to their own teacher."""
    rows = in_order(experiment, results(runs, experiment.metric))
    rows = rows.assign(teacher=taught_by(rows))
    taught = first_way(rows[rows.objective == "diffusion"])
    teachers = taught[~is_lost(taught)].set_index(["arm", "seed"]).value.to_dict()
    figure, (left, right) = panels(2, 4.2)
    for (objective, steps), words, group in lines(rows, ["objective", "steps"], "parameters"):
        style = {"color": colour(objective), "linestyle": dashes(steps), "marker": marker(objective)}
        style["label"] = f"{name(objective)}, {steps_label(steps, objective)}{words}"
        line(left, group, "parameters", **style)
        if objective != "diffusion":
            taught = group[group.teacher.isin(rows.arm)]
            own = [teachers.get(run, np.nan) for run in zip(taught.teacher, taught.seed, strict=True)]
            line(right, taught.assign(value=taught.value / np.array(own, float)), "parameters", **style)
    floor(left, runs, experiment.metric)
    right.axhline(1, color="#999999", linewidth=0.8)
    left.set_ylabel(known[experiment.metric].title)
    right.set_ylabel("student / its own teacher")
    for ax in (left, right):
        ax.set_xlabel("parameters")
        log_scale(ax.xaxis)
        _engineering(ax)
    log_scale(left.yaxis)
    legend(figure, [left, right])
    return figure


def memorisation(experiment: Experiment, runs: Frame, curves: Frame, known: Quantities = QUANTITIES) -> Figure:
    """Distances to the nearest training and to the nearest held-out image, by arm."""
    parts = {"nearest_train": ("o", "nearest training image"), "nearest_held_out": ("D", "nearest held-out image")}
    rows = results(runs, *parts)
    ways = list(rows[["arm", "steps", "objective"]].drop_duplicates().sort_values(["steps"]).groupby("arm", sort=False))
    ways = [way for arm in dict.fromkeys(rows.arm) for found, way in ways if found == arm]
    ticks = [way for group in ways for way in group.itertuples(index=False)]
    figure, (ax,) = panels(1, 1.5 + 0.32 * max(len(ticks), 4))
    for position, way in enumerate(ticks):
        mine = rows[(rows.arm == way.arm) & (rows.steps == way.steps)]
        lost = is_lost(mine)
        crosses(ax, np.array([position] if lost.any() else []), colour(way.objective), across=True)
        for metric, (symbol, _) in parts.items():
            values = mine[(mine.metric == metric) & ~lost].value
            y = position + (-0.15 if symbol == "o" else 0.15)
            ax.scatter(values, [y] * len(values), color=colour(way.objective), marker=symbol, s=30)
    found = numeric(runs[(runs.objective == "data") & (runs.metric == "nearest_train")])
    for _, rows in found.groupby("data", dropna=False):
        ax.axvline(per_seed(rows).mean(), color=colour("data"), linestyle="--")
    labels = [f"{way.arm}, {steps_label(way.steps, way.objective)}" for way in ticks]
    ax.set(yticks=range(len(ticks)), yticklabels=labels, xlabel="mean Euclidean distance, unit variance")
    ax.invert_yaxis()
    marks = [mark(symbol, "", label) for symbol, label in parts.values()]
    legend(figure, [ax], [*marks, mark(None, "--", "held-out to nearest training image")])
    return figure


def tangents(experiment: Experiment, runs: Frame, curves: Frame, known: Quantities = QUANTITIES) -> Figure:
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
        _crosses_at_the_end(ax, runs, rows)
        ax.set(xlabel=ANGLE, title=title)
        log_scale(ax.yaxis)
        say_when_empty(ax)
    axes[0].set_ylabel("norm of this part of the tangent")
    marks = [Line2D([], [], color=colour(o), linewidth=4, label=name(o)) for o in dict.fromkeys(found.objective)]
    order = [words for _, _, words in NETWORKS.values()]
    shown = sorted(networks.items(), key=lambda item: order.index(item[0]) if item[0] in order else -1)
    legend(figure, axes, marks + [mark(symbol, style, words) for words, (style, symbol) in shown])
    return figure


def _crosses_at_the_end(ax: Axes, runs: Frame, rows: Frame, better: str = "lower") -> None:
    """Of methods with a diverged run: its curve ends early, or is not there at all."""
    lost = runs[runs.status == "diverged"].objective
    for objective in dict.fromkeys(lost):
        crosses(ax, np.array([rows.x.max() if len(rows) else 1.0]), colour(objective), better)


def quality_curves(experiment: Experiment, runs: Frame, curves: Frame, known: Quantities = QUANTITIES) -> Figure:
    """The metric of samples along training, a panel per number of steps."""
    rows = points(curves, experiment.metric)
    counts = sorted(rows.steps.dropna().unique()) or [1.0]
    figure, axes = panels(len(counts), 4.0, share_y=True)
    for ax, steps in zip(axes, counts, strict=True):
        at = rows[rows.steps == steps]
        for arm, style in _styles(at):
            symbol = marker(at[at.arm == arm].objective.iloc[0])
            line(ax, at[at.arm == arm], "x", band=True, marker=symbol, **style)
        _crosses_at_the_end(ax, runs, at, known[experiment.metric].better)
        floor(ax, runs, experiment.metric)
        ax.set(xlabel="optimiser step", title=steps_label(steps))
        say_when_empty(ax)
    _label_first(axes, known[experiment.metric])
    legend(figure, axes)
    return figure


def guidance(experiment: Experiment, runs: Frame, curves: Frame, known: Quantities = QUANTITIES) -> Figure:
    """Distance, precision and recall against the scale of guidance."""
    wanted = list(dict.fromkeys([experiment.metric, "precision", "recall"]))
    figure, axes = panels(len(wanted), 3.9)
    for ax, metric in zip(axes, wanted, strict=True):
        rows = results(runs, metric)
        groups = rows[rows.guidance.notna()].groupby(["arm", "objective", "steps"], sort=False)
        for rank, ((_, objective, steps), group) in enumerate(groups):
            apart = group.assign(guidance=group.guidance + 0.018 * (rank - (len(groups) - 1) / 2))  # bars side by side
            style = {"color": colour(objective), "linestyle": dashes(steps), "marker": marker(objective)}
            label = f"{name(objective)}, {steps_label(steps, objective)}"
            line(ax, apart, "guidance", known[metric].better, label=label, **style)
        floor(ax, runs, metric)
        ax.set(xlabel="guidance scale (1: none)", xticks=sorted(rows.guidance.dropna().unique()))
        log_metric(ax, known[metric])
        say_when_empty(ax)
    legend(figure, axes)
    return figure


def steps(experiment: Experiment, runs: Frame, curves: Frame, known: Quantities = QUANTITIES) -> Figure:
    """The metric against what a sample costs in evaluations of the network, a line per method, solver and network."""
    rows = results(runs, experiment.metric)
    rows = rows[rows.steps.notna()]
    rows = rows.assign(teacher=taught_by(rows).fillna(""), steps=evaluations(rows))
    networks = list(rows.sort_values("parameters", kind="stable").teacher.unique())
    figure, axes = panels(1, 4.6)
    for (objective, sampler), alike in rows.groupby(["objective", "sampler"], sort=False):
        style, symbol, words = SOLVERS.get(sampler, ("-", marker(objective), ""))
        face = {"markerfacecolor": "white"} if sampler in SOLVERS else {}
        for (network, _), own, group in sorted(
            lines(alike.sort_values(["teacher", "size"], kind="stable"), ["teacher", "size"], "steps"),
            key=lambda found: networks.index(found[0][0]),
        ):
            label = name(objective) + (f", {words}" if words else "")
            label += (f", {group['size'].iloc[0]}" if len(networks) > 1 else "") + own
            shade = sns.light_palette(colour(objective), len(networks) + 1)[1 + networks.index(network)]
            line(
                axes[0], group, "steps", known[experiment.metric].better,
                color=shade, linestyle=style, marker=symbol, label=label, **face,
            )  # fmt: skip
    floor(axes[0], runs, experiment.metric)
    axes[0].set_xlabel("evaluations of the network per sample (steps of a student)")
    axes[0].set_xscale("log", base=2)
    doubling = [2**k for k in range(8) if 2**k <= rows.steps.max()] or [1]
    axes[0].set_xticks(doubling, [str(k) for k in doubling])
    axes[0].minorticks_off()
    log_metric(axes[0], known[experiment.metric])
    say_when_empty(axes[0])
    legend(figure, axes)
    return figure


def mid_time(experiment: Experiment, runs: Frame, curves: Frame, known: Quantities = QUANTITIES) -> Figure:
    """The metric of two-step samples against the middle angle; stars are what CM's search found."""
    rows = results(runs, experiment.metric)
    rows = rows[rows.mid_time.notna() & (rows.steps == 2)]
    rows, found = rows[rows.sampler != SEARCH], rows[rows.sampler == SEARCH]
    figure, axes = panels(1, 4.2)
    for arm, style in _styles(rows):
        symbol = marker(rows[rows.arm == arm].objective.iloc[0])
        line(
            axes[0],
            rows[rows.arm == arm],
            "mid_time",
            known[experiment.metric].better,
            band=True,
            marker=symbol,
            **style,
        )
    for objective, group in found.groupby("objective", sort=False):
        label = f"{name(objective)}, found by search (other noise)"
        axes[0].scatter(
            group.mid_time,
            group.value,
            marker="*",
            s=110,
            facecolor="white",
            edgecolor=colour(objective),
            label=label,
            zorder=3,
        )
    axes[0].axvline(MID_TIME, color="#999999", linestyle=":", linewidth=1.4, label=f"{MID_TIME:g}, the paper's")
    axes[0].set_xlabel("middle angle of two steps  (0: data, π/2: noise)")
    if rows.mid_time.nunique():
        axes[0].set_xticks(sorted(rows.mid_time.unique()))
    log_metric(axes[0], known[experiment.metric])
    say_when_empty(axes[0])
    legend(figure, axes)
    return figure


def compute(experiment: Experiment, runs: Frame, curves: Frame, known: Quantities = QUANTITIES) -> Figure:
    """The metric against the compute of one sample and of training, sizes connected and named."""
    rows = results(runs, experiment.metric)
    figure, axes = panels(2, 4.4, share_y=True)
    for ax, (cost, label) in zip(axes, (sampling_compute(runs, rows), training_compute(runs, rows)), strict=True):
        found = rows.assign(cost=cost)
        for (objective, count), words, group in lines(found, ["objective", "steps"], "size"):
            placed = group.assign(cost=group.groupby("size").cost.transform("mean")).dropna(subset=["cost"])
            style = {"color": colour(objective), "linestyle": dashes(count), "marker": marker(objective)}
            line(ax, placed, "cost", label=f"{name(objective)}, {steps_label(count, objective)}{words}", **style)
            first = count == rows[~is_lost(rows) & (rows.objective == objective)].steps.min()
            for size, at in placed[~is_lost(placed) & first].groupby("size")[["cost", "value"]].mean().iterrows():
                ax.annotate(
                    str(size), (at.cost, at.value), (4, 4), textcoords="offset points",
                    fontsize=8, color=colour(objective),
                )  # fmt: skip
        floor(ax, runs, experiment.metric)
        ax.set_xlabel(label)
        log_scale(ax.xaxis)
        _engineering(ax)
        say_when_empty(ax)
    _label_first(axes, known[experiment.metric])
    legend(figure, axes)
    return figure


def sampling_compute(runs: Frame, rows: Frame) -> tuple[np.ndarray, str]:
    """(what one sample of each row costs, in words): counted operations, else parameters times evaluations."""
    flops = results(runs, "sample_flops")
    table = flops.dropna(subset=["value"]).groupby(["arm", "steps"]).value.mean().to_dict()
    found = np.array([table.get(key, np.nan) for key in zip(rows.arm, rows.steps, strict=True)], float)
    if len(table) and not np.isnan(found[~is_lost(rows)]).any():
        return found, "FLOP of one sample"
    return (rows.parameters * evaluations(rows)).to_numpy(), "parameters × evaluations per sample (FLOP not counted)"


def training_compute(runs: Frame, rows: Frame) -> tuple[np.ndarray, str]:
    """(what training each row's run cost, in words): counted operations, else parameters times images seen."""
    tables = {m: results(runs, m).dropna(subset=["value"]) for m in ("train_flops", "images_seen")}
    costs = {m: t.groupby("arm").value.mean().to_dict() for m, t in tables.items()}
    found = {m: np.array([table.get(arm_of(arm), np.nan) for arm in rows.arm], float) for m, table in costs.items()}
    if costs["train_flops"] and not np.isnan(found["train_flops"][~is_lost(rows)]).any():
        return found["train_flops"], "FLOP of training, without its teacher's"
    return found["images_seen"] * rows.parameters.to_numpy(), "parameters × images seen (FLOP not counted)"


def theory(experiment: Experiment, runs: Frame, curves: Frame, known: Quantities = QUANTITIES) -> Figure:
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
        ax.set_xlabel("number of intervals N")
        ax.set_xscale("log", base=2)
        log_scale(ax.yaxis)
        say_when_empty(ax)
    legend(figure, axes)
    return figure


def _in_steps(count: float) -> str:
    return "" if np.isnan(count) else f", {steps_label(count)}"


ORDERS = {"euler": ("-", "^", 1), "heun": ("--", "v", 2)}
"""Line, marker and order of a solver."""
THEORY = {
    "ct_minus_cd_loss": ("loss of CT minus loss of CD", "#CC79A7", "h"),
    "gradient_bias": ("bias of CT's gradient", "#E69F00", "<"),
    "gradient_noise": ("noise of CT's gradient", "#5C2E0B", ">"),
}
"""Words, colour and marker of what theory computes beside errors."""
TARGETS = {"ct": ("-", ""), "ct_ema": ("--", ", targets from a lagging average")}
"""Line and words of where the targets come from."""
SEARCH = "search"
"""The sampler of rows that a search for middle times left."""


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
    ax.plot(n, means.iloc[0] * (n[0] / n) ** order, color="#999999", linewidth=0.9, linestyle=(0, (1, 1.5)), zorder=1)
    end = f"N$^{{-{order}}}$"
    ax.annotate(end, (n[-1], means.iloc[0] * (n[0] / n[-1]) ** order), (4, -3), textcoords="offset points", fontsize=9)


def _styles(rows: Frame) -> list[tuple[str, dict]]:
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


def _label_first(axes: list[Axes], quantity: Quantity) -> None:
    """One label for axes that share theirs."""
    log_metric(axes[0], quantity)
    for ax in axes[1:]:
        ax.set_ylabel("")
        ax.tick_params(labelleft=False)


def _engineering(ax: Axes) -> None:
    """50000 -> 50k, 3e9 -> 3G."""
    if ax.get_xscale() == "log":
        ax.xaxis.set_major_formatter(EngFormatter(sep=""))


FIGURES: dict[str, Callable[..., Figure]] = {
    "discretisation": discretisation,
    "map_error": map_error,
    "training": training,
    "methods": methods,
    "sizes": sizes,
    "memorisation": memorisation,
    "tangents": tangents,
    "quality_curves": quality_curves,
    "guidance": guidance,
    "steps": steps,
    "mid_time": mid_time,
    "compute": compute,
    "theory": theory,
}
