"""Means and 95% t intervals over seeds; a diverged run is worse than any other."""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from workflow.runtime.quantities import QUANTITIES

COLUMNS = [
    "study", "data", "experiment", "arm", "objective", "intervals", "precision", "size", "steps", "guidance",
    "seed", "metric", "value", "status", "parameters", "iterations", "batch",
    "sampler", "mid_time", "teacher",
]  # fmt: skip
"""Of runs.csv; others rely on the first thirteen."""


@dataclass(frozen=True)
class Interval:
    """A mean over seeds with its 95% t interval; not finite when a seed diverged, low and high NaN for one seed."""

    mean: float
    low: float
    high: float
    seeds: int

    def __str__(self) -> str:
        if not math.isfinite(self.mean):
            return "diverged"
        if math.isnan(self.low):
            return f"{self.mean:.3g}"
        return f"{self.mean:.3g} [{self.low:.3g}, {self.high:.3g}]"


def interval(values: pd.Series | np.ndarray) -> Interval:
    """Mean and t interval of values, one per seed."""
    array = np.asarray(values, float)
    mean, count = float(array.mean()) if len(array) else math.nan, len(array)
    if count < 2 or not math.isfinite(mean):
        return Interval(mean, math.nan, math.nan, count)
    half = float(stats.t.ppf(0.975, count - 1) * array.std(ddof=1) / math.sqrt(count))
    return Interval(mean, mean - half, mean + half, count)


def paired(runs: pd.DataFrame, arm: str, other: str, metric: str, steps: int | None = None) -> Interval:
    """The interval of (other - arm), paired by seed; seeds that either lacks are left out."""
    chosen = select(runs, metric, steps)
    table = chosen[chosen.arm.isin([arm, other])].pivot_table(index="seed", columns="arm", values="value", dropna=False)
    if not {arm, other} <= set(table.columns):
        return Interval(math.nan, math.nan, math.nan, 0)
    return interval((table[other] - table[arm]).dropna())


def difference(ours: pd.Series, theirs: pd.Series) -> Interval:
    """Welch's interval of mean(ours) - mean(theirs), for runs on different machines."""
    a, b = np.asarray(ours, float), np.asarray(theirs, float)
    if len(a) < 2 or len(b) < 2 or not np.isfinite([*a, *b]).all():
        return Interval(math.nan, math.nan, math.nan, min(len(a), len(b)))
    found = stats.ttest_ind(a, b, equal_var=False) if a.std() + b.std() > 0 else None
    mean = float(a.mean() - b.mean())
    if found is None:
        return Interval(mean, mean, mean, len(a))
    bounds = found.confidence_interval(0.95)
    return Interval(mean, float(bounds.low), float(bounds.high), min(len(a), len(b)))


def select(runs: pd.DataFrame, metric: str, steps: int | None = None) -> pd.DataFrame:
    """Rows of one metric, and of one number of steps where given."""
    rows = runs[runs.metric == metric]
    return rows if steps is None else rows[rows.steps == steps]


def summary(runs: pd.DataFrame) -> pd.DataFrame:
    """One row per arm, steps and metric: mean, low, high, seeds, diverged."""
    rows = []
    measured = runs[runs.metric.isin(QUANTITIES)]
    keys = ["arm", "objective", "intervals", "precision", "size", "steps", "sampler", "guidance", "mid_time", "metric"]
    for values, group in measured.groupby(keys, dropna=False, sort=False):
        found = interval(group.value)
        rows.append(
            dict(zip(keys, values, strict=True))
            | {"mean": found.mean, "low": found.low, "high": found.high, "seeds": found.seeds}
            | {"diverged": int((group.status == "diverged").sum())}
        )
    return pd.DataFrame(rows, columns=[*keys, "mean", "low", "high", "seeds", "diverged"])


def at_best_guidance(rows: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The same, of samplings that differ in their guidance scale alone only the best by the mean of `metric`.

    As the paper's tables have it, each network and number of steps at a scale of its own; the best has most
    seeds with a value. `rows` are of runs.csv, or of curves.csv, whose ends are compared.
    """
    keys = [key for key in ("arm", "sampler", "steps", "mid_time") if key in rows]
    judged = rows[rows.guidance.notna() & (rows.metric == metric)]
    if not len(judged):
        return rows
    if "x" in rows:
        judged = judged[judged.x == judged.groupby("arm").x.transform("max")]
    lost = ~np.isfinite(judged.value) | (judged.status == "diverged" if "status" in judged else False)
    finite = judged.assign(value=judged.value.mask(lost))
    means = finite.groupby([*keys, "guidance"], dropna=False, sort=False).value.agg(["count", "mean"]).reset_index()
    means["mean"] *= -1 if QUANTITIES[metric].better == "higher" else 1
    ordered = means.sort_values(["count", "mean"], ascending=[False, True], kind="stable")
    best = ordered.drop_duplicates(keys)[[*keys, "guidance"]].rename(columns={"guidance": "best"})
    chosen = rows[keys].merge(best, on=keys, how="left").best.to_numpy()
    return rows[rows.guidance.isna() | np.isnan(chosen) | (rows.guidance == chosen)]
