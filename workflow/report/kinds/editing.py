"""Edits held against what they should be, by evaluations of the map or the velocity."""

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from trigbench.workflow.claims.statistics import over_seeds
from trigbench.workflow.report.drawing import WIDTH, legend, line, log_scale
from trigbench.workflow.report.kinds import Along, Kind
from trigbench.workflow.report.rows import Frame, is_lost, numeric, results
from trigbench.workflow.report.style import colour, marker, name
from trigbench.workflow.report.words import NOTHING, capital
from trigbench.workflow.study.edits import BY_VELOCITY, EDITS, EXACT
from trigbench.workflow.study.experiment import Experiment
from trigbench.workflow.study.quantities import QUANTITIES, Quantities
from trigbench.workflow.study.records import REAL

MEASURES = {
    "wasserstein": "distance to the posterior",
    "fd": "Fréchet distance\nto training images",
    "variation": "total variation\nof colours from their law",
    "off_palette": "distance to the nearest colour",
    "diversity": "spread of edits of the same",
    "agreement": "read as the image's class",
}
"""Rows of panels, where they are measured, and how their axes are called."""
DISTANCES = {"wasserstein": "", "fd": "", "variation": ", by the law of colours"}
"""Of these how sentences say them beside the edit."""
TRUTHS = {"posterior": "draws from the posterior", "images": "held-out images"}
"""By the name of their rows' sampler."""
INK = "#222222"
"""Of the exact map and velocity."""
ACROSS = 3
"""Panels in a row, where there are more of one edit."""


def draw(experiment: Experiment, runs: Frame, curves: Frame, known: Quantities = QUANTITIES) -> Figure:
    """A column an edit and a row a measure, of one edit some side by side; dashed is what draws from the posterior, or
    images as they are, have."""
    there = set(runs[runs.value.notna()].metric)
    edits = [edit for edit in EDITS if any(f"{edit}_{measure}" in there for measure in MEASURES)]
    measures = [measure for measure in MEASURES if any(f"{edit}_{measure}" in there for edit in edits)]
    figure, axes = _panels(max(1, len(measures)), max(1, len(edits)))
    for column, edit in enumerate(edits):
        axes[0][column].set_title(EDITS[edit])
        for ax, measure in zip(axes[:, column], measures, strict=True):
            _panel(ax, runs, f"{edit}_{measure}")
    for row, measure in zip(axes, measures, strict=False):
        row[0].set_ylabel(MEASURES[measure])
        if measure in DISTANCES:
            log_scale(max(row, key=_decades).yaxis)  # all of a row have one scale
    legend(figure, list(axes.flat))
    return figure


def _panels(measures: int, edits: int) -> tuple[Figure, np.ndarray]:
    """Axes by measure and edit, with the lowest ones' labels."""
    in_rows = edits == 1 and measures > ACROSS
    rows, columns = (-(-measures // ACROSS), ACROSS) if in_rows else (measures, edits)
    figure, axes = plt.subplots(
        rows, columns, figsize=(WIDTH, 0.9 + 2.3 * rows), squeeze=False, layout="constrained", sharex=True,
        sharey="none" if in_rows else "row",
    )  # fmt: skip
    there = list(axes.flat)[: measures * edits]
    for unused in list(axes.flat)[len(there) :]:
        unused.remove()
    there[0].set_xscale("log", base=2)
    there[0].set_xticks([2**k for k in range(7)], [str(2**k) for k in range(7)])
    for ax in there[-columns:]:
        ax.set_xlabel("evaluations per edit")
        ax.tick_params(labelbottom=True)
        ax.minorticks_off()
    return figure, np.array(there).reshape(measures, edits)


def _decades(ax: Axes) -> float:
    low, high = ax.yaxis.get_data_interval()
    return high / low if low > 0 else 0.0


def _panel(ax: Axes, runs: Frame, metric: str) -> None:
    rows = results(runs, metric)
    for (arm, objective, sampler), group in rows.groupby(["arm", "objective", "sampler"], sort=False):
        face = INK if objective == EXACT else colour(objective)
        who = EXACT if objective == EXACT else name(objective)
        several = rows[rows.objective == objective].arm.nunique() > 1
        who += f", {arm}" if several else ""
        if sampler in BY_VELOCITY:
            words, _, symbol = BY_VELOCITY[str(sampler)]
            look = {"linestyle": "", "marker": symbol, "markerfacecolor": "white", "label": f"{words}, {who} velocity"}
        else:
            symbol = "o" if objective == EXACT else marker(objective)
            look = {"linestyle": "-", "marker": symbol, "label": f"{who} map" if objective == EXACT else who}
        line(ax, group, "steps", color=face, **look)
    for sampler, group in _truth(runs, metric).groupby("sampler"):
        ax.axhline(
            over_seeds(group).mean,
            color=colour(REAL),
            linestyle=(0, (4, 2)),
            linewidth=1.2,
            label=TRUTHS[str(sampler)],
        )


def _truth(runs: Frame, metric: str) -> Frame:
    """Its rows of draws from the posterior, or of images as they are."""
    rows = numeric(runs[(runs.objective == REAL) & (runs.metric == metric)])
    return rows.dropna(subset=["value"])


def say(experiment: Experiment, runs: Frame, curves: Frame, known: Quantities = QUANTITIES) -> str:
    """Of each edit the distance of the truth itself, and of each arm that in its fewest and in its most evaluations."""
    parts = []
    for edit, words in EDITS.items():
        for measure, said in DISTANCES.items():
            text = _of_edit(runs, f"{edit}_{measure}")
            parts += [f"{words}{said}: {text}"] if text else []
    return capital("; ".join(parts)) + "." if parts else NOTHING  # a page breaks lines there


def _of_edit(runs: Frame, metric: str) -> str:
    rows = results(runs, metric)
    rows = rows[~is_lost(rows)]
    if not len(rows):
        return ""
    found = [f"{TRUTHS[str(sampler)]} {over_seeds(own)}" for sampler, own in _truth(runs, metric).groupby("sampler")]
    for (arm, sampler), group in rows.groupby(["arm", "sampler"], sort=False):
        ends = dict.fromkeys((group.steps.min(), group.steps.max()))
        shown = [f"{over_seeds(group[group.steps == step])} in {step:.0f}" for step in ends]
        words = BY_VELOCITY[str(sampler)][0] if sampler in BY_VELOCITY else "map" if arm == EXACT else ""
        found.append(f"{arm} {words}".strip() + f" {' and '.join(shown)}")
    return ", ".join(found)


KIND = Kind(
    draw=draw,
    say=say,
    caption="Edits by evaluations of the map, or of the velocity; a guided one takes a gradient beside each. Dashed: "
    "draws from the posterior, or held-out images as they are. {seeds}.",
    axis=Along("steps", "evaluations per edit", True, ("arm", "sampler")),
    separate=("sampler",),
    pictured=True,
)
