"""One function per kind of figure: the experiment's tidy rows -> a figure.

Bars and bands span the seeds, lines are their mean; a diverged run is a cross at the upper edge.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from workflow.report.style import PRECISIONS, colour, name
from workflow.runtime.quantities import QUANTITIES
from workflow.schema import Experiment

SPAN = ("pi", 100)
"""seaborn's error bar from the lowest to the highest seed."""
Frame = pd.DataFrame


def discretisation(experiment: Experiment, runs: Frame, curves: Frame) -> Figure:
    """The metric against N, a line per precision and number of steps; methods without N as bands."""
    rows = runs[runs.metric == experiment.metric]
    panels = sorted(rows[rows.intervals.notna()].steps.dropna().unique()) or [None]
    figure, axes = plt.subplots(1, len(panels), figsize=(5.6 * len(panels) + 1.2, 4.2), sharey=True, squeeze=False)
    for ax, steps in zip(axes[0], panels, strict=True):
        _sweep(ax, rows if steps is None else rows[(rows.steps == steps) | rows.objective.isin(["diffusion", "data"])])
        ax.set(xlabel="number of intervals N", ylabel=QUANTITIES[experiment.metric].label)
        ax.set_xscale("log", base=2)
        if rows.intervals.notna().any():  # said outright: crosses alone would not set it
            ax.set_xlim(rows.intervals.min() / 1.5, rows.intervals.max() * 1.5)
        if np.isfinite(rows.value).any():
            ax.set_yscale("log")
        if steps is not None:
            ax.set_title(f"{steps:.0f} step" + ("s" if steps > 1 else ""))
    for ax in axes[0][:-1]:  # one legend for all panels
        if ax.get_legend():
            ax.get_legend().remove()
    _legend(axes[0][-1])
    return figure


def _sweep(ax: Axes, rows: Frame) -> None:
    precisions = [p for p in PRECISIONS if p in set(rows.precision)] or ["fp32"]
    for rank, precision in enumerate(precisions):
        style, marker = PRECISIONS[precision]
        suffix = f", {precision}" if len(precisions) > 1 else ""
        mine = rows[(rows.precision == precision) | rows.precision.isna()]
        discrete = mine[mine.intervals.notna()]
        for objective, group in discrete.groupby("objective", sort=False):
            _crosses(ax, group, colour(objective))
            finite = group[np.isfinite(group.value)]
            if not len(finite):
                continue
            sns.lineplot(
                finite, x="intervals", y="value", ax=ax, color=sns.light_palette(colour(objective), 5)[4 - rank],
                errorbar=SPAN, err_style="bars", linestyle=style, marker=marker, markersize=6,
                label=name(objective) + suffix,
            )  # fmt: skip
        for objective, group in mine[mine.intervals.isna()].groupby("objective", sort=False):
            if rank and objective in ("data", "diffusion"):
                continue
            values = group.value[np.isfinite(group.value)]
            if len(values):
                label = name(objective) + ("" if objective in ("data", "diffusion") else suffix)
                ax.axhline(values.mean(), color=colour(objective), linestyle=style, linewidth=1.4, label=label)
                ax.axhspan(values.min(), values.max(), color=colour(objective), alpha=0.10, linewidth=0)


def map_error(experiment: Experiment, runs: Frame, curves: Frame) -> Figure:
    """RMS error of the learned map as a function of the angle."""
    figure, ax = plt.subplots(figsize=(7.2, 4.2))
    rows = curves[curves.metric == "map_rms"]
    for arm, style in _styles(rows):
        sns.lineplot(rows[rows.arm == arm], x="x", y="value", ax=ax, errorbar=SPAN, **style)
    ax.set(yscale="log", xlabel="angle t  (0: data, π/2: noise)", ylabel="RMS error of the map at t")
    _legend(ax)
    return figure


def training(experiment: Experiment, runs: Frame, curves: Frame) -> Figure:
    """The norm of the direction, before any control, along training."""
    figure, ax = plt.subplots(figsize=(7.2, 4.2))
    rows = curves[curves.metric == experiment.metric]
    for arm, style in _styles(rows):
        sns.lineplot(rows[rows.arm == arm], x="x", y="value", ax=ax, errorbar=SPAN, **style)
    ax.set(yscale="log", xlabel="optimiser step", ylabel="norm of the direction, batch mean")
    _legend(ax)
    return figure


def methods(experiment: Experiment, runs: Frame, curves: Frame) -> Figure:
    """The metric by arm and number of steps, every seed a point; beside it precision and recall where measured."""
    wanted = [m for m in (experiment.metric, "precision", "recall") if m in set(runs.metric)]
    figure, axes = plt.subplots(1, len(wanted), figsize=(3.9 * len(wanted) + 2.0, 3.8), sharey=True, squeeze=False)
    arms = [arm for arm in dict.fromkeys(runs.arm) if arm != "data"]
    for ax, metric in zip(axes[0], wanted, strict=True):
        measured = runs[runs.metric == metric]
        rows = measured[np.isfinite(measured.value) & (measured.status != "diverged")]
        for position, arm in enumerate(arms):
            lost = measured[(measured.arm == arm) & (measured.status == "diverged")]
            if len(lost):
                face = colour(lost.objective.iloc[0])
                ax.scatter(0.98, position, transform=ax.get_yaxis_transform(), marker="x", color=face, s=50)
            mine = rows[rows.arm == arm]
            counts = sorted(mine.steps.dropna().unique())
            for rank, steps in enumerate(counts):
                values = mine[mine.steps == steps].value
                y = position + (rank - (len(counts) - 1) / 2) * 0.3
                face = colour(mine.objective.iloc[0])
                marker = {1: "o", 2: "s"}.get(int(steps), "D")
                ax.hlines(y, values.min(), values.max(), color=face, linewidth=1.5)
                ax.scatter(values, [y] * len(values), color=face, marker=marker, s=22, alpha=0.5, linewidth=0)
                ax.scatter(values.mean(), y, facecolor=face, edgecolor="white", marker=marker, s=64, zorder=3)
        floor = rows[rows.objective == "data"].value
        if len(floor):
            ax.axvline(floor.mean(), color=colour("data"), linestyle="--", linewidth=1.2)
        ax.set(xlabel=QUANTITIES[metric].label, yticks=range(len(arms)), yticklabels=arms)
        ax.grid(axis="x", alpha=0.3)
    axes[0][0].invert_yaxis()
    used = sorted(int(s) for s in runs[runs.metric == experiment.metric].steps.dropna().unique())
    marks = [
        Line2D([], [], color="#444", marker={1: "o", 2: "s"}.get(k, "D"), linestyle="", label=_steps(k)) for k in used
    ]
    marks.append(Line2D([], [], color=colour("data"), linestyle="--", label="real data"))
    axes[0][-1].legend(handles=marks, bbox_to_anchor=(1.01, 1), loc="upper left")
    return figure


def sizes(experiment: Experiment, runs: Frame, curves: Frame) -> Figure:
    """The metric against the number of parameters, and the students' ratio to their own teacher."""
    rows = runs[(runs.metric == experiment.metric) & (runs.objective != "data") & np.isfinite(runs.value)].copy()
    teachers = rows[rows.objective == "diffusion"].set_index(["size", "seed"]).value
    figure, (left, right) = plt.subplots(1, 2, figsize=(11.5, 4.2))
    for (objective, steps), group in rows.groupby(["objective", "steps"], sort=False):
        style = {"color": colour(objective), "errorbar": SPAN, "err_style": "bars"}
        style |= {"marker": "s" if steps == 2 else "o", "linestyle": "--" if steps == 2 else "-"}
        sns.lineplot(
            group, x="parameters", y="value", ax=left, label=f"{name(objective)}, {_steps(int(steps))}", **style
        )
        if objective != "diffusion":
            own = [teachers.get((size, seed), np.nan) for size, seed in zip(group["size"], group.seed, strict=True)]
            ratio = group.assign(value=group.value / np.array(own, float)).dropna(subset=["value"])
            if len(ratio):
                sns.lineplot(ratio, x="parameters", y="value", ax=right, **style)
    floor = runs[(runs.metric == experiment.metric) & (runs.objective == "data")].value
    if len(floor):
        left.axhline(floor.mean(), color=colour("data"), linestyle=":", label="held-out images")
    left.set(xscale="log", xlabel="parameters", ylabel=QUANTITIES[experiment.metric].label)
    if len(rows):
        left.set_yscale("log")
    right.set(xscale="log", xlabel="parameters", ylabel="student / teacher of the same size and seed")
    right.axhline(1, color="#999", linewidth=0.8)
    if left.get_legend_handles_labels()[0]:
        left.legend(fontsize=8)
    figure.tight_layout()
    return figure


def memorisation(experiment: Experiment, runs: Frame, curves: Frame) -> Figure:
    """Distances to the nearest training and to the nearest held-out image, by arm."""
    figure, ax = plt.subplots(figsize=(7.2, 4.0))
    parts = {"nearest_train": ("o", "nearest training image"), "nearest_held_out": ("D", "nearest held-out image")}
    arms = [arm for arm in dict.fromkeys(runs.arm) if arm != "data"]
    ticks = []
    for arm in arms:
        for steps in sorted(runs[(runs.arm == arm) & (runs.metric == "nearest_train")].steps.dropna().unique()):
            for metric, (marker, _) in parts.items():
                mine = runs[(runs.arm == arm) & (runs.steps == steps) & (runs.metric == metric)]
                values = mine.value[np.isfinite(mine.value)]
                face = colour(mine.objective.iloc[0])
                ax.scatter(values, [len(ticks)] * len(values), color=face, marker=marker, s=34)
            ticks.append(f"{arm}, {_steps(int(steps))}")
    floor = runs[(runs.objective == "data") & (runs.metric == "nearest_train")].value
    if len(floor):
        ax.axvline(floor.mean(), color=colour("data"), linestyle="--")
    ax.set(yticks=range(len(ticks)), yticklabels=ticks, xlabel="mean Euclidean distance, unit variance")
    ax.invert_yaxis()
    marks = [_mark(marker, "", label) for marker, label in parts.values()]
    marks.append(_mark(None, "--", "held-out to nearest training image"))
    ax.legend(handles=marks, bbox_to_anchor=(0, 1.02), loc="lower left", ncols=2)
    return figure


def _styles(rows: Frame) -> list[tuple[str, dict]]:
    """A colour by objective; arms of one objective differ in shade and dashes."""
    found = []
    for objective, group in rows.groupby("objective", sort=False):
        arms = list(dict.fromkeys(group.arm))
        shades = sns.light_palette(colour(objective), len(arms) + 2)[2:]
        for rank, arm in enumerate(arms):
            dashes = ["-", "--", "-.", ":"][(len(arms) - 1 - rank) % 4]
            label = name(objective) + (
                f", N = {group[group.arm == arm].intervals.iloc[0]:.0f}" if len(arms) > 1 else ""
            )
            found.append((arm, {"color": shades[rank], "linestyle": dashes, "label": label}))
    return found


def _crosses(ax: Axes, group: Frame, face: str) -> None:
    """A cross at the upper edge for every N that diverged."""
    diverged = group[~np.isfinite(group.value)].intervals
    if len(diverged):
        top = [0.98] * len(diverged)
        ax.scatter(diverged, top, transform=ax.get_xaxis_transform(), marker="x", color=face, label="diverged")


def _legend(ax: Axes) -> None:
    """Beside the axes; nothing where nothing is drawn."""
    if ax.get_legend_handles_labels()[0]:
        ax.legend(bbox_to_anchor=(1.01, 1), loc="upper left")


def _mark(marker: str | None, linestyle: str, label: str) -> Line2D:
    """An entry of a legend that speaks of no one method."""
    return Line2D([], [], color="#555555", marker=marker, linestyle=linestyle, label=label)


def _steps(count: int) -> str:
    return "1 step" if count == 1 else f"{count} steps"


FIGURES: dict[str, Callable[[Experiment, Frame, Frame], Figure]] = {
    "discretisation": discretisation,
    "map_error": map_error,
    "training": training,
    "methods": methods,
    "sizes": sizes,
    "memorisation": memorisation,
}
