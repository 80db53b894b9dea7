"""Effects by seed from tidy tables: what a rule's terms select, and the comparisons that it makes of them."""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from trigbench.workflow.claims.statistics import SAMPLING
from trigbench.workflow.errors import BenchError
from trigbench.workflow.study.claim import Rule, Term
from trigbench.workflow.study.quantities import QUANTITIES, Quantities

SELECTORS = ("steps", "sampling", "times", "guidance", "x")
"""Keys of a term that choose among the ways in which a run was sampled, and points of a curve."""
NEAR = 0.1
"""A curve's point may lie this far from the x that a rule names, relatively."""


@dataclass(frozen=True)
class Choice:
    """What seeds chose among."""

    seeds: tuple[int, ...]
    ways: tuple[Mapping[str, Any], ...]
    """The arm of each and how it was sampled, by column."""
    scores: tuple[float, ...]
    """The mean of each over these seeds, turned so that less is better."""

    @property
    def which(self) -> int:
        """The best, of several as good the first."""
        return min(range(len(self.scores)), key=self.scores.__getitem__)


@dataclass(frozen=True)
class TermNumbers:
    """One term of a comparison: its number in every seed of the effects."""

    sign: int
    """1 in `of`, -1 in `against`."""
    metric: str
    label: str
    values: tuple[float, ...]
    having: frozenset[int] = frozenset()
    """Seeds of which it has a number, whether or not the other terms have."""
    choice: Choice | None = None
    """What it was chosen from."""


@dataclass(frozen=True)
class Effects:
    """One effect per seed; without any, `missing` says in words what there is none of."""

    seeds: tuple[int, ...]
    values: tuple[float, ...]
    missing: tuple[str, ...] = ()
    left_out: tuple[int, ...] = ()
    """Seeds that some arm lacks."""
    name: str = ""
    """Of several comparisons, what is compared in this one."""
    spent: tuple[int, ...] = ()
    """Seeds that chose an arm or a setting, and decide nothing."""
    terms: tuple[TermNumbers, ...] = ()
    sides: tuple[tuple[float, ...], tuple[float, ...]] = ((), ())
    """The sum over `of`, and that over `against`, by seed, on the rule's scale and without constants."""

    def among(self, seeds: Sequence[int]) -> "Effects":
        """The same of these seeds alone."""
        kept = [i for i, seed in enumerate(self.seeds) if seed in seeds]

        def of(values: tuple) -> tuple:
            return tuple(values[i] for i in kept)

        terms = tuple(replace(t, values=of(t.values), having=t.having.intersection(seeds)) for t in self.terms)
        sides = (of(self.sides[0]), of(self.sides[1])) if self.terms else self.sides
        left = tuple(seed for seed in self.left_out if seed in seeds)
        return Effects(of(self.seeds), of(self.values), self.missing, left, self.name, self.spent, terms, sides)


@dataclass(frozen=True)
class _Selection:
    """What a term selects: a number for every seed that all its arms have."""

    label: str
    values: Mapping[int, float]
    rows: frozenset[int] = frozenset()
    """Of the table, by their place."""
    missing: tuple[str, ...] = ()
    way: Mapping[str, Any] = field(default_factory=dict)
    """Of one among several, its arm and how it was sampled, by column."""
    choice: Choice | None = None


@dataclass(frozen=True)
class _Source:
    """Where terms are looked up."""

    table: pd.DataFrame
    diverged: frozenset[tuple[str, int]]
    known: Quantities


def comparisons(
    rule: Rule,
    runs: pd.DataFrame,
    curves: pd.DataFrame,
    known: Quantities = QUANTITIES,
    file: Path | str = "workflow/claims.yaml",
) -> tuple[Effects, ...]:
    """The effects of every comparison that a rule makes: of each arm and setting of a term that takes `each`, in each
    metric. In one where something is missing, that alone is said.

    The rule's patterns must be resolved. Raises BenchError, naming the rule's file, where a term selects several rows
    of one seed and does not say how to take them.
    """
    runs, curves = of_experiment(runs, rule.experiment), of_experiment(curves, rule.experiment)
    lost = runs[(runs.status == "diverged") & runs.seed.notna()]
    diverged = frozenset(zip(lost.arm, lost.seed.astype(int), strict=True))
    source = _Source(curves if rule.is_curve else runs, diverged, known)
    found: list[Effects] = []
    for number in range(1 + len(rule.also)):
        try:
            found += _of_metric(rule, number, source)
        except ValueError as error:
            remedy = f"select one of them by {', '.join(SELECTORS)}, or say how to 'take' them"
            raise BenchError(str(error), file=file, remedy=remedy) from None
    missing = dict.fromkeys(gap for effects in found for gap in effects.missing)
    if missing or not found:
        return (Effects((), (), tuple(missing) or ("anything else to compare with",)),)
    return tuple(found)


def of_experiment(table: pd.DataFrame, experiment: str) -> pd.DataFrame:
    """The rows of one experiment, numbered anew."""
    return table[table.experiment == experiment].reset_index(drop=True)


def _of_metric(rule: Rule, number: int, source: _Source) -> list[Effects]:
    terms = [(sign, term) for sign, side in ((1, rule.of), (-1, rule.against)) for term in side]
    measured = [(sign, term) for sign, term in terms if term.value is None]
    scale: Callable[[float], float] = _log if rule.scale == "log_ratio" else float
    constant = sum(sign * scale(term.value) for sign, term in terms if term.value is not None)
    metrics = [(offered := rule.metrics_of(term))[min(number, len(offered) - 1)] for _, term in measured]
    options = [_selections(term, metric, source) for (_, term), metric in zip(measured, metrics, strict=True)]
    found = []
    for chosen in itertools.product(*options):
        picked = [(sign, t, s) for (sign, t), s in zip(measured, chosen, strict=True)]
        if any(_is_itself(term, own.rows, sign, picked) for sign, term, own in picked):
            continue
        name = "; ".join(selection.label for _, term, selection in picked if term.take == "each")
        name = "; ".join(filter(None, (name, metrics[0] if rule.also else "")))
        signs = [sign for sign, _ in measured]
        found.append(_effects(signs, metrics, chosen, scale, constant, name))
    return found


def _is_itself(term: Term, rows: frozenset[int], sign: int, picked: Sequence[tuple[int, Term, _Selection]]) -> bool:
    """Whether a setting among each is one that stands on the other side."""
    return term.take == "each" and bool(rows) and any(s.rows == rows for other, _, s in picked if other != sign)


def _effects(
    signs: Sequence[int],
    metrics: Sequence[str],
    chosen: Sequence[_Selection],
    scale: Callable[[float], float],
    constant: float,
    name: str,
) -> Effects:
    missing = tuple(gap for selection in chosen for gap in selection.missing)
    if missing:
        return Effects((), (), missing, name=name)
    having = [set(selection.values) for selection in chosen]
    spent = set().union(*(s.choice.seeds for s in chosen if s.choice))
    seeds = sorted(set.intersection(*having) - spent)
    if not seeds:
        after = " beside those that chose" if spent else ""
        return Effects((), (), (f"a seed that all arms have{after}",), name=name)
    left_out = tuple(sorted(set.union(*having) - set(seeds) - spent))
    terms = tuple(
        TermNumbers(sign, metric, s.label, tuple(s.values[seed] for seed in seeds), frozenset(s.values), s.choice)
        for sign, metric, s in zip(signs, metrics, chosen, strict=True)
    )
    sides = tuple(
        tuple(sum(scale(t.values[i]) for t in terms if t.sign == sign) for i in range(len(seeds))) for sign in (1, -1)
    )
    values = tuple(constant + own - other for own, other in zip(*sides, strict=True))
    return Effects(tuple(seeds), values, (), left_out, name, tuple(sorted(spent)), terms, (sides[0], sides[1]))


def _log(value: float) -> float:
    """The logarithm, with its limits; NaN below zero."""
    if value > 0:
        return math.log(value)
    return -math.inf if value == 0 else math.nan


# --- what a term selects -------------------------------------------------------------------------


def number_by_seed(term: Term, metric: str, runs: pd.DataFrame, known: Quantities) -> dict[int, float]:
    """The number of a term that selects one row of runs.csv a seed; none where there is none.

    Raises BenchError where it selects several.
    """
    try:
        return dict(_one(term, metric, _Source(runs, frozenset(), known), _selected(term, metric, runs)).values)
    except ValueError as error:
        raise BenchError(str(error), key="sane", remedy=f"select one of them by {', '.join(SELECTORS)}") from None


def _selections(term: Term, metric: str, source: _Source) -> list[_Selection]:
    """One, or each of those that a term asks for."""
    rows = _selected(term, metric, source.table)
    if term.take != "each" and not term.choose_on:
        return [_one(term, metric, source, rows)]
    found = _each(term, metric, source, rows)
    if not term.choose_on:
        return found
    gaps = [gap for selection in found for gap in selection.missing]
    gaps += [
        f"{metric} of {s.label}, seed {n}, which chooses" for s in found for n in {*term.choose_on} - s.values.keys()
    ]
    if gaps:
        return [_Selection(", ".join(term.arms), {}, missing=tuple(gaps))]
    sign = -1 if metric in source.known and source.known[metric].better == "higher" else 1
    scores = tuple(sign * _mean([selection.values[seed] for seed in term.choose_on]) for selection in found)
    choice = Choice(term.choose_on, tuple(selection.way for selection in found), scores)
    return [replace(found[choice.which], choice=choice)]


def _each(term: Term, metric: str, source: _Source, rows: pd.DataFrame) -> list[_Selection]:
    """A selection of each arm and way of sampling among the rows, and on a whole curve of each point."""
    columns = [c for c in (*SAMPLING, *(["x"] if term.x == "all" else [])) if c in rows]
    found = []
    for arm in term.arms or (None,):
        own = rows if arm is None else rows[rows.arm == arm]
        alone = term if arm is None else term.model_copy(update={"arms": (arm,)})
        telling = [c for c in columns if own[c].nunique(dropna=False) > 1]
        if not telling:
            found.append(replace(_one(alone, metric, source, own), way={"arm": arm} | _sampled(own, columns)))
            continue
        for way, group in own.groupby(telling, dropna=False, sort=False):
            told = "".join(f", {c} {v}" for c, v in zip(telling, way, strict=True) if pd.notna(v))
            one = _one(alone, metric, source, group)
            found.append(replace(one, label=f"{one.label}{told}", way={"arm": arm} | _sampled(group, columns)))
    return found


def _sampled(rows: pd.DataFrame, columns: Sequence[str]) -> dict[str, Any]:
    """How rows of one way were sampled."""
    return {c: rows[c].iloc[0] for c in columns if len(rows) and pd.notna(rows[c].iloc[0])}


def _one(term: Term, metric: str, source: _Source, rows: pd.DataFrame) -> _Selection:
    label = (", ".join(term.arms) or "any arm") + _where(term)
    values: list[dict[int, list[float]]] = []
    used: set[int] = set()
    for arm in term.arms or (None,):
        own = rows if arm is None else rows[rows.arm == arm]
        own = _at(own[own.seed.notna()], term)
        used |= set(own.index)
        found = {int(seed): _numbers(group) for seed, group in own.groupby("seed")}
        for lost_arm, seed in source.diverged:
            if lost_arm == arm and (term.x == "all" or not found.get(seed)):
                found[seed] = [_worst(metric, source.known)]
        values.append({seed: numbers for seed, numbers in found.items() if numbers})
        if not values[-1]:
            return _Selection(label, {}, missing=(f"{metric} of {arm or 'any arm'}{_where(term)}",))
    seeds = set.intersection(*(set(of_arm) for of_arm in values))
    taken = {seed: _taken([v for of_arm in values for v in of_arm[seed]], term, metric) for seed in seeds}
    return _Selection(label, taken, frozenset(used))


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
    if term.take is None or term.take == "each":
        if len(values) > 1:
            arms = ", ".join(term.arms) or "any arm"
            raise ValueError(f"{metric} of {arms}{_where(term)} has {len(values)} rows for one seed")
        return values[0]
    return {"min": min, "max": max, "mean": _mean, "geometric_mean": _geometric_mean}[term.take](values)


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _geometric_mean(values: list[float]) -> float:
    """The exponential of the mean logarithm: of a log ratio, its mean along a curve."""
    mean = _mean([_log(value) for value in values])
    return math.exp(mean) if mean < math.inf else math.inf


def _where(term: Term) -> str:
    parts = {**term.selected, **({"x": term.x} if term.x is not None else {})}
    return "".join(f", {column} {w if isinstance(w, str) else f'{w:g}'}" for column, w in parts.items())
