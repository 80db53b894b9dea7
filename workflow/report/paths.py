"""Pictures of policies: paths from one start, a panel for each way to plan."""

from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from trigbench.workflow.report.beside import left_to_see
from trigbench.workflow.report.drawing import WIDTH
from trigbench.workflow.report.rows import steps_label
from trigbench.workflow.report.style import FAINT, GUIDE, QUIET, colour
from trigbench.workflow.report.words import short_name
from trigbench.workflow.study.policies import EXPERT, FROM_LOW_VARIANCE
from trigbench.workflow.study.records import REAL
from trigbench.workflow.study.study import Study

CAPTION = (
    "Paths from one start, each planned from noise of its own, among pillars (grey) to the goal (ring); red to a "
    "cross where one touches something, or does not come to the goal in time."
)
ACROSS = 6
"""Panels side by side."""
LOST = "#c0392b"


def drawn_paths(study: Study, experiment: str) -> Figure | None:
    """The expert's paths, then those of each arm; None where none were measured."""
    found = left_to_see(study, experiment, "paths")
    if not found:
        return None
    (scene,) = left_to_see(study, experiment, "scenes")
    rows, side = -(-len(found) // ACROSS), WIDTH / ACROSS
    figure, axes = plt.subplots(
        rows, ACROSS, figsize=(WIDTH, rows * (side + 0.45)), squeeze=False, layout="constrained"
    )
    for ax in axes.flat:
        ax.set_axis_off()
    for ax, paths in zip(axes.flat, found, strict=False):
        _panel(ax, scene, paths, _objective(study, paths))
        ax.set_title(_label(study, experiment, paths), fontsize=7.5)
    return figure


def _objective(study: Study, paths: dict[str, Any]) -> str:
    return REAL if paths["arm"] == REAL else study.arms[paths["arm"]].objective


def _label(study: Study, experiment: str, paths: dict[str, Any]) -> str:
    count = f"{sum(paths['arrived'])} of {len(paths['arrived'])} arrive"
    if paths["sampler"] == EXPERT:
        return f"{EXPERT}\n\n{count}"
    objective = _objective(study, paths)
    alike = [arm for arm in study.arms_of(experiment) if study.arms[arm].objective == objective]
    who = short_name(objective) if len(alike) == 1 else paths["arm"]
    words = FROM_LOW_VARIANCE.get(paths["sampler"], ("",))[0]
    how = steps_label(paths["evaluations"], objective)
    return "\n".join((who, f"{how} {words}".strip(), count))


def _panel(ax: Axes, scene: dict[str, Any], paths: dict[str, Any], objective: str) -> None:
    ax.set_axis_on()
    ax.set(xlim=(-1, 1), ylim=(-1, 1), xticks=[], yticks=[], aspect="equal")
    for spine in ax.spines.values():
        spine.set(visible=True, color=FAINT)
    for x, y, radius in scene["pillars"]:
        ax.add_patch(Circle((x, y), radius, color=FAINT, linewidth=0))
    x, y, radius = scene["goal"]
    ax.add_patch(Circle((x, y), radius, fill=False, edgecolor=GUIDE, linewidth=1))
    face = QUIET if objective == REAL else colour(objective)
    for points, arrived in zip(map(np.array, paths["points"]), paths["arrived"], strict=True):
        ax.plot(*points.T, color=face if arrived else LOST, linewidth=0.8, alpha=0.7)
        if not arrived:
            ax.plot(*points[-1], marker="x", color=LOST, markersize=3.5, markeredgewidth=0.9)
