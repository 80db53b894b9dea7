"""Means and 95% t intervals over seeds; a diverged run is worse than any other."""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from trigbench.workflow.claims.intervals import student_quantile
from trigbench.workflow.study.quantities import QUANTITIES, Quantities

COLUMNS = [
    "study", "data", "experiment", "arm", "objective", "intervals", "precision", "size", "steps", "guidance",
    "seed", "metric", "value", "status", "parameters", "iterations", "batch",
    "sampler", "mid_time", "teacher", "sampling", "times",
]  # fmt: skip
"""Of runs.csv; others rely on the first thirteen. `sampler` is the solver, `sampling` the study's name for it."""
SAMPLING = ("steps", "sampler", "guidance", "mid_time", "sampling", "times")
"""All that was set of how a run was sampled."""
KEY = ("data", "arm", "objective", "intervals", "precision", "size", *SAMPLING, "metric")
"""All that was set: of an experiment's rows that agree in it each seed has one (on a curve, one at each x)."""


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


def per_seed(rows: pd.DataFrame) -> pd.Series:
    """The values of rows that agree in all that was set, by seed.

    Raises ValueError where a seed stands twice: what was set twice would pass for two seeds.
    """
    _refuse_twice(rows, rows.seed.duplicated())
    return rows.value.set_axis(pd.Index(rows.seed))


def refuse_doubles(rows: pd.DataFrame, along: str | None = None) -> None:
    """Raise ValueError where two rows of one seed agree in all that was set (and in the column `along`)."""
    _refuse_twice(rows, rows.duplicated([column for column in (*KEY, "seed", along) if column in rows]))


def _refuse_twice(rows: pd.DataFrame, twice: pd.Series) -> None:
    if twice.any():
        raise ValueError(_doubled(rows[twice].iloc[0]))


def _doubled(row: pd.Series) -> str:
    shown = [c for c in ("steps", "sampling", "sampler", "times", "mid_time", "guidance", "x") if pd.notna(row.get(c))]
    settings = ", ".join(f"{c} {row[c]:g}" if isinstance(row[c], float) else f"{c} {row[c]}" for c in shown)
    seed = "no seed" if pd.isna(row.seed) else f"seed {row.seed:.0f}"
    where = f" ({settings})" if settings else ""
    return f"{row.get('metric')} of {row.get('arm')!r}, {seed}, has several values under one setting{where}"


def over_seeds(rows: pd.DataFrame) -> Interval:
    """The interval of rows that agree in all that was set; ValueError as in `per_seed`."""
    return interval(per_seed(rows))


def over_seeds_along(rows: pd.DataFrame, along: str) -> dict[float, Interval]:
    """The same at each value of the column `along`."""
    _refuse_twice(rows, rows.duplicated([along, "seed"]))
    return {at: interval(values) for at, values in rows.groupby(along).value}


def interval(values: pd.Series | np.ndarray) -> Interval:
    """Mean and t interval of values, one per seed; of rows of a table see `over_seeds`."""
    array = np.asarray(values, float)
    mean, count = float(array.mean()) if len(array) else math.nan, len(array)
    if count < 2 or not math.isfinite(mean):
        return Interval(mean, math.nan, math.nan, count)
    half = float(student_quantile(0.975, count - 1) * array.std(ddof=1) / math.sqrt(count))
    return Interval(mean, mean - half, mean + half, count)


def paired(rows: pd.DataFrame, arm: str, other: str) -> Interval:
    """The interval of (other - arm), paired by seed, without seeds that either lacks. ValueError as in `per_seed`."""
    own, others = (per_seed(rows[rows.arm == name]) for name in (arm, other))
    return interval((others - own).dropna())


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


SUMMARY = [
    "arm", "objective", "intervals", "precision", "size", "steps", "sampler", "guidance", "mid_time", "metric",
    "mean", "low", "high", "seeds", "diverged", "data", "sampling", "times",
]  # fmt: skip
"""Columns of `summary`."""


def summary(runs: pd.DataFrame, known: Quantities = QUANTITIES) -> pd.DataFrame:
    """One row for all that was set and each metric: mean, low, high, seeds, diverged."""
    rows = []
    measured = runs[runs.metric.isin(known)].reindex(columns=list(dict.fromkeys([*runs.columns, *KEY])))
    for values, group in measured.groupby(list(KEY), dropna=False, sort=False):
        found = over_seeds(group)
        rows.append(
            dict(zip(KEY, values, strict=True))
            | {"mean": found.mean, "low": found.low, "high": found.high, "seeds": found.seeds}
            | {"diverged": int((group.status == "diverged").sum())}
        )
    return pd.DataFrame(rows, columns=SUMMARY)


def at_best_guidance(rows: pd.DataFrame, metric: str, known: Quantities = QUANTITIES) -> pd.DataFrame:
    """The same, of samplings that differ in their guidance scale alone only the best by the mean of `metric`.

    As the paper's tables have it, each network and number of steps at a scale of its own; the best has most
    seeds with a value. `rows` are of runs.csv, or of curves.csv, whose ends are compared.
    """
    keys = [key for key in ("arm", *SAMPLING) if key in rows and key != "guidance"]
    judged = rows[rows.guidance.notna() & (rows.metric == metric)]
    if not len(judged):
        return rows
    if "x" in rows:
        judged = judged[judged.x == judged.groupby("arm").x.transform("max")]
    lost = ~np.isfinite(judged.value) | (judged.status == "diverged" if "status" in judged else False)
    finite = judged.assign(value=judged.value.mask(lost))
    means = finite.groupby([*keys, "guidance"], dropna=False, sort=False).value.agg(["count", "mean"]).reset_index()
    means["mean"] *= -1 if known[metric].better == "higher" else 1
    ordered = means.sort_values(["count", "mean"], ascending=[False, True], kind="stable")
    firsts = ordered.drop_duplicates(keys)
    best = dict(zip(_keyed(firsts, keys), firsts.guidance, strict=True))
    chosen = np.array([best.get(way, math.nan) for way in _keyed(rows, keys)], float)
    return rows[rows.guidance.isna() | np.isnan(chosen) | (rows.guidance == chosen)]


def _keyed(rows: pd.DataFrame, keys: list[str]) -> list[tuple]:
    """What each row has under these columns; nothing is None."""
    plain = rows[keys].astype(object)
    return list(plain.where(plain.notna(), None).itertuples(index=False, name=None))
