"""Quality and diversity against the scale of guidance."""

import math

from matplotlib.figure import Figure

from trigbench.workflow.claims.statistics import interval
from trigbench.workflow.report.drawing import floor, legend, line, log_metric, panels, say_when_empty
from trigbench.workflow.report.kinds import Along, Kind
from trigbench.workflow.report.rows import Frame, is_lost, results, steps_label
from trigbench.workflow.report.style import colour, dashes, marker, name
from trigbench.workflow.report.words import NOTHING, by_seed, in_a_word, short_number, with_sign
from trigbench.workflow.study.experiment import Experiment
from trigbench.workflow.study.quantities import QUANTITIES, Quantities


def draw(experiment: Experiment, runs: Frame, curves: Frame, known: Quantities = QUANTITIES) -> Figure:
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


def say(experiment: Experiment, runs: Frame, curves: Frame, known: Quantities = QUANTITIES) -> str:
    """How distance and recall move from the smallest scale to the largest, paired by seed."""
    rows = results(runs, experiment.metric, "recall")
    rows = rows[rows.guidance.notna()]
    parts = []
    for (arm, objective, steps), group in rows.groupby(["arm", "objective", "steps"], sort=False):
        low, high = group.guidance.min(), group.guidance.max()
        if low == high:
            continue
        ends = group[group.guidance.isin([low, high])]
        ends = ends.assign(arm=ends.guidance.map({low: "low", high: "high"}))
        if is_lost(ends).any():
            parts.append(f"{arm}, {steps_label(steps, objective)}: a run diverged")
            continue
        metrics = {experiment.metric: in_a_word(known[experiment.metric]), "recall": "recall"}
        moves = [(label, _moved(ends[ends.metric == metric])) for metric, label in metrics.items()]
        told = ", ".join(f"{label} {text}" for label, text in moves if text)
        parts += [f"{arm}, {steps_label(steps, objective)}: {told}"] if told else []
    span = f"From guidance {rows.guidance.min():g} to {rows.guidance.max():g}: " if len(rows) else ""
    return f"{span}{'; '.join(parts)}." if parts else NOTHING


def _moved(ends: Frame) -> str:
    """`12 → 20 (+8 [+5, +11])` of the arms low and high; nothing without seeds that have both."""
    table = by_seed(ends, ["low", "high"])
    if not len(table):
        return ""
    change = interval(table.high - table.low)
    means = f"{short_number(table.low.mean())} → {short_number(table.high.mean())}"
    return means + (f" ({with_sign(change)})" if not math.isnan(change.low) else "")


KIND = Kind(
    draw=draw,
    say=say,
    caption="{label}, precision and recall against the scale of guidance; 1 is none. {seeds}.",
    axis=Along("guidance", "guidance scale (1: none)", False, ("arm", "steps")),
    separate=("guidance",),
    every_scale=True,
)
