"""The error of the learned map along the angle."""

from matplotlib.figure import Figure

from trigbench.workflow.report.drawing import curves_along
from trigbench.workflow.report.kinds import Kind, OfCurve
from trigbench.workflow.report.rows import Frame, points
from trigbench.workflow.report.style import ANGLE
from trigbench.workflow.report.words import NOTHING, label_of
from trigbench.workflow.study.experiment import Experiment
from trigbench.workflow.study.quantities import QUANTITIES, Quantities


def draw(experiment: Experiment, runs: Frame, curves: Frame, known: Quantities = QUANTITIES) -> Figure:
    """RMS error of the learned map as a function of the angle."""
    return curves_along(runs, points(curves, "map_rms"), ANGLE, "RMS error of the map at t")


def say(experiment: Experiment, runs: Frame, curves: Frame, known: Quantities = QUANTITIES) -> str:
    """How the error grows from the smallest angle to pure noise."""
    rows = points(curves, "map_rms").dropna(subset=["value"])
    parts, grows = [], []
    for _, group in rows.groupby("arm", sort=False):
        means = group.groupby("x").value.mean()
        grows.append(means.iloc[-1] > means.iloc[0])
        parts.append(
            f"{label_of(group)} {means.iloc[0]:.2g} at t = {means.index[0]:.2g}, {means.iloc[-1]:.2g} at t_max"
        )
    if not parts:
        return NOTHING
    return f"The error is larger at t_max than near the data for {sum(grows)} of {len(grows)} arms: {'; '.join(parts)}."


KIND = Kind(
    draw=draw,
    say=say,
    caption="RMS error of the learned map at angle t, from data (0) to pure noise (π/2). {seeds}.",
    axis=OfCurve("map_rms"),
)
