"""What a figure shows, in a sentence that is computed from its rows and from nothing else."""

import math
from collections.abc import Callable

import pandas as pd

from workflow.report.statistics import Interval, interval, paired, select
from workflow.report.style import name
from workflow.runtime.quantities import QUANTITIES
from workflow.schema import Experiment

Frame = pd.DataFrame


def discretisation(experiment: Experiment, runs: Frame, curves: Frame) -> str:
    """Per discrete method, precision and steps: the best N, and whether continuous time is better than every N."""
    rows = runs[runs.metric == experiment.metric]
    sentences = []
    discrete = rows[rows.intervals.notna()]
    for (objective, precision, steps), group in discrete.groupby(
        ["objective", "precision", "steps"], dropna=False, sort=False
    ):
        where = [str(precision)] if discrete.precision.nunique() > 1 else []
        where += [_steps(steps)] if pd.notna(steps) else []
        means = group.groupby(["intervals", "arm"], sort=True).value.mean()
        best = means.idxmax() if QUANTITIES[experiment.metric].better == "higher" else means.idxmin()
        text = f"{_short(objective)} is best at N = {best[0]:.0f} ({_shown(group, best[1])})"
        last_n, last = means.index[-1][0], means.iloc[-1]
        if last_n != best[0]:
            text += f" and {last / means[best]:.2f} times that" if math.isfinite(last) else " and diverges"
            text += f" at N = {last_n:.0f}"
        rivals = rows[(rows.objective == CONTINUOUS.get(objective)) & (rows.precision == precision)]
        rivals = rivals[rivals.steps == steps] if pd.notna(steps) else rivals
        if len(rivals):
            text += ", " + _against(group, rivals, best[1], experiment.metric)
        sentences.append((f"{', '.join(where)}: " if where else "") + text)
    return "; ".join(sentences) + "." if sentences else NOTHING


def _against(discrete: Frame, continuous: Frame, best: str, metric: str) -> str:
    """The continuous method beside the best N; choosing the best N afterwards favours the discrete one."""
    arm = continuous.arm.iloc[0]
    gap = paired(pd.concat([discrete, continuous]), arm, best, metric)
    sign = -1 if QUANTITIES[metric].better == "higher" else 1
    shown = f"{_short(continuous.objective.iloc[0])} reaches {_shown(continuous, arm)}"
    if not math.isfinite(gap.mean):
        return f"{shown} (a run diverged, so there is no gap to speak of)"
    if math.isnan(gap.low):
        return f"{shown} (too few seeds for an interval)"
    about = f"gap to the best N {gap}, paired by seed"
    if min(sign * gap.low, sign * gap.high) > 0:
        return f"{shown}, better than every N ({about})"
    if max(sign * gap.low, sign * gap.high) < 0:
        return f"{shown}, worse than the best N ({about})"
    side = "better" if sign * gap.mean > 0 else "worse"
    return f"{shown}, {side} than the best N on average, but the interval holds zero ({about})"


def map_error(experiment: Experiment, runs: Frame, curves: Frame) -> str:
    """How the error grows from the smallest angle to pure noise."""
    rows = curves[curves.metric == "map_rms"]
    parts, grows = [], []
    for _, group in rows.groupby("arm", sort=False):
        means = group.groupby("x").value.mean()
        grows.append(means.iloc[-1] > means.iloc[0])
        parts.append(f"{_label(group)} {means.iloc[0]:.2g} at t = {means.index[0]:.2g}, {means.iloc[-1]:.2g} at t_max")
    if not parts:
        return NOTHING
    return f"The error is larger at t_max than near the data for {sum(grows)} of {len(grows)} arms: {'; '.join(parts)}."


def training(experiment: Experiment, runs: Frame, curves: Frame) -> str:
    """The end value, and the largest over the median as a measure of spikes."""
    rows = curves[curves.metric == experiment.metric]
    parts = []
    for _, group in rows.groupby("arm", sort=False):
        peaks = curves[(curves.metric == "training_direction_norm_max") & (curves.arm == group.arm.iloc[0])]
        spike = (peaks.groupby("seed").value.max() / group.groupby("seed").value.median()).max()
        last = group[group.x == group.x.max()].value.mean()
        parts.append(f"{_label(group)} ends at {last:.2g}, its largest step {spike:.2g} times the median")
    return "Norm of the direction before normalisation: " + "; ".join(parts) + "." if parts else NOTHING


def methods(experiment: Experiment, runs: Frame, curves: Frame) -> str:
    """Each method's metric at its fewest and at its most steps."""
    rows = runs[(runs.metric == experiment.metric) & (runs.objective != "data")]
    parts = []
    for arm, group in rows.groupby("arm", sort=False):
        counts = sorted(group.steps.dropna().unique())
        values = [f"{interval(group[group.steps == k].value)} in {_steps(k)}" for k in counts]
        parts.append(f"{arm} {', '.join(values)}")
    label = QUANTITIES[experiment.metric].label
    return f"{label[0].upper()}{label[1:]}: " + "; ".join(parts) + "." if parts else NOTHING


def sizes(experiment: Experiment, runs: Frame, curves: Frame) -> str:
    """The ratio of every student to its own teacher, by size."""
    rows = runs[runs.metric == experiment.metric]
    teachers = rows[rows.objective == "diffusion"].set_index(["size", "seed"]).value
    parts = []
    for (objective, steps), group in rows[rows.objective.isin(["scd", "sct"])].groupby(["objective", "steps"]):
        ratios = []
        for size, members in group.groupby("size", sort=False):
            own = [teachers.get((size, seed), math.nan) for seed in members.seed]
            ratios.append(f"{size} {interval(_ratio(members.value, own))}")
        parts.append(f"{name(str(objective))}, {_steps(float(steps))}: " + ", ".join(ratios))
    trend = "; ".join(
        f"{size} {interval(g.value)}" for size, g in rows[rows.objective == "diffusion"].groupby("size", sort=False)
    )
    return f"Teachers: {trend}. Ratio student / teacher: " + "; ".join(parts) + "." if parts else NOTHING


def memorisation(experiment: Experiment, runs: Frame, curves: Frame) -> str:
    """Whether samples are nearer to training images than held-out images are."""
    floor = runs[(runs.objective == "data") & (runs.metric == "nearest_train")].value.mean()
    rows = select(runs[(runs.objective != "data") & (runs.status == "finished")], "nearest_train")
    sides: dict[str, list[str]] = {"Nearer": [], "Not nearer": [], "Undecided": []}
    for (arm, steps), group in rows.groupby(["arm", "steps"], sort=False):
        found = interval(group.value)
        side = "Nearer" if found.high < floor else "Not nearer" if found.low >= floor else "Undecided"
        sides[side].append(f"{arm} in {_steps(float(steps))} {found}")
    parts = [f"{side.lower()}: {', '.join(arms)}" for side, arms in sides.items() if arms]
    return f"Held-out images lie {floor:.3g} from their nearest training image; " + "; ".join(parts) + "."


def _ratio(values: pd.Series, own: list[float]) -> list[float]:
    """Worst where either run diverged."""
    pairs = zip(values, own, strict=True)
    return [value / other if math.isfinite(value) and math.isfinite(other) else math.inf for value, other in pairs]


CONTINUOUS = {"dscd": "scd", "dsct": "sct"}
"""The continuous-time limit of each discrete objective."""
NOTHING = "There is no result to speak of yet."


def _shown(rows: Frame, arm: str) -> Interval:
    return interval(rows[rows.arm == arm].value)


def _steps(count: float) -> str:
    return "1 step" if count == 1 else f"{count:.0f} steps"


def _short(objective: str) -> str:
    return name(str(objective)).split(" (")[0]


def _label(group: Frame) -> str:
    intervals = group.intervals.iloc[0]
    return _short(group.objective.iloc[0]) + (f" N = {intervals:.0f}" if pd.notna(intervals) else "")


FINDINGS: dict[str, Callable[[Experiment, Frame, Frame], str]] = {
    "discretisation": discretisation,
    "map_error": map_error,
    "training": training,
    "methods": methods,
    "sizes": sizes,
    "memorisation": memorisation,
}
