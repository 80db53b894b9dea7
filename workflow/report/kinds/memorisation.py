"""Whether samples are nearer to training images than held-out images are."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from trigbench.workflow.claims.statistics import over_seeds, per_seed
from trigbench.workflow.report.drawing import crosses, legend, mark, panels
from trigbench.workflow.report.kinds import Kind
from trigbench.workflow.report.rows import Frame, is_lost, numeric, results, steps_label
from trigbench.workflow.report.style import colour
from trigbench.workflow.report.words import NOTHING
from trigbench.workflow.study.experiment import Experiment
from trigbench.workflow.study.quantities import QUANTITIES, Quantities
from trigbench.workflow.study.records import REAL


def draw(experiment: Experiment, runs: Frame, curves: Frame, known: Quantities = QUANTITIES) -> Figure:
    """Distances to the nearest training and to the nearest held-out image, by arm."""
    parts = {"nearest_train": ("o", "nearest training image"), "nearest_held_out": ("D", "nearest held-out image")}
    rows = results(runs, *parts)
    ways = list(rows[["arm", "steps", "objective"]].drop_duplicates().sort_values(["steps"]).groupby("arm", sort=False))
    ways = [way for arm in dict.fromkeys(rows.arm) for found, way in ways if found == arm]
    ticks = [way for group in ways for way in group.itertuples(index=False)]
    figure, (ax,) = panels(1, 1.5 + 0.32 * max(len(ticks), 4))
    for position, way in enumerate(ticks):
        mine = rows[(rows.arm == way.arm) & (rows.steps == way.steps)]
        lost = is_lost(mine)
        crosses(ax, np.array([position] if lost.any() else []), colour(way.objective), across=True)
        for metric, (symbol, _) in parts.items():
            values = mine[(mine.metric == metric) & ~lost].value
            y = position + (-0.15 if symbol == "o" else 0.15)
            ax.scatter(values, [y] * len(values), color=colour(way.objective), marker=symbol, s=30)
    found = numeric(runs[(runs.objective == REAL) & (runs.metric == "nearest_train")])
    for _, rows in found.groupby("data", dropna=False):
        ax.axvline(per_seed(rows).mean(), color=colour(REAL), linestyle="--")
    labels = [f"{way.arm}, {steps_label(way.steps, way.objective)}" for way in ticks]
    ax.set(yticks=range(len(ticks)), yticklabels=labels, xlabel="mean Euclidean distance, unit variance")
    ax.invert_yaxis()
    marks = [mark(symbol, "", label) for symbol, label in parts.values()]
    legend(figure, [ax], [*marks, mark(None, "--", "held-out to nearest training image")])
    return figure


def say(experiment: Experiment, runs: Frame, curves: Frame, known: Quantities = QUANTITIES) -> str:
    """Whether samples are nearer to training images than held-out images are."""
    real = runs[(runs.objective == REAL) & (runs.metric == "nearest_train")]
    floors = {_data(data): per_seed(own).mean() for data, own in real.groupby("data", sort=False, dropna=False)}
    rows = runs[(runs.objective != REAL) & (runs.status == "finished") & (runs.metric == "nearest_train")]
    if not floors or np.isnan([*floors.values()]).any() or not len(rows):
        return NOTHING
    sides: dict[str, list[str]] = {"Nearer": [], "Not nearer": [], "Undecided": []}
    for (arm, steps), group in rows.groupby(["arm", "steps"], sort=False):
        found, floor = over_seeds(group), floors[_data(group.data.iloc[0])]
        side = "Nearer" if found.high < floor else "Not nearer" if found.low >= floor else "Undecided"
        way = steps_label(steps, group.objective.iloc[0])
        sides[side].append(f"{arm} in {way} {found}")
    parts = [f"{side.lower()}: {', '.join(arms)}" for side, arms in sides.items() if arms]
    several = len(floors) > 1
    lie = ", ".join(f"{floor:.3g} from" + (f" (on {data})" if several else "") for data, floor in floors.items())
    return f"Held-out images lie {lie} their nearest training image; " + "; ".join(parts) + "."


def _data(name: object) -> str:
    return "" if pd.isna(name) else str(name)  # pyright: ignore[reportArgumentType, reportCallIssue, reportGeneralTypeIssues]


KIND = Kind(
    draw=draw,
    say=say,
    caption="Mean distance of samples to the nearest training and to the nearest held-out image, every seed a "
    "point. The dashed line is the distance of held-out images to their nearest training image.",
)
