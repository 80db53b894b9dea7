"""Samples of every method from the same noise, side by side."""

from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from trigbench.workflow.machine.files import Arrays, read_arrays
from trigbench.workflow.report.rows import steps_label
from trigbench.workflow.report.style import colour
from trigbench.workflow.study.kinds import Images, data_kind, known_of
from trigbench.workflow.study.study import Run, Study

AGAIN = "delete the file; the workflow makes the run again"
COLUMNS = 20
"""Square images in a row; of wider ones as many as fit there."""
Drawn = list[tuple[Run, int, np.ndarray]]


def pictures(study: Study, runs: list[Run], real: bool = True) -> Figure | None:
    """Samples of the given runs on the first one's data; None where these have no picture, or no run has samples.

    With `real` images of the training part stand above.
    """
    data = study.arms[runs[0].arm].data if runs else None
    alike = [run for run in runs if study.arms[run.arm].data == data]
    return picture_of(study, [(run, k, s) for run in alike for k, s in samples_of(study, run) if len(s)], real)


def picture_of(study: Study, drawn: Drawn, real: bool = True) -> Figure | None:
    """The same of samples, (run, steps, samples) on one data set; None where these are none, or have no picture."""
    data = study.arms[drawn[0][0].arm].data if drawn else None
    if data is None or not known_of(study.data[data]).seen:
        return None
    arrays = read_arrays(study.data_file(data), AGAIN)
    seen_by = data_kind(study.data[data]).images
    if seen_by is not None:
        return _strips(study, drawn, seen_by(arrays, COLUMNS), real)
    reference = arrays.get("reference")  # fresh data, where the data set keeps any
    flat = reference is not None and reference.ndim == 2 and reference.shape[1] == 2
    return _clouds(study, drawn, arrays) if flat else None


def samples_of(study: Study, run: Run) -> list[tuple[int, np.ndarray]]:
    """(steps, samples) of the run's main sampler, without guidance."""
    main = study.samplers_of(run.arm)[0]
    ways = [way for way in study.samplings(run.arm) if way.sampler == main and way.guidance in (None, 1.0)]
    archive = read_arrays(study.files(run).samples, AGAIN, {way.key for way in ways})
    return [(way.steps, archive[way.key]) for way in ways if way.key in archive]


def _strips(study: Study, drawn: Drawn, images: Images, real: bool) -> Figure:
    """One row per method and number of steps, one column per noise."""
    few = images.fitting(COLUMNS)
    rows = [("training images", images.real[:few])] if real else []
    for run, k, samples in drawn:
        rows.append((f"{run.arm}, {steps_label(k, study.arms[run.arm].objective)}", images.decoded(samples[:few])))
    figure, axes = plt.subplots(len(rows), 1, figsize=(10.5, 0.62 * len(rows)))
    for ax, (label, shown) in zip(np.atleast_1d(axes), rows, strict=True):
        grey = shown.ndim == 3
        between = [(0, 0), (0, 0), (0, 1), *[(0, 0)] * (shown.ndim - 3)]
        padded = np.pad(shown, between, constant_values=np.nan if grey else 1.0)
        how: dict[str, Any] = {"cmap": "gray", "vmin": images.black, "vmax": images.white} if grey else {}
        ax.imshow(np.concatenate(list(padded), axis=1), interpolation="nearest", **how)
        ax.set(xticks=[], yticks=[])
        ax.set_ylabel(label, rotation=0, ha="right", va="center")
        for spine in ax.spines.values():
            spine.set_visible(False)
    figure.subplots_adjust(hspace=0.08)
    return figure


def _clouds(study: Study, drawn: Drawn, arrays: Arrays) -> Figure:
    """One panel per method and number of steps, over fresh data."""
    columns = 5
    count = -(-len(drawn) // columns)
    figure, axes = plt.subplots(count, columns, figsize=(2.3 * columns, 2.45 * count), squeeze=False)
    limit = float(np.abs(arrays["reference"]).max()) * 1.02
    for ax in axes.flat:
        ax.set_axis_off()
    one_step = sorted(drawn, key=lambda item: item[1])
    for ax, (run, k, samples) in zip(axes.flat, one_step, strict=False):
        ax.set_axis_on()
        ax.scatter(*arrays["reference"][:1500].T, s=2, color="#cccccc", linewidth=0, rasterized=True)
        face = colour(study.arms[run.arm].objective)
        ax.scatter(*samples[:1500].T, s=2, color=face, linewidth=0, alpha=0.6, rasterized=True)
        ax.set(xlim=(-limit, limit), ylim=(-limit, limit), xticks=[], yticks=[], aspect="equal")
        ax.set_title(f"{run.arm}\n{steps_label(k)}", fontsize=9)
    figure.tight_layout(h_pad=1.5)
    return figure
