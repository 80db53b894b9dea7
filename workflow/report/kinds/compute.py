"""Quality against the compute of one sample and of training."""

import math

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from trigbench.workflow.report.drawing import (
    engineering,
    floor,
    label_first,
    legend,
    line,
    log_metric,
    log_scale,
    panels,
    say_when_empty,
)
from trigbench.workflow.report.kinds import Along, Kind
from trigbench.workflow.report.rows import (
    TEACHERS,
    Frame,
    arm_of,
    evaluations,
    first_way,
    is_lost,
    lines,
    results,
    steps_label,
    taught_by,
)
from trigbench.workflow.report.style import colour, dashes, marker, name
from trigbench.workflow.report.words import NOTHING, as_factor, by_seed, geometric_mean, in_a_word
from trigbench.workflow.study.experiment import Experiment
from trigbench.workflow.study.quantities import QUANTITIES, Quantities, Quantity

STROKES = ("-", "--", ":", "-.")
"""Of numbers of intervals, by size."""


def draw(experiment: Experiment, runs: Frame, curves: Frame, known: Quantities = QUANTITIES) -> Figure:
    """The metric against the compute of one sample and of training, sizes connected and named.

    What is measured of the map itself has no samples: there each method's lengths of training are connected.
    """
    rows = results(runs, experiment.metric)
    if len(rows) and rows.steps.isna().all():
        return _of_the_map(experiment, rows, *training_compute(runs, rows), known)
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
        engineering(ax)
        say_when_empty(ax)
    label_first(axes, known[experiment.metric])
    legend(figure, axes)
    return figure


def _of_the_map(experiment: Experiment, rows: Frame, cost: np.ndarray, label: str, known: Quantities) -> Figure:
    figure, axes = panels(1, 4.4)
    found = rows.assign(cost=cost, intervals=rows.intervals.fillna(0)).dropna(subset=["cost"])
    found = found.sort_values("cost", kind="stable")
    grids = sorted(found.intervals.unique())
    for (objective, intervals), words, group in lines(found, ["objective", "intervals"], "cost"):
        style = {
            "color": colour(objective),
            "linestyle": STROKES[grids.index(intervals) % 4],
            "marker": marker(objective),
        }
        line(axes[0], group, "cost", label=f"{name(objective)}{_of_intervals(intervals)}{words}", **style)
    axes[0].set_xlabel(label)
    log_scale(axes[0].xaxis)
    engineering(axes[0])
    say_when_empty(axes[0])
    log_metric(axes[0], known[experiment.metric])
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


def say(experiment: Experiment, runs: Frame, curves: Frame, known: Quantities = QUANTITIES) -> str:
    """Distance and compute of the largest two-step student over its teacher's; of a map, what longer training buys."""
    rows = results(runs, experiment.metric)
    if len(rows) and rows.steps.isna().all():
        return _said_of_the_map(rows, training_compute(runs, rows)[0], known[experiment.metric])
    costs = {"sampling": sampling_compute(runs, rows), "training": training_compute(runs, rows)}
    rows = rows.assign(teacher=taught_by(rows), **{kind: cost for kind, (cost, _) in costs.items()})
    teaches = rows.objective.isin(TEACHERS)
    teachers, students = rows[teaches], rows[(rows.steps == 2) & ~teaches]
    parts = []
    for _, group in students[students.teacher.isin(teachers.arm)].groupby("objective", sort=False):
        largest = group.loc[group.parameters.idxmax()]
        student = group[group.arm == largest.arm]
        teacher = first_way(teachers[teachers.arm == largest.teacher])
        both = pd.concat([student.assign(arm="student"), teacher.assign(arm="teacher")])
        table = by_seed(both, ["student", "teacher"])
        if not len(table):
            continue
        finite = np.isfinite(table).all(axis=None) and (table > 0).all(axis=None)
        ratio = (
            as_factor(geometric_mean(table.student / table.teacher)) + f" the {in_a_word(known[experiment.metric])}"
            if finite
            else "a run diverged"
        )
        shares = [_share(student[kind].mean() / teacher[kind].mean(), kind) for kind in costs]
        fewer = "; ".join(share for share in shares if share)
        parts.append(
            f"{student.arm.iloc[0]} in 2 steps against {teacher.arm.iloc[0]}: {ratio}" + (f"; {fewer}" if fewer else "")
        )
    estimated = any("not counted" in words for _, words in costs.values())
    note = (
        " Compute is estimated from parameters, evaluations and images where FLOP were not counted."
        if estimated
        else ""
    )
    return f"At the largest size, {'; '.join(parts)}.{note}" if parts else NOTHING


def _said_of_the_map(rows: Frame, cost: np.ndarray, quantity: Quantity) -> str:
    """Of each method, and number of intervals, the longest training over the shortest, by the seeds of both."""
    found, parts = rows.assign(cost=cost, intervals=rows.intervals.fillna(0)), []
    for (objective, intervals), group in found.dropna(subset=["cost"]).groupby(["objective", "intervals"], sort=False):
        ends = group.cost.min(), group.cost.max()
        if ends[0] == ends[1]:
            continue
        both = [group[group.cost == end].assign(arm=word) for end, word in zip(ends, ("short", "long"), strict=True)]
        table = by_seed(pd.concat(both), ["short", "long"])
        if len(table) and np.isfinite(table).all(axis=None) and (table > 0).all(axis=None):
            ratio = as_factor(geometric_mean(table.long / table.short))
            longer = f"{ends[1] / ends[0]:.3g} times the training"
            parts.append(f"{name(objective)}{_of_intervals(intervals)}: {ratio} at {longer}")
    return f"{quantity.title}, longest training over shortest: {'; '.join(parts)}." if parts else NOTHING


def _of_intervals(intervals: float) -> str:
    return f", N = {intervals:.0f}" if intervals else ""


def _share(ratio: float, kind: str) -> str:
    """`0.057 times the sampling compute`; nothing where it is not known."""
    if not math.isfinite(ratio):
        return ""
    return f"{ratio:.2g} times the {kind} compute" + (" (its teacher's comes on top)" if kind == "training" else "")


KIND = Kind(
    draw=draw,
    say=say,
    caption="{label} against what one sample and what training costs; sizes are connected. {seeds}.",
    axis=Along("parameters", "parameters", True, ("objective", "steps")),
)
