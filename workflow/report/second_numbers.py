"""Effects by seed of a rule from published tables, once more from docs/verdicts.md, apart from what judges."""

import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

SAMPLED = ("steps", "sampler", "guidance", "mid_time", "sampling", "times")
EXACT: set[str] = {"images_seen", "train_flops", "sample_flops", "fixed_point_error_euler", "fixed_point_error_heun"}
EXACT |= {"predicted_renoised", "predicted_jumps", "edit_gap", "evaluations_per_action"}
BOUNDED = {
    "precision", "recall", "inpaint_agreement", "enlarge_agreement", "strokes_agreement", "colourise_agreement",
    "recognised", "voice_recognised", "heard", "lawful", "intact",
}  # fmt: skip
BOUNDED |= {"success"}
HIGHER = BOUNDED | {"ways_taken"}
Table = Any
"""A pandas.DataFrame, whose annotations name every type that a call may return for any input."""
By = dict[int, float]
"""A number by seed."""
One = tuple[By, frozenset[Any]]
"""(number by seed, which rows of the table it is of)."""
Compared = tuple[By, list[tuple[int, str, By]]]
"""(effect by seed, its terms: sign, metric and number by seed)."""


class LacksError(Exception):
    """There is no such number."""


def listed(value: Any) -> list[Any]:
    """What may stand with or without its brackets."""
    return value if isinstance(value, list) else [] if value is None else [value]


def select(term: Mapping[str, Any], metric: str, table: Table) -> Table:
    """The rows that a term means, before it says how it takes several."""
    rows = table[table.metric == metric]
    for key in ("objective", "steps", "guidance", "sampler", "sampling", "mid_time"):
        if term.get(key) is not None:
            same = rows[key] == term[key] if isinstance(term[key], str) else np.isclose(rows[key], term[key])
            rows = rows[same]
    if term.get("times") is not None:
        times = str([float(time) for time in term["times"]]) if term["times"] else None
        rows = rows[rows.times.isna() if times is None else rows.times == times]
    x, points = term.get("x"), np.sort(rows["x"].unique()) if "x" in rows else np.array([])
    if x in (None, "all") or not len(points):
        return rows
    at = points[0] if x == "first" else points[-1] if x == "last" else points[np.abs(points - x).argmin()]
    return rows[rows["x"] == at] if isinstance(x, str) or math.isclose(at, x, rel_tol=0.1) else rows[:0]


def by_seed(
    rows: Table, arm: str | None, metric: str, lost: set[tuple[str, int]], whole: bool
) -> dict[int, list[float]]:
    """All numbers of an arm by seed; a diverged run's is the worst."""
    found = {int(s): list(g.value.dropna()) for s, g in rows[rows.seed.notna()].groupby("seed")}
    for name, seed in lost:
        if name == arm and (whole or not found.get(seed)):
            found[seed] = [0.0 if metric in HIGHER else math.inf]
    return {seed: values for seed, values in found.items() if values}


TAKE = {
    None: lambda v: v[0], "each": lambda v: v[0], "mean": np.mean, "min": min, "max": max,
    "geometric_mean": lambda v: np.exp(np.mean(np.log(v))),
}  # fmt: skip


def candidates(term: Mapping[str, Any], metric: str, table: Table, lost: set[tuple[str, int]]) -> list[One]:
    """Each arm and setting that a term is about by itself, or all that it takes together."""
    rows, arms, found = select(term, metric, table), listed(term.get("arms")) or [None], []
    apart, whole = term.get("take") == "each" or bool(term.get("choose_on")), term.get("x") == "all"
    groups: list[list[tuple[str | None, Table]]] = []
    for arm in arms:
        own = rows if arm is None else rows[rows.arm == arm]
        keys = [key for key in (*SAMPLED, *(["x"] if whole else [])) if key in own]
        parts = [part for _, part in own.groupby(keys, dropna=False, sort=False)] if apart and len(own) else [own]
        groups += [[(arm, part)] for part in parts]
    for group in groups if apart else [list(itertools.chain(*groups))]:
        values = [by_seed(part, arm, metric, lost, whole) for arm, part in group]
        if not all(values):
            raise LacksError
        seeds = set.intersection(*map(set, values))
        one = {s: float(TAKE[term.get("take")]([x for own in values for x in own[s]])) for s in seeds}
        found.append((one, frozenset(i for _, part in group for i in part.index)))
    return found


def score(one: By, metric: str, seeds: list[int]) -> float:
    """How bad it is on average over the seeds that choose."""
    if any(seed not in one for seed in seeds):
        raise LacksError
    return (-1 if metric in HIGHER else 1) * float(np.mean([one[seed] for seed in seeds]))


def numbers(term: Mapping[str, Any], metric: str, table: Table, lost: set[tuple[str, int]]) -> list[One]:
    """The numbers of a term, one for each arm and setting that it is about by itself, or of the one that is chosen."""
    found = candidates(term, metric, table, lost)
    if chosen := term.get("choose_on"):
        one, which = min(found, key=lambda f: score(f[0], metric, chosen))
        return [({seed: value for seed, value in one.items() if seed not in chosen}, which)]
    return found


def diverged(runs: Table) -> set[tuple[str, int]]:
    """(arm, seed) of every run that did."""
    return {(r.arm, int(r.seed)) for r in runs[(runs.status == "diverged") & runs.seed.notna()].itertuples()}


def compare(rule: Mapping[str, Any], runs: Table, curves: Table) -> Iterator[Compared]:
    """Every comparison of a rule."""
    terms = [(sign, t) for sign, side in ((1, "of"), (-1, "against")) for t in listed(rule[side])]
    measured = [(sign, t) for sign, t in terms if "value" not in t]
    spent = {seed for _, t in measured for seed in t.get("choose_on", ())}
    table, log = (curves if any("x" in t for _, t in measured) else runs), rule["scale"] == "log_ratio"
    lost = diverged(runs)

    def scale(value: float) -> float:
        return float(np.log(value)) if log else value

    for metric in (rule["metric"], *listed(rule.get("also"))):
        names = [t.get("metric", metric) for _, t in measured]
        options = [numbers(t, name, table, lost) for (_, t), name in zip(measured, names, strict=True)]
        for chosen in itertools.product(*options):
            sides = [
                {rows for (_, rows), (s, _) in zip(chosen, measured, strict=True) if s == side} for side in (1, -1)
            ]
            if any(t.get("take") == "each" for _, t in measured) and sides[0] & sides[1]:
                continue
            seeds = sorted(set.intersection(*(set(one) for one, _ in chosen)) - spent)
            constant = sum(sign * scale(t["value"]) for sign, t in terms if "value" in t)
            parts = [
                (s, n, {i: one[i] for i in seeds}) for (s, _), n, (one, _) in zip(measured, names, chosen, strict=True)
            ]
            if not seeds:
                raise LacksError
            with np.errstate(divide="ignore"):
                yield {i: constant + sum(s * scale(v[i]) for s, _, v in parts) for i in seeds}, parts
