"""Pictures of edits: images, what is seen of them, and what each way makes of that from one noise."""

from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from trigbench.workflow.report.beside import left_to_see
from trigbench.workflow.report.drawing import WIDTH
from trigbench.workflow.report.rows import steps_label
from trigbench.workflow.report.words import short_name
from trigbench.workflow.study.edits import BY_VELOCITY, EDITS
from trigbench.workflow.study.study import Study

CAPTION = (
    "Each column is one held-out image and, of every way, one noise; above them the images, and what is seen of them, "
    "blue where nothing is."
)
UNSEEN = "#bcd3ea"
SIDE = 0.235
"""Inches of an image."""


def edited_strips(study: Study, experiment: str) -> Figure | None:
    """A block for each edit side by side, a row a way; None where nothing was left to be seen."""
    strips = left_to_see(study, experiment, "strips")
    parts = [[strip for strip in strips if strip["part"] == part] for part in dict.fromkeys(s["part"] for s in strips)]
    if not parts:
        return None
    most = max(map(len, parts))
    figure, axes = plt.subplots(most, len(parts), figsize=(WIDTH, 1.12 * SIDE * most + 0.3), squeeze=False)
    figure.subplots_adjust(
        left=0.1, right=0.995, top=1 - 0.3 / figure.get_figheight(), bottom=0, hspace=0.1, wspace=0.4
    )
    for ax in axes.flat:
        ax.set_axis_off()
    for column, part in zip(axes.T, parts, strict=True):
        column[0].set_title(EDITS[part[0]["part"]], fontsize=10)
        for row, (ax, strip) in enumerate(zip(column, part, strict=False)):
            _strip(ax, np.array(strip["images"]))
            words = _label(study, strip, row)
            ax.text(-0.02, 0.5, words, transform=ax.transAxes, ha="right", va="center", fontsize=7.5)
    return figure


def _label(study: Study, strip: dict[str, Any], row: int) -> str:
    if strip["arm"] is None:
        return ("images", "seen")[row]
    count = strip["evaluations"]
    if words := BY_VELOCITY.get(strip["sampler"]):
        return f"{words[0]}, {count}"
    return f"{short_name(study.arms[strip['arm']].objective)}, {steps_label(count)}"


def _strip(ax: Axes, images: np.ndarray) -> None:
    """Images (count, h, w), or with three colours last, side by side, a pixel apart."""
    height, colours = images.shape[1], images.shape[3:]
    between = np.full((len(images), height, 1, *colours), -2)
    shown = np.concatenate(list(np.concatenate([images, between], axis=2)), axis=1)[:, :-1]
    if not colours:
        shown = np.repeat(shown[..., None], 3, axis=2)
    painted = shown / 255
    painted[(shown == -1).all(2)] = [int(UNSEEN[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    painted[(shown == -2).all(2)] = 1.0
    ax.imshow(painted, interpolation="nearest", aspect="equal")
