"""What a figure shows, in a sentence that is computed from its rows and from nothing else."""

import math
from collections.abc import Callable

import pandas as pd

from workflow.report.statistics import Interval, interval, paired, select
from workflow.report.style import name
from workflow.runtime.quantities import QUANTITIES
from workflow.study import Experiment

Frame = pd.DataFrame


def discretisation(experiment: Experiment, runs: Frame, curves: Frame) -> str:
    """Per precision (and number of steps): the best N, and whether sCD is better than every N."""
    rows = runs[runs.metric == experiment.metric]
    sentences = []
    discrete = rows[rows.intervals.notna()]
    for (precision, steps), group in discrete.groupby(["precision", "steps"], dropna=False, sort=False):
        where = [str(precision)] if discrete.precision.nunique() > 1 else []
        where += [_steps(steps)] if pd.notna(steps) else []
        means = group.groupby(["intervals", "arm"], sort=True).value.mean()
        best_n, best_arm = means.idxmin()
        last_n = means.index[-1][0]
        text = f"dsCD is best at N = {best_n:.0f} ({_shown(group, best_arm)})"
        if last_n != best_n:
            lost = not math.isfinite(means.iloc[-1])
            text += " and diverges" if lost else f" and {means.iloc[-1] / means.min():.2f} times as far off"
            text += f" at N = {last_n:.0f}"
        rivals = rows[(rows.objective == "scd") & (rows.precision == precision)]
        rivals = rivals[rivals.steps == steps] if pd.notna(steps) else rivals
        if len(rivals):
            text += ", " + _against(rows, rivals.arm.iloc[0], best_arm, experiment.metric, steps)
        sentences.append((f"{', '.join(where)}: " if where else "") + text)
    return "; ".join(sentences) + "." if sentences else NOTHING


def _against(rows: Frame, continuous: str, best: str, metric: str, steps: float) -> str:
    chosen = rows if pd.isna(steps) else rows[rows.steps == steps]
    gap = paired(chosen, continuous, best, metric)
    shown = f"sCD reaches {_shown(chosen, continuous)}"
    if math.isfinite(gap.low) and gap.low > 0:
        return f"{shown}, better than every N (gap to the best N {gap}, paired by seed)"
    if math.isfinite(gap.high) and gap.high < 0:
        return f"{shown}, worse than that best N (gap {gap}, paired by seed)"
    if not math.isfinite(gap.low):
        return f"{shown} (too few seeds for an interval)"
    better = chosen[chosen.arm == continuous].value.mean() <= chosen[chosen.arm == best].value.mean()
    side = "lower on average" if better else "higher on average"
    return f"{shown}, {side} than the best N, but the interval of the gap holds zero ({gap}, paired by seed)"


def map_error(experiment: Experiment, runs: Frame, curves: Frame) -> str:
    """How the error grows from the smallest angle to pure noise."""
    rows = curves[curves.metric == "map_rms"]
    parts = []
    for _, group in rows.groupby("arm", sort=False):
        means = group.groupby("x").value.mean()
        parts.append(f"{_label(group)} from {means.iloc[0]:.2g} at t = {means.index[0]:.2g} to {means.iloc[-1]:.2g}")
    return "The error grows towards noise for every method: " + "; ".join(parts) + " at t_max." if parts else NOTHING


def training(experiment: Experiment, runs: Frame, curves: Frame) -> str:
    """The end value, and the largest over the median as a measure of spikes."""
    rows = curves[curves.metric == experiment.metric]
    parts = []
    for _, group in rows.groupby("arm", sort=False):
        spike = (group.groupby("seed").value.max() / group.groupby("seed").value.median()).max()
        last = group[group.x == group.x.max()].value.mean()
        parts.append(f"{_label(group)} ends at {last:.2g}, at most {spike:.2g} times its median")
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
    rows = select(runs[runs.objective != "data"], "nearest_train")
    nearer, not_nearer = [], []
    for (arm, steps), group in rows.groupby(["arm", "steps"], sort=False):
        found = interval(group.value)
        side = nearer if (found.high if math.isfinite(found.high) else found.mean) < floor else not_nearer
        side.append(f"{arm} in {_steps(float(steps))} {found}")
    text = f"Held-out images lie {floor:.3g} from their nearest training image. "
    if nearer:
        text += "Nearer than that: " + "; ".join(nearer) + ". "
    if not_nearer:
        text += "Not nearer: " + "; ".join(not_nearer) + "."
    return text.strip()


def _ratio(values: pd.Series, own: list[float]) -> list[float]:
    """Worst where either run diverged."""
    pairs = zip(values, own, strict=True)
    return [value / other if math.isfinite(value) and math.isfinite(other) else math.inf for value, other in pairs]


NOTHING = "There is no result to speak of yet."


def _shown(rows: Frame, arm: str) -> Interval:
    return interval(rows[rows.arm == arm].value)


def _steps(count: float) -> str:
    return "1 step" if count == 1 else f"{count:.0f} steps"


def _label(group: Frame) -> str:
    intervals = group.intervals.iloc[0]
    return name(group.objective.iloc[0]).split(" (")[0] + (f" N = {intervals:.0f}" if pd.notna(intervals) else "")


FINDINGS: dict[str, Callable[[Experiment, Frame, Frame], str]] = {
    "discretisation": discretisation,
    "map_error": map_error,
    "training": training,
    "methods": methods,
    "sizes": sizes,
    "memorisation": memorisation,
}
