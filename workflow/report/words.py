"""Words of findings: means, ratios and differences with their intervals, who is ahead, on the seeds that both have."""

import math

import numpy as np
import pandas as pd

from trigbench.workflow.claims.statistics import Interval, interval, over_seeds, per_seed
from trigbench.workflow.report.rows import Frame
from trigbench.workflow.report.style import name
from trigbench.workflow.study.quantities import Quantity

NOTHING = "There is no result to speak of yet."


def mean_of(rows: Frame, arm: str) -> Interval:
    """The arm's mean over seeds, with its interval."""
    return over_seeds(rows[rows.arm == arm])


def compared(rows: Frame, first: str, arm: str, of: Quantity) -> tuple[str, str]:
    """(better, worse or undecided; by how much) of an arm against another, on the seeds that both have."""
    table = by_seed(rows, [first, arm])
    if not len(table):
        return "undecided", "no seed in common"
    own, other = np.isfinite(table[arm]).all(), np.isfinite(table[first]).all()
    if not own or not other:
        lost = int((~np.isfinite(table[first if own else arm])).sum())
        side = "undecided" if own == other else "better" if own else "worse"
        whose = f"{first} " if own else ""
        return side, f"{whose}diverged in {lost} of {_seeds(len(table))}"
    if of.signed and (table < 0).any(axis=None):
        gap = interval(table[arm] - table[first])
        return _side(gap, of), with_sign(gap) if not math.isnan(gap.low) else f"{signed_number(gap.mean)} (one seed)"
    if not (table > 0).all(axis=None):
        return "undecided", f"{short_number(table[arm].mean())}, no ratio to {short_number(table[first].mean())}"
    ratio = geometric_mean(table[arm] / table[first])
    return _side(ratio, of, 1.0), as_percent(ratio)


def _side(found: Interval, of: Quantity, even: float = 0.0) -> str:
    """Better or worse where the interval excludes `even`, undecided where it does not or there is none."""
    if not (found.low > even or found.high < even):
        return "undecided"
    return "better" if (found.mean < even) == (of.better == "lower") else "worse"


def best_first(rows: Frame, of: Quantity) -> list[str]:
    """Arms from the best mean to the worst; a diverged run is worst."""
    worst = rows.assign(value=with_worst(rows, of))
    means = worst.groupby("arm", sort=False).value.mean()
    return list(means.sort_values(ascending=of.better == "lower", kind="stable").index)


def lead_of(rows: Frame, arms: list[str], of: Quantity) -> str:
    """Whether the first arm is ahead of the second, paired by seed."""
    side, shown = compared(rows, arms[1], arms[0], of)
    if side == "better":
        return f"{arms[0]} is ahead of {arms[1]} ({shown})"
    return f"{arms[0]} and {arms[1]} are undecided ({shown})"


def with_worst(rows: Frame, of: Quantity) -> pd.Series:
    """The values, with no number and a diverged run as the worst."""
    values = rows.value.astype(float)
    lost = values.isna() | (rows.status == "diverged") if "status" in rows else values.isna()
    return values.mask(lost, of.worst)


def by_seed(rows: Frame, arms: list[str]) -> Frame:
    """A row per seed that all these arms have; no number is a diverged run. ValueError as in `per_seed`."""
    told = rows.assign(value=_infinite)
    return pd.DataFrame({arm: per_seed(told[told.arm == arm]) for arm in arms}).dropna()


def _infinite(rows: Frame) -> pd.Series:
    """A diverged run is told by infinity, whatever the metric counts it as."""
    values = rows.value.astype(float).fillna(math.inf)
    return values.mask(rows.status == "diverged", math.inf) if "status" in rows else values


def geometric_mean(ratios: pd.Series) -> Interval:
    """Mean and t interval of ratios, in logarithms: a ratio and its inverse say the same."""
    positive = ratios.to_numpy(float)
    if not len(positive) or not (np.isfinite(positive) & (positive > 0)).all():
        return Interval(math.inf, math.nan, math.nan, len(positive))
    found = interval(np.log(positive))
    return Interval(*(float(np.exp(value)) for value in (found.mean, found.low, found.high)), found.seeds)


def as_percent(ratio: Interval) -> str:
    """`+12% [+3%, +22%]`, or `7.1 [6.2, 8.3] times` where it is many."""
    if ratio.mean > 5:
        return as_factor(ratio)
    mean, low, high = (signed_number(100 * (value - 1)) + "%" for value in (ratio.mean, ratio.low, ratio.high))
    return f"{mean} (one seed)" if math.isnan(ratio.low) else f"{mean} [{low}, {high}]"


def signed_number(value: float) -> str:
    """Three digits at most, with a sign."""
    return (f"{value:+.0f}" if abs(value) >= 100 else f"{value:+.2g}" if abs(value) < 10 else f"{value:+.3g}").replace(
        "-", "−"
    )


def as_factor(ratio: Interval) -> str:
    """`7.1 [6.2, 8.3] times`."""
    return f"{ratio} times"


def with_sign(found: Interval) -> str:
    """`+8 [+5, +11]`."""
    return f"{found.mean:+.3g} [{found.low:+.3g}, {found.high:+.3g}]".replace("-", "−")


def short_number(value: float) -> str:
    """Three digits at most."""
    return f"{value:.3g}"


def _seeds(count: int) -> str:
    return f"{count} seed{'' if count == 1 else 's'}"


def capital(text: str) -> str:
    """The text with its first letter in upper case."""
    return text[:1].upper() + text[1:]


def short_name(objective: str) -> str:
    """The objective's name in figures, without what that has in brackets."""
    return name(str(objective)).split(" (")[0]


def label_of(group: Frame) -> str:
    """The method of these rows, with its N."""
    intervals = group.intervals.iloc[0]
    return short_name(group.objective.iloc[0]) + (f" N = {intervals:.0f}" if pd.notna(intervals) else "")


def in_a_word(of: Quantity) -> str:
    """`distance` for all of these, else the label."""
    return "distance" if "distance" in of.label else of.label
