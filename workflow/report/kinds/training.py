"""The norm of the direction along training."""

import math

from matplotlib.figure import Figure

from trigbench.workflow.claims.statistics import over_seeds
from trigbench.workflow.report.drawing import curves_along
from trigbench.workflow.report.kinds import Kind, OfCurve
from trigbench.workflow.report.rows import Frame, points
from trigbench.workflow.report.style import STEP
from trigbench.workflow.report.words import NOTHING, label_of
from trigbench.workflow.study.experiment import Experiment
from trigbench.workflow.study.quantities import QUANTITIES, Quantities


def draw(experiment: Experiment, runs: Frame, curves: Frame, known: Quantities = QUANTITIES) -> Figure:
    """The norm of the direction, before any control, along training."""
    return curves_along(runs, points(curves, experiment.metric), STEP, "norm of the direction, batch mean")


def say(experiment: Experiment, runs: Frame, curves: Frame, known: Quantities = QUANTITIES) -> str:
    """The end value, and the largest over the median as a measure of spikes."""
    rows = points(curves, experiment.metric).dropna(subset=["value"])
    parts = []
    for _, group in rows.groupby("arm", sort=False):
        peaks = curves[(curves.metric == "training_direction_norm_max") & (curves.arm == group.arm.iloc[0])]
        spike = (peaks.groupby("seed").value.max() / group.groupby("seed").value.median()).max()
        last = over_seeds(group[group.x == group.x.max()]).mean
        largest = f", its largest step {spike:.2g} times the median" if math.isfinite(spike) else ""
        parts.append(f"{label_of(group)} ends at {last:.2g}{largest}")
    return "Norm of the direction before normalisation: " + "; ".join(parts) + "." if parts else NOTHING


KIND = Kind(
    draw=draw,
    say=say,
    caption="Norm of the direction before any control, mean over the batch, along training. {seeds}.",
    axis=OfCurve(),
)
