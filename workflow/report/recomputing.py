"""Recompute every published verdict from the published tables, apart from what judged them, and say where they differ.

This is a second reading of docs/verdicts.md, in plain pandas and scipy: it takes claims.yaml and, of each study,
runs.csv, curves.csv, provenance.json and claims.csv, and nothing of trigbench that judges.
"""

import fnmatch
import itertools
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from scipy import stats

SAMPLED = ("steps", "sampler", "guidance", "mid_time", "sampling", "times")
EXACT: set[str] = {"images_seen", "train_flops", "sample_flops", "fixed_point_error_euler", "fixed_point_error_heun"}
HIGHER, BOUNDED = {"precision", "recall"}, {"precision", "recall"}
WORDS = ("reproduced", "too small to matter", "opposite")
Table = Any
"""A pandas.DataFrame, whose annotations name every type that a call may return for any input."""
By = dict[int, float]
"""A number by seed."""


class LacksError(Exception):
    """There is no such number."""


def listed(value: Any) -> list[Any]:
    """What may stand with or without its brackets."""
    return value if isinstance(value, list) else [] if value is None else [value]


# --- numbers by seed -----------------------------------------------------------------------------


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


def numbers(
    term: Mapping[str, Any], metric: str, table: Table, lost: set[tuple[str, int]]
) -> list[tuple[By, frozenset[Any]]]:
    """(the term's number by seed, which rows it is of), one for each arm and setting that it is about by itself."""
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
    if chosen := term.get("choose_on"):
        if any(seed not in one for one, _ in found for seed in chosen):
            raise LacksError
        sign = -1 if metric in HIGHER else 1
        one, which = min(found, key=lambda f: sign * float(np.mean([f[0][seed] for seed in chosen])))
        return [({seed: value for seed, value in one.items() if seed not in chosen}, which)]
    return found


def compare(rule: Mapping[str, Any], runs: Table, curves: Table) -> Iterator[tuple[By, list[tuple[int, str, By]]]]:
    """(effect by seed, its terms) of every comparison of a rule."""
    terms = [(sign, t) for sign, side in ((1, "of"), (-1, "against")) for t in listed(rule[side])]
    measured = [(sign, t) for sign, t in terms if "value" not in t]
    spent = {seed for _, t in measured for seed in t.get("choose_on", ())}
    table, log = (curves if any("x" in t for _, t in measured) else runs), rule["scale"] == "log_ratio"
    lost = {(r.arm, int(r.seed)) for r in runs[(runs.status == "diverged") & runs.seed.notna()].itertuples()}

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


# --- intervals and words -------------------------------------------------------------------------


def interval(values: np.ndarray, alpha: float) -> tuple[float, float]:
    """Of the median: between order statistics, or of few seeds Student's with all of them."""
    n, x = len(values), np.sort(values)
    levels = 2 * stats.binom.cdf(np.arange(n // 2 + 1), n, 0.5)
    if n < 8 or alpha < levels[0]:
        if not np.isfinite(x).all():
            return (x[0], x[0]) if x[0] == x[-1] else (-math.inf, math.inf)
        half = stats.t.ppf(1 - alpha / 2, n - 1) * x.std(ddof=1) / math.sqrt(n)
        return float(min(x.mean() - half, x[0])), float(max(x.mean() + half, x[-1]))
    k = int((levels <= alpha).sum()) - 1
    w = (alpha - levels[k]) / (levels[k + 1] - levels[k])
    return float((1 - w) * x[k] + w * x[k + 1]), float((1 - w) * x[n - 1 - k] + w * x[n - 2 - k])


def word(low: float, high: float, same: bool, d: float) -> str:
    """The one table."""
    if -d < low and high < d:
        return "reproduced" if same else "too small to matter"
    return "opposite" if high < -d or (same and low > d) else "reproduced" if low > d else "inconclusive"


def verdict(effects: list[np.ndarray], rule: Mapping[str, Any], alpha: float) -> str:
    """Of all comparisons together, by their intervals."""
    same, d, k = rule["direction"] == "same", float(rule["smallest"]), len(effects)
    for e in effects:
        few_diverged = len(e) < 8 and not np.isfinite(e).all() and len(set(e)) > 1
        if len(e) < 3 or np.isnan(e).any() or few_diverged:
            return "inconclusive"
    ends, strict = [interval(e, alpha) for e in effects], [interval(e, alpha / k) for e in effects]
    if not same:
        return word(min(low for low, _ in ends), min(high for _, high in strict), False, d)
    if all(word(*end, True, d) == "reproduced" for end in ends):
        return "reproduced"
    return "opposite" if any(word(*end, True, d) == "opposite" for end in strict) else "inconclusive"


def is_untested(rule: Mapping[str, Any], parts: list, runs: Table, origin: Mapping[str, Any]) -> bool:
    """Whether anything says that the claim is not tested."""
    arms, shares, bar, ratio = origin["settings"]["arms"], list[float](), rule.get("sane"), math.nan
    if acting := rule.get("activity"):
        acted = [a for a in arms if any(fnmatch.fnmatchcase(a, p) for p in listed(acting["arms"]))]
        shares = [runs[(runs.arm == a) & (runs.metric == acting["metric"])].value.mean() for a in acted]
    if bar:
        one, *of = (numbers(bar[k], bar["metric"], runs, set())[0][0] for k in ("competitor", "of") if k in bar)
        ratio = float(np.median([one[s] / (of[0][s] if of else 1) for s in set(one).intersection(*of)]))
    if np.isnan(shares).any():
        raise LacksError
    for comparison in parts:
        own, other = ([(n, v) for s, n, v in comparison if s == side] for side in (1, -1))
        if any(a == b and a[0] not in EXACT and np.isfinite([*a[1].values()]).all() for a in own for b in other):
            return True
        for limit, sense in ((rule.get("floor"), -1), (rule.get("ceiling"), 1)):
            bound = dict.fromkeys(BOUNDED, (0.0, 1.0)[sense > 0])
            bound |= {} if limit is None else {rule["metric"]: limit}
            at = [
                bool(side) and all(n in bound and sense * np.median([*v.values()]) >= sense * bound[n] for n, v in side)
                for side in (own, other)
            ]
            if all(at) or (at[1] and rule["direction"] == ("less" if sense < 0 else "more")):
                return True
    if acting and min(shares) < acting.get("least", 0.01):
        return True
    if bar and not (ratio <= bar["at_most"] if "at_most" in bar else ratio >= bar["at_least"]):
        return True
    for arm in {a for side in ("of", "against") for t in listed(rule[side]) for a in listed(t.get("arms"))}:
        tuned = arms.get(arm, {}).get("rate_of")
        grid = [a["rate"] for n, a in arms.items() if tuned and a["tuning"] and fnmatch.fnmatchcase(n, tuned)]
        rate = runs[(runs.arm == arm) & (runs.metric == "rate")].value.dropna()
        if grid and len(rate) and any(math.isclose(rate.iloc[0], end, rel_tol=1e-6) for end in (min(grid), max(grid))):
            return True
    return False


def recomputed(rule: Mapping[str, Any], runs: Table, curves: Table, origin: Mapping[str, Any]) -> str:
    """The verdict of one rule, its patterns resolved."""
    runs, curves = (t[t.experiment == rule["experiment"]].reset_index(drop=True) for t in (runs, curves))
    try:
        found = list(compare(rule, runs, curves))
        quick = bool(origin.get("quick"))
        untested = quick or is_untested(rule, [parts for _, parts in found], runs, origin)
    except LacksError:
        return "not run"
    if not found or untested:
        return "not tested" if found else "not run"
    sign = -1.0 if rule["direction"] == "less" else 1.0
    effects = [{seed: sign * value for seed, value in one.items()} for one, _ in found]
    metrics = {name for _, parts in found for _, name, _ in parts} | {rule["metric"], *listed(rule.get("also"))}
    if rule.get("exact", metrics <= EXACT):
        ends = [e[min(e)] for e in effects]
        end = max(ends, key=abs) if rule["direction"] == "same" else min(ends)
        return word(end, end, rule["direction"] == "same", float(rule["smallest"]))
    plan = origin["settings"]["experiments"][rule["experiment"]].get("seeds")
    if not isinstance(plan, dict):
        return verdict([np.array([*e.values()]) for e in effects], rule, 0.05)
    spent, said, before = (
        {s for t in listed(rule["of"]) + listed(rule["against"]) for s in t.get("choose_on", ())},
        "",
        0.0,
    )
    for count in range(plan["first"], plan["most"] + 1, plan["batch"]):
        seeds, now = range(plan["start"], plan["start"] + count), math.log(1 + (math.e - 1) * count / plan["most"])
        if any(set(seeds) - spent - e.keys() for e in effects) or said in WORDS:
            break
        said, before = (
            verdict([np.array([e[s] for s in seeds if s in e]) for e in effects], rule, 0.05 * (now - before)),
            now,
        )
    return said or "inconclusive"


# --- published tables ----------------------------------------------------------------------------


def resolve(term: Mapping[str, Any], arms: list[str]) -> dict[str, Any]:
    """The term with names in place of patterns."""
    if "arms" not in term:
        return dict(term)
    patterns = listed(term["arms"])
    return {**term, "arms": [a for a in arms if any(fnmatch.fnmatchcase(a, p) for p in patterns)]}


def read(path: Path) -> Table:
    """A table as it was written, with the columns that earlier ones lack."""
    table = pd.read_csv(path, low_memory=False)
    return table.reindex(columns=list(dict.fromkeys([*table.columns, *SAMPLED])))


def study(folder: Path, claims: Mapping[str, Any]) -> Table:
    """One row for each verdict that the study's table has of a rule of these claims: what was published, and what
    comes out; None where its curves are not published."""
    origin, published = (
        json.loads((folder / "provenance.json").read_text(encoding="utf-8")),
        read(folder / "claims.csv"),
    )
    name, settings, there = origin["settings"]["study"], origin["settings"], (folder / "curves.csv").is_file()
    runs = read(folder / "runs.csv")
    curves = read(folder / "curves.csv") if there else runs[:0].assign(x=pd.Series(dtype=float))
    rows = []
    for claim, verdict_said in zip(published.claim, published.verdict, strict=True):
        rule = (claims.get(claim, {}).get("decided_by") or {}).get(name)
        if rule is None:
            continue
        patterns = settings["experiments"].get(rule["experiment"], {}).get("arms", ())
        shown = [a for a in settings["arms"] if not settings["arms"][a]["tuning"]]
        arms = [a for a in shown if any(fnmatch.fnmatchcase(a, p) for p in patterns)]
        rule = {**rule, **{side: [resolve(t, arms) for t in listed(rule[side])] for side in ("of", "against")}}
        on_curve = any("x" in t for side in ("of", "against") for t in rule[side])
        found = None if on_curve and not there else recomputed(rule, runs, curves, origin)
        rows.append({"claim": claim, "published": verdict_said, "recomputed": found})
    return pd.DataFrame(rows, columns=["claim", "published", "recomputed"])


def read_claims(path: Path) -> dict[str, Any]:
    """The claims of a ledger, as its file has them."""
    quick = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return yaml.load(path.read_text(encoding="utf-8"), Loader=quick)["claims"]


def report(folder: Path, claims: Mapping[str, Any]) -> int:
    """Print what differs in a study and what cannot be recomputed; return how many differ."""
    table, judged_so = study(folder, claims), "basis" in pd.read_csv(folder / "claims.csv", nrows=0)
    without, same = table.recomputed.isna(), table.published == table.recomputed
    wrong = table[~without & ~same] if judged_so else table[:0]
    if judged_so:
        print(f"{folder}: {same.sum()} of {len(table)} verdicts agree")
    else:
        print(f"{folder}: its {len(table)} verdicts are of earlier rules and words, and are held against nothing")
        counts = table.recomputed.value_counts()
        print(f"  by the rules of now: {', '.join(f'{count} {word}' for word, count in counts.items())}")
    if without.any():
        print(f"  {without.sum()} rest on curves.csv, which is not published there")
    for row in wrong.itertuples():
        print(f"  {row.claim}: published as {row.published}, recomputed as {row.recomputed}")
    return len(wrong)
