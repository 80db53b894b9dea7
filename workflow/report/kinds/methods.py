"""Arms side by side, every seed a point."""

import itertools

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from trigbench.workflow.claims.statistics import over_seeds, per_seed
from trigbench.workflow.report.drawing import crosses, floor, legend, line, log_scale, mark, panels, styles
from trigbench.workflow.report.kinds import Kind
from trigbench.workflow.report.rows import Frame, arm_of, in_order, is_lost, points, results, steps_label
from trigbench.workflow.report.style import ANGLE, DIMENSION, FAINT, colour, marker
from trigbench.workflow.report.words import NOTHING, best_first, capital, compared, lead_of, mean_of
from trigbench.workflow.study.experiment import Experiment
from trigbench.workflow.study.quantities import QUANTITIES, Quantities, Quantity

POWERS = {
    "power_bias_none": ("no weight", ":"),
    "power_bias_half": ("p = 1/2", "--"),
    "power_bias_one": ("p = 1", "-"),
    "power_bias_normalised": ("normalised", "-."),
}
"""Words and line of what is done to MeanFlow's direction."""
BATCHES = [metric.replace("bias", "critical_batch") for metric in POWERS]
"""Which a bias within the noise of its estimate has not."""


def draw(experiment: Experiment, runs: Frame, curves: Frame, known: Quantities = QUANTITIES) -> Figure:
    """The metric by arm and number of steps, every seed a point.

    Beside it precision and recall where measured; or the learned weight, where one method's arms differ in having one;
    or the bias of normalising sCT's directions, or of weighting MeanFlow's, where that was measured.
    """
    weights = _weights_in_question(results(runs, experiment.metric), points(curves, "log_weight"))
    bias = points(curves, "normalisation_bias", *POWERS)
    bias = bias[bias.value.notna()]
    wanted = [m for m in (experiment.metric, "precision", "recall") if m in set(runs.metric)] or [experiment.metric]
    wanted = wanted[:1] if len(weights) or len(bias) else wanted
    arms = _in_blocks(in_order(experiment, results(runs, *wanted)))
    count = len(wanted) + (len(weights) > 0 or len(bias) > 0)
    figure, axes = panels(count, 1.6 + 0.34 * max(len(arms), 4), ratios=[1.25, *[1.0] * (count - 1)])
    for ax, metric in zip(axes, wanted, strict=False):
        _by_arm(ax, results(runs, metric), arms, known[metric])
        floor(ax, runs, metric, across=True)
        ax.tick_params(axis="y", left=False, labelleft=ax is axes[0])
    if len(weights):
        for arm, style in styles(weights):
            line(axes[-1], weights[weights.arm == arm], "x", band=True, **(style | {"label": arm}))
        axes[-1].set(xlabel=ANGLE, ylabel="learned w(t), log weight")
        axes[-1].legend(loc="best", fontsize=8)
    elif len(bias):
        _draw_bias(axes[-1], bias)
    counts = results(runs, experiment.metric)[["steps", "objective"]].dropna().drop_duplicates()
    marks = [mark(_steps_marker(k), "", steps_label(k, o)) for k, o in sorted(counts.itertuples(index=False))]
    legend(figure, axes[: len(wanted)], marks)
    return figure


def _draw_bias(ax: Axes, rows: Frame) -> None:
    """Against the dimension, of sCT's direction or of MeanFlow's by each control."""
    for metric, (words, style) in {"normalisation_bias": (None, "-"), **POWERS}.items():
        own = rows[rows.metric == metric]
        if len(own):
            objective = str(own.objective.iloc[0])
            line(ax, own, "x", color=colour(objective), linestyle=style, marker=marker(objective), label=words)
    normalised = rows[rows.metric == "normalisation_bias"]
    whose = "sCT's normalised direction" if len(normalised) else "MeanFlow's direction"
    ax.set(xlabel=DIMENSION, ylabel=f"bias of {whose},\nmean over root mean square")
    ax.set_xscale("log", base=2)
    if not len(normalised):
        ax.legend(loc="best", fontsize=8)


def _weights_in_question(rows: Frame, weights: Frame) -> Frame:
    """The learned weights of the methods that the experiment runs with and without one."""
    without = set(rows[~rows.arm.map(arm_of).isin(weights.arm) & (rows.status != "diverged")].objective)
    return weights[weights.objective.isin(without)]


def _in_blocks(rows: Frame) -> list[str]:
    """Arms in their order, those of one method and data together."""
    firsts = rows.drop_duplicates("arm")
    return [arm for _, block in firsts.groupby(["data", "objective"], sort=False, dropna=False) for arm in block.arm]


def _by_arm(ax: Axes, rows: Frame, arms: list[str], quantity: Quantity) -> None:
    better = quantity.better
    for position, arm in enumerate(arms):
        mine = rows[rows.arm == arm]
        if not len(mine):
            continue
        lost, face = is_lost(mine), colour(mine.objective.iloc[0])
        crosses(ax, np.array([position] if lost.any() else []), face, better, across=True)
        counts = sorted(mine.steps.dropna().unique()) or [np.nan]
        for rank, steps in enumerate(counts):
            values = per_seed(mine[~lost & (mine.steps.isna() if np.isnan(steps) else mine.steps == steps)])
            if not len(values):
                continue
            apart = min(0.34, 0.7 / max(len(counts) - 1, 1))  # within the arm's own row
            y, symbol = position + (rank - (len(counts) - 1) / 2) * apart, _steps_marker(steps)
            ax.hlines(y, values.min(), values.max(), color=face, linewidth=1.5)
            ax.scatter(values, [y] * len(values), color=face, marker=symbol, s=18, alpha=0.5, linewidth=0)
            ax.scatter(values.mean(), y, facecolor=face, edgecolor="white", marker=symbol, s=52, zorder=3)
    ax.set(yticks=range(len(arms)), yticklabels=arms, ylim=(len(arms) - 0.4, -0.6))
    first = rows.drop_duplicates("arm").set_index("arm")
    blocks = first[["objective", "data"]].drop_duplicates()
    for position, (one, other) in enumerate(itertools.pairwise(arms)) if len(blocks) < len(first) else ():
        if one in first.index and other in first.index and first.objective[one] != first.objective[other]:
            ax.axhline(position + 0.5, color=FAINT, linewidth=0.8)
    values = rows.value[~is_lost(rows)]
    ax.set_xlabel(quantity.title)
    if better == "lower" and not quantity.signed and len(values) and values.max() > 8 * values.min() > 0:
        log_scale(ax.xaxis)
    else:
        ax.xaxis.set_major_locator(MaxNLocator(4))
    ax.grid(axis="x", alpha=0.3)


def _steps_marker(count: float) -> str:
    """One, two, eight, others; a circle for what has no steps."""
    return "o" if np.isnan(count) else {1: "o", 2: "s", 8: "^"}.get(int(count), "D")


def say(experiment: Experiment, runs: Frame, curves: Frame, known: Quantities = QUANTITIES) -> str:
    """Arms of one method against the first of them; where every arm is a method of its own, their order."""
    rows = in_order(experiment, results(runs, experiment.metric))
    label = capital(known[experiment.metric].label)
    sentences, ratios = [], ""
    for steps, at in rows.groupby("steps", sort=True, dropna=False):
        blocks = [block for _, block in at.groupby(["objective", "data", "intervals"], sort=False, dropna=False)]
        where = "" if pd.isna(steps) else f"{steps_label(steps, at.objective.iloc[0])}, "
        found = [_against_first(block, known[experiment.metric]) for block in blocks if block.arm.nunique() > 1]
        ratios = " Ratios are paired by seed, each with its own 95% interval." if found else ratios
        sentences += [f"{where}{text}" for text in found] or [f"{where}{_ranked(at, known[experiment.metric])}"]
    bias = _bias(points(curves, "normalisation_bias")) + _power_bias(points(curves, *POWERS, *BATCHES))
    return f"{label}, {'. '.join(_sentences(sentences))}.{ratios}{bias}" if sentences else NOTHING


def _bias(rows: Frame) -> str:
    """What normalising sCT's directions does where their mean should be zero, at the least and the most dimensions."""
    at = rows.dropna(subset=["value"]).groupby("x")
    if not len(at):
        return ""
    shown = [f"{over_seeds(at.get_group(x))} in {x:.0f} dimensions" for x in (min(at.groups), max(at.groups))]
    return f" At the exact map sCT's mean direction is zero; normalised, it is {' and '.join(shown)} of its size."


def _power_bias(rows: Frame) -> str:
    """The same of MeanFlow's, by each control; a bias that most seeds do not tell from none is no number, and what no
    seed changes has no interval."""
    rows = rows.dropna(subset=["value"])
    if not len(rows):
        return ""
    ends = sorted({rows.x.min(), rows.x.max()})
    said = []
    for (metric, (words, _)), batch in zip(POWERS.items(), BATCHES, strict=True):
        shown = []
        for x in ends:
            own, told = (rows[(rows.metric == name) & (rows.x == x)] for name in (metric, batch))
            exact = f"{own.value.mean():.3g}" if own.value.nunique() == 1 else f"{over_seeds(own)}"
            found = exact if 2 * len(told) > len(own) else "within noise"
            shown.append(f"{found} in {x:.0f} dimension{'' if x == 1 else 's'}")
        said.append(f"{words} {' and '.join(shown)}")
    return f" At the exact map the mean direction to data over its size: {'; '.join(said)}."


def _sentences(parts: list[str]) -> list[str]:
    return parts[:1] + [capital(part) for part in parts[1:]]


def _against_first(block: Frame, of: Quantity) -> str:
    """`against scd-m (12.3): better: ...; worse: ...; undecided: ...`, ratios paired by seed."""
    arms = list(dict.fromkeys(block.arm))
    sides: dict[str, list[str]] = {"better": [], "worse": [], "undecided": []}
    for arm in arms[1:]:
        side, shown = compared(block, arms[0], arm, of)
        sides[side].append(f"{arm} {shown}")
    parts = [f"{side}: {', '.join(found)}" for side, found in sides.items() if found]
    return f"against {arms[0]} ({mean_of(block, arms[0])}): {'; '.join(parts)}"


def _ranked(rows: Frame, of: Quantity) -> str:
    """`best first: scd 12.3 [..], ...`, and whether the first is ahead of the second."""
    arms = best_first(rows, of)
    text = ", ".join(f"{arm} {mean_of(rows, arm)}" for arm in arms)
    return text if len(arms) == 1 else f"best first: {text}; {lead_of(rows, arms, of)}"


KIND = Kind(
    draw=draw,
    say=say,
    caption="{label} by arm and number of steps, every seed a point; precision and recall beside it where "
    "measured. The dashed line is real data judged as if they were samples.",
    pictured=True,
)
