"""Networks of several sizes, and students against their own teachers."""

import math

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from trigbench.workflow.claims.statistics import interval, over_seeds, per_seed
from trigbench.workflow.report.drawing import engineering, floor, legend, line, log_scale, panels
from trigbench.workflow.report.kinds import Along, Kind
from trigbench.workflow.report.rows import (
    TEACHERS,
    Frame,
    first_way,
    in_order,
    is_lost,
    lines,
    results,
    steps_label,
    taught_by,
)
from trigbench.workflow.report.style import GUIDE, colour, dashes, marker, name
from trigbench.workflow.report.words import NOTHING
from trigbench.workflow.study.experiment import Experiment
from trigbench.workflow.study.quantities import QUANTITIES, Quantities


def draw(experiment: Experiment, runs: Frame, curves: Frame, known: Quantities = QUANTITIES) -> Figure:
    """The metric against the number of parameters, and the students' ratio to their own teacher."""
    rows = in_order(experiment, results(runs, experiment.metric))
    rows = rows.assign(teacher=taught_by(rows))
    taught = first_way(rows[rows.objective.isin(TEACHERS)])
    teachers = taught[~is_lost(taught)].set_index(["arm", "seed"]).value.to_dict()
    figure, (left, right) = panels(2, 4.2)
    for (objective, steps), words, group in lines(rows, ["objective", "steps"], "parameters"):
        style = {"color": colour(objective), "linestyle": dashes(steps), "marker": marker(objective)}
        style["label"] = f"{name(objective)}, {steps_label(steps, objective)}{words}"
        line(left, group, "parameters", **style)
        if objective not in TEACHERS:
            taught = group[group.teacher.isin(rows.arm)]
            own = [teachers.get(run, np.nan) for run in zip(taught.teacher, taught.seed, strict=True)]
            line(right, taught.assign(value=taught.value / np.array(own, float)), "parameters", **style)
    floor(left, runs, experiment.metric)
    right.axhline(1, color=GUIDE, linewidth=0.8)
    left.set_ylabel(known[experiment.metric].title)
    right.set_ylabel("student / its own teacher")
    for ax in (left, right):
        ax.set_xlabel("parameters")
        log_scale(ax.xaxis)
        engineering(ax)
    log_scale(left.yaxis)
    legend(figure, [left, right])
    return figure


def say(experiment: Experiment, runs: Frame, curves: Frame, known: Quantities = QUANTITIES) -> str:
    """The ratio of every student to its own teacher, by size."""
    rows = in_order(experiment, results(runs, experiment.metric))
    rows = rows.assign(teacher=taught_by(rows))
    own_ways = first_way(rows[rows.objective.isin(TEACHERS)])
    teachers = own_ways.set_index(["arm", "seed"]).value.to_dict()
    parts = []
    students = rows[~rows.objective.isin(TEACHERS)].sort_values(["objective", "steps"], kind="stable")
    for (objective, steps), words, group in lines(students, ["objective", "steps"], "size"):
        ratios = []
        for size, members in group.groupby("size", sort=False):
            values = per_seed(members)
            own = [teachers.get(run, math.nan) for run in zip(members.teacher, members.seed, strict=True)]
            found = interval(_ratio(values, own))
            ratios += [f"{size} {found}"] if found.seeds else []
        if not ratios:
            continue
        parts.append(f"{name(str(objective))}, {steps_label(float(steps))}{words}: " + ", ".join(ratios))
    trend = "; ".join(f"{size}{words} {over_seeds(g)}" for (size,), words, g in lines(own_ways, ["size"], "objective"))
    return f"Teachers: {trend}. Ratio student / teacher: " + "; ".join(parts) + "." if parts and trend else NOTHING


def _ratio(values: pd.Series, own: list[float]) -> list[float]:
    """Worst where either run diverged; nothing where there is no teacher."""
    pairs = [(value, other) for value, other in zip(values, own, strict=True) if not math.isnan(other)]
    return [value / other if math.isfinite(value) and math.isfinite(other) else math.inf for value, other in pairs]


KIND = Kind(
    draw=draw,
    say=say,
    caption="Left: {label} against the number of parameters. Right: the ratio of each student to the teacher that "
    "taught it, of the same seed. {seeds}.",
    axis=Along("parameters", "parameters", True, ("objective", "steps")),
)
