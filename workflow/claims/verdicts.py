"""The statistics of verdicts: effects by seed from tidy tables, their interval, and what follows.

Every seed gives one effect (workflow.claims.ledger.Rule). Their 95% t interval is held against d, the
smallest effect that matters, on the claimed side of zero:

- reproduced: the interval lies wholly beyond d (for `same`: wholly within -d and d);
- not reproduced: it lies wholly short of d (for `same`: wholly outside);
- inconclusive: neither, or fewer than three seeds.

Where the true effect is d itself, each of the first two is said with probability 2.5% at most.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from scipy import stats

from trigbench.workflow.claims.statistics import interval
from trigbench.workflow.errors import BenchError
from trigbench.workflow.study.claim import Rule, Term
from trigbench.workflow.study.quantities import QUANTITIES, Quantities

Verdict = Literal["reproduced", "not reproduced", "inconclusive", "not run"]
Direction = Literal["less", "more", "same"]
ALPHA = 0.05
MIN_SEEDS = 3
RULE_CHANGED = "rule changed after results"
CLAIM_NEW = "claim newer than results"
"""What is said of a rule that is not older than the results that it judges."""
SELECTORS = ("steps", "sampling", "times", "guidance", "x")
"""Keys of a term that choose among the ways in which a run was sampled, and points of a curve."""
NEAR = 0.1
"""A curve's point may lie this far from the x that a rule names, relatively."""


@dataclass(frozen=True)
class Effects:
    """One effect per seed; without any, `missing` says in words what there is none of."""

    seeds: tuple[int, ...]
    values: tuple[float, ...]
    missing: tuple[str, ...] = ()
    left_out: tuple[int, ...] = ()
    """Seeds that some arm lacks."""


@dataclass(frozen=True)
class Judgement:
    """A verdict with its effect and interval; None where there is no such number."""

    verdict: Verdict
    effect: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    """The least alpha at which the verdict would be said; see `p_value`."""
    seeds: int = 0
    note: str = ""


# --- effects -------------------------------------------------------------------------------------


def effects(
    rule: Rule,
    runs: pd.DataFrame,
    curves: pd.DataFrame,
    known: Quantities = QUANTITIES,
    file: Path | str = "workflow/claims.yaml",
) -> Effects:
    """The rule's effect in every seed that all of its arms have.

    The rule's patterns must be resolved. Raises BenchError, naming the rule's file, where a term selects several rows
    of one seed and does not say how to take them.
    """
    runs, curves = (_of_experiment(table, rule.experiment) for table in (runs, curves))
    lost = runs[runs.status == "diverged"]
    diverged = set(zip(lost.arm, lost.seed.astype(int), strict=True))
    table = curves if rule.is_curve else runs
    scale: Callable[[float], float] = _log if rule.scale == "log_ratio" else float
    signed: list[tuple[int, dict[int, float]]] = []
    constant, missing = 0.0, []
    for sign, terms in ((1, rule.of), (-1, rule.against)):
        for term in terms:
            if term.value is not None:
                constant += sign * scale(term.value)
                continue
            try:
                values, gaps = _by_seed(term, term.metric or rule.metric, table, diverged, known)
            except ValueError as error:
                remedy = f"select one of them by {', '.join(SELECTORS)}, or say how to 'take' them"
                raise BenchError(str(error), file=file, remedy=remedy) from None
            signed.append((sign, {seed: scale(value) for seed, value in values.items()}))
            missing += gaps
    if missing:
        return Effects((), (), tuple(dict.fromkeys(missing)))
    having = [set(values) for _, values in signed]
    seeds = sorted(set.intersection(*having))
    if not seeds:
        return Effects((), (), ("a seed that all arms have",))
    totals = tuple(constant + sum(sign * values[seed] for sign, values in signed) for seed in seeds)
    return Effects(tuple(seeds), totals, left_out=tuple(sorted(set.union(*having) - set(seeds))))


def _of_experiment(table: pd.DataFrame, experiment: str) -> pd.DataFrame:
    return table[table.experiment == experiment]


def _log(value: float) -> float:
    """The logarithm, with its limits; NaN below zero."""
    if value > 0:
        return math.log(value)
    return -math.inf if value == 0 else math.nan


def _by_seed(
    term: Term, metric: str, table: pd.DataFrame, diverged: set[tuple[str, int]], known: Quantities
) -> tuple[dict[int, float], list[str]]:
    """(the term's number for every seed that all its arms have, what is missing in words)."""
    rows = _selected(term, metric, table)
    values: list[dict[int, list[float]]] = []
    for arm in term.arms or (None,):
        own = rows if arm is None else rows[rows.arm == arm]
        own = own[own.seed.notna()]
        found = {int(seed): _numbers(group) for seed, group in _at(own, term).groupby("seed")}
        for lost_arm, seed in diverged:
            if lost_arm == arm and (term.x == "all" or not found.get(seed)):
                found[seed] = [_worst(metric, known)]
        values.append({seed: numbers for seed, numbers in found.items() if numbers})
        if not values[-1]:
            return {}, [f"{metric} of {arm or 'any arm'}{_where(term)}"]
    seeds = set.intersection(*(set(of_arm) for of_arm in values))
    return {seed: _taken([v for of_arm in values for v in of_arm[seed]], term, metric) for seed in seeds}, []


def _selected(term: Term, metric: str, table: pd.DataFrame) -> pd.DataFrame:
    rows = table[table.metric == metric]
    for column, wanted in term.selected.items():
        if column not in rows:
            return rows[:0]
        if isinstance(wanted, str):
            rows = rows[rows[column].isna() if wanted == "" else rows[column] == wanted]
            continue
        rows = rows[np.isclose(rows[column].astype(float), float(wanted))]
    return rows


def _at(rows: pd.DataFrame, term: Term) -> pd.DataFrame:
    """The rows where the term looks at the curve."""
    if term.x in (None, "all") or not len(rows):
        return rows
    points = sorted(rows.x.unique())
    if isinstance(term.x, str):
        return rows[rows.x == points[0 if term.x == "first" else -1]]
    wanted = float(term.x or 0)
    nearest = min(points, key=lambda x: abs(x - wanted))
    return rows[rows.x == nearest] if math.isclose(nearest, wanted, rel_tol=NEAR) else rows[:0]


def _numbers(group: pd.DataFrame) -> list[float]:
    """The group's values; what is not a number is no value."""
    return [float(value) for value in group.value if not math.isnan(value)]


def _worst(metric: str, known: Quantities) -> float:
    return known[metric].worst if metric in known else math.inf


def _taken(values: list[float], term: Term, metric: str) -> float:
    if term.take is None:
        if len(values) > 1:
            arms = ", ".join(term.arms) or "any arm"
            raise ValueError(f"{metric} of {arms}{_where(term)} has {len(values)} rows for one seed")
        return values[0]
    return {"min": min, "max": max, "mean": _mean}[term.take](values)


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _where(term: Term) -> str:
    parts = {**term.selected, **({"x": term.x} if term.x is not None else {})}
    return "".join(f", {column} {w if isinstance(w, str) else f'{w:g}'}" for column, w in parts.items())


# --- verdicts ------------------------------------------------------------------------------------


def judged(found: Effects, direction: Direction, smallest: float) -> Judgement:
    """The verdict on effects by seed.

    A diverged run counts as infinitely bad. If it decides every seed to one side the verdict
    follows; if it decides some seeds only, nothing does.
    """
    values, count = np.array(found.values), len(found.values)
    if found.missing:
        return Judgement("not run", note=f"there is no {'; no '.join(found.missing)}")
    left = f"seeds left out, since an arm lacks them: {', '.join(map(str, found.left_out))}" if found.left_out else ""
    if not np.isfinite(values).all():
        return _judged_by_divergence(values, direction, left)
    around = interval(values)
    if count < MIN_SEEDS:
        note = "; ".join(filter(None, (f"fewer than {MIN_SEEDS} seeds", left)))
        low, high = (None, None) if math.isnan(around.low) else (around.low, around.high)
        return Judgement("inconclusive", around.mean, low, high, seeds=count, note=note)
    verdict = str(classify(np.array(around.low), np.array(around.high), direction, smallest))
    p = p_value(values, direction, smallest)
    return Judgement(verdict, around.mean, around.low, around.high, p, count, left)


def _judged_by_divergence(values: np.ndarray, direction: Direction, left: str) -> Judgement:
    count = len(values)
    one_side = bool((values == math.inf).all() or (values == -math.inf).all())
    if count >= MIN_SEEDS and one_side:
        end = float(values[0])
        verdict = "reproduced" if direction == ("more" if end > 0 else "less") else "not reproduced"
        note = "; ".join(filter(None, ("decided by divergence in every seed", left)))
        return Judgement(verdict, end, end, end, 0.0, count, note)
    why = "runs diverged" if not np.isnan(values).all() else "no seed gives a number"
    few = f"fewer than {MIN_SEEDS} seeds" if count < MIN_SEEDS else ""
    return Judgement("inconclusive", seeds=count, note="; ".join(filter(None, (why, few, left))))


def classify(low: np.ndarray, high: np.ndarray, direction: Direction, smallest: float) -> np.ndarray:
    """The verdict of each interval."""
    if direction == "less":
        low, high = -high, -low
    if direction == "same":
        beyond, short = (-smallest < low) & (high < smallest), (low > smallest) | (high < -smallest)
    else:
        beyond, short = low > smallest, high < smallest
    return np.select([beyond, short], ["reproduced", "not reproduced"], "inconclusive")


def p_value(values: np.ndarray, direction: Direction, smallest: float) -> float:
    """The least alpha at which the (1 - alpha) t interval gives a verdict: 0.05 and `classify` agree.

    It is twice the one-sided p value of a t test against the bound on whose one side the mean
    lies: -d or d as claimed, for `same` the nearer one from outside, and from within the larger p
    of the two (two one-sided tests).
    """
    mean = float(values.mean())
    error = float(values.std(ddof=1)) / math.sqrt(len(values))

    def one_sided(bound: float) -> float:
        gap = abs(mean - bound)
        if error == 0:
            return 0.0 if gap > 0 else 0.5
        return float(stats.t.sf(gap / error, len(values) - 1))

    if direction == "same" and abs(mean) < smallest:
        return 2 * max(one_sided(-smallest), one_sided(smallest))
    side = mean if direction == "same" else (1 if direction == "more" else -1)
    return 2 * one_sided(math.copysign(smallest, side))


# --- many claims at once -------------------------------------------------------------------------


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p values: below alpha, the chance of any false verdict among all stays below alpha."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def holm_verdicts(judgements: Sequence[Judgement]) -> list[Verdict]:
    """Each verdict, but inconclusive where it does not survive Holm's adjustment among all that were tested."""
    tested = [i for i, judgement in enumerate(judgements) if judgement.p is not None]
    adjusted = dict(zip(tested, holm([judgements[i].p or 0.0 for i in tested]), strict=True))
    return [
        "inconclusive" if i in adjusted and adjusted[i] >= ALPHA else judgement.verdict
        for i, judgement in enumerate(judgements)
    ]


def totals(verdicts: pd.DataFrame) -> dict[str, float]:
    """Counts of claims.csv: each verdict, those that survive Holm, claims tested, false verdicts to expect at most.

    A tested claim has one truth, so that one of the two verdicts would be false, and is said with
    probability alpha / 2 at most.
    """
    names: tuple[Verdict, ...] = ("reproduced", "not reproduced", "inconclusive", "not run")
    tested = int((verdicts.p.notna()).sum())
    counts: dict[str, float] = {name: int((verdicts.verdict == name).sum()) for name in names}
    for name in names[:2]:
        counts[f"{name} (Holm)"] = int((verdicts.holm_verdict == name).sum())
    return counts | {"tested": tested, "false at most": tested * ALPHA / 2}
