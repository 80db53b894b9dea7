"""The quality of samples along training."""

import pandas as pd
from matplotlib.figure import Figure

from trigbench.workflow.report.drawing import (
    crosses_at_the_end,
    floor,
    label_first,
    legend,
    line,
    panels,
    say_when_empty,
    styles,
)
from trigbench.workflow.report.kinds import Kind, OfCurve
from trigbench.workflow.report.rows import Frame, arm_of, points, steps_label
from trigbench.workflow.report.style import STEP, marker
from trigbench.workflow.report.words import NOTHING, best_first, capital, lead_of
from trigbench.workflow.study.experiment import Experiment
from trigbench.workflow.study.quantities import QUANTITIES, Quantities
from trigbench.workflow.study.records import REAL


def draw(experiment: Experiment, runs: Frame, curves: Frame, known: Quantities = QUANTITIES) -> Figure:
    """The metric of samples along training, a panel per number of steps."""
    rows = points(curves, experiment.metric)
    counts = sorted(rows.steps.dropna().unique()) or [1.0]
    figure, axes = panels(len(counts), 4.0, share_y=True)
    for ax, steps in zip(axes, counts, strict=True):
        at = rows[rows.steps == steps]
        for arm, style in styles(at):
            symbol = marker(at[at.arm == arm].objective.iloc[0])
            line(ax, at[at.arm == arm], "x", band=True, marker=symbol, **style)
        crosses_at_the_end(ax, runs, at, known[experiment.metric].better)
        floor(ax, runs, experiment.metric)
        ax.set(xlabel=STEP, title=steps_label(steps))
        say_when_empty(ax)
    label_first(axes, known[experiment.metric])
    legend(figure, axes)
    return figure


def say(experiment: Experiment, runs: Frame, curves: Frame, known: Quantities = QUANTITIES) -> str:
    """Who is ahead at the first, the middle and the last point, paired by seed; a diverged run is worst throughout."""
    rows = points(curves, experiment.metric)
    lost = runs[(runs.status == "diverged") & (runs.objective != REAL)][["arm", "seed"]]
    lost = lost.assign(arm=lost.arm.map(arm_of)).drop_duplicates()
    sentences = []
    for steps, group in rows.groupby("steps", sort=True):
        along = sorted(group.x.unique())
        parts = []
        for x in dict.fromkeys((along[0], along[(len(along) - 1) // 2], along[-1])):
            at = group[group.x == x]
            gone = (
                lost[~lost.apply(tuple, axis=1).isin(at[["arm", "seed"]].apply(tuple, axis=1))] if len(lost) else lost
            )
            at = pd.concat([at[["arm", "seed", "value"]], gone.assign(value=known[experiment.metric].worst)])
            arms = best_first(at, known[experiment.metric])
            parts.append(
                f"at step {x:.0f} " + (lead_of(at, arms, known[experiment.metric]) if len(arms) > 1 else arms[0])
            )
        sentences.append(f"{steps_label(steps)}: {'; '.join(parts)}")
    return f"{capital(known[experiment.metric].label)}. {'. '.join(sentences)}." if sentences else NOTHING


KIND = Kind(
    draw=draw,
    say=say,
    caption="{label} of samples along training, by number of steps. {seeds}.",
    axis=OfCurve(),
)
