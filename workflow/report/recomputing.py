"""Recompute every published verdict from the published tables, apart from what judged them, and say where they differ.

This is a second reading of docs/verdicts.md, in plain pandas and scipy: it takes claims.yaml and, of each study,
runs.csv, curves.csv, provenance.json and claims.csv, and nothing of trigbench that judges. Of effects by seed it makes
numbers in second_reading.py.
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

from trigbench.workflow.report.second_reading import NUMBERS, Reread, after_holm, among, found, word
from trigbench.workflow.study.places import CURVES, ORIGIN, RUNS, VERDICTS

SAMPLED = ("steps", "sampler", "guidance", "mid_time", "sampling", "times")
EXACT: set[str] = {"images_seen", "train_flops", "sample_flops", "fixed_point_error_euler", "fixed_point_error_heun"}
EXACT |= {"predicted_renoised", "predicted_jumps"}
HIGHER, BOUNDED = {"precision", "recall"}, {"precision", "recall"}
COLUMNS = ["study", "claim", "published", "recomputed", "holm", "scale", *NUMBERS, "off"]
"""Of what comes out."""
Table = Any
"""A pandas.DataFrame, whose annotations name every type that a call may return for any input."""
By = dict[int, float]
"""A number by seed."""
Compared = tuple[By, list[tuple[int, str, By]]]
"""(effect by seed, its terms: sign, metric and number by seed)."""


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


def compare(rule: Mapping[str, Any], runs: Table, curves: Table) -> Iterator[Compared]:
    """Every comparison of a rule."""
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


# --- verdicts ------------------------------------------------------------------------------------


def bars(rule: Mapping[str, Any], runs: Table, arms: Mapping[str, Any]) -> tuple[list[float], float]:
    """(how often each intervention acted, the ratio of the competitor's bar), NaN where there is no number of it."""
    shares, bar, ratio = list[float](), rule.get("sane"), math.nan
    if acting := rule.get("activity"):
        acted = [a for a in arms if any(fnmatch.fnmatchcase(a, p) for p in listed(acting["arms"]))]
        shares = [runs[(runs.arm == a) & (runs.metric == acting["metric"])].value.mean() for a in acted]
    if bar:
        one, *of = (numbers(bar[k], bar["metric"], runs, set())[0][0] for k in ("competitor", "of") if k in bar)
        ratios = [one[s] / (of[0][s] if of else 1) for s in set(one).intersection(*of)]
        ratio = float(np.median(ratios)) if ratios else math.nan
    return shares, ratio


def is_untested(rule: Mapping[str, Any], parts: list, runs: Table, origin: Mapping[str, Any]) -> bool:
    """Whether anything says that the claim is not tested."""
    arms, bar = origin["settings"]["arms"], rule.get("sane")
    try:
        shares, ratio = bars(rule, runs, arms)
    except LacksError:  # of a look's seeds alone
        return True
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
    fair = not bar or (ratio <= bar["at_most"] if "at_most" in bar else ratio >= bar["at_least"])
    if not fair or any(share < rule["activity"].get("least", 0.01) for share in shares):
        return True
    for arm in {a for side in ("of", "against") for t in listed(rule[side]) for a in listed(t.get("arms"))}:
        tuned = arms.get(arm, {}).get("rate_of")
        grid = [a["rate"] for n, a in arms.items() if tuned and a["tuning"] and fnmatch.fnmatchcase(n, tuned)]
        rate = runs[(runs.arm == arm) & (runs.metric == "rate")].value.dropna()
        if grid and len(rate) and any(math.isclose(rate.iloc[0], end, rel_tol=1e-6) for end in (min(grid), max(grid))):
            return True
    return False


def recomputed(rule: Mapping[str, Any], runs: Table, curves: Table, origin: Mapping[str, Any]) -> Reread:
    """The verdict of one rule, its patterns resolved: of all seeds, or the first that a plan's looks give."""
    runs, curves = (t[t.experiment == rule["experiment"]].reset_index(drop=True) for t in (runs, curves))
    try:
        compared = list(compare(rule, runs, curves))
        if not compared or np.isnan(bars(rule, runs, origin["settings"]["arms"])[0]).any():
            return Reread("not run")
    except LacksError:
        return Reread("not run")
    metrics = {name for _, parts in compared for _, name, _ in parts} | {rule["metric"], *listed(rule.get("also"))}
    exact, count = rule.get("exact", metrics <= EXACT), min(len(one) for one, _ in compared)
    if origin.get("quick"):
        return Reread("not tested", seeds=count)
    plan = origin["settings"]["experiments"][rule["experiment"]].get("seeds")
    if not isinstance(plan, dict):
        return at_once(rule, compared, runs, origin, exact, 1.0)
    spent = {s for t in listed(rule["of"]) + listed(rule["against"]) for s in t.get("choose_on", ())}
    said, before = Reread("inconclusive", seeds=count), 0.0
    for many in range(plan["first"], plan["most"] + 1, plan["batch"]):
        seeds, now = range(plan["start"], plan["start"] + many), math.log(1 + (math.e - 1) * many / plan["most"])
        there = [(among(e, seeds), [(s, n, among(v, seeds)) for s, n, v in parts]) for e, parts in compared]
        if any(not e or (not exact and set(seeds) - spent - e.keys()) for e, _ in there):
            break
        own = runs[runs.seed.isna() | runs.seed.isin(seeds)]
        said, before = at_once(rule, there, own, origin, exact, now - before), now
        if exact or said.verdict != "inconclusive":
            break
    return said


def at_once(
    rule: Mapping[str, Any], compared: list[Compared], runs: Table, origin: Mapping[str, Any], exact: bool, share: float
) -> Reread:
    """What these seeds say, with a look's share of alpha."""
    sign = -1.0 if rule["direction"] == "less" else 1.0
    effects = [[sign * value for value in one.values()] for one, _ in compared]
    differ = exact and any(max(v) - min(v) > 1e-6 * max(1, abs(v[0])) for v in effects)
    if differ or is_untested(rule, [parts for _, parts in compared], runs, origin):
        return Reread("not tested", seeds=min(map(len, effects)))
    if not exact:
        return found([np.array(e) for e in effects], rule, share)
    same, ends = rule["direction"] == "same", [e[0] for e in effects]
    end = max(ends, key=abs) if same else min(ends)
    own = sign * end
    return Reread(word(end, end, same, float(rule["smallest"])), own, own, own, None, len(effects[0]))


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
    """One row for each rule that these claims have on the study: what its table has published (None where the rule is
    newer), and what comes out with its NUMBERS (None where its curves are not published)."""
    origin, published = json.loads((folder / ORIGIN).read_text(encoding="utf-8")), read(folder / VERDICTS)
    name, settings, there = origin["settings"]["study"], origin["settings"], (folder / CURVES).is_file()
    runs = read(folder / RUNS)
    curves = read(folder / CURVES) if there else runs[:0].assign(x=pd.Series(dtype=float))
    rows, newer = [], [{"claim": claim, "verdict": None} for claim in claims if claim not in set(published.claim)]
    for row in (*published.to_dict("records"), *newer):
        rule = (claims.get(row["claim"], {}).get("decided_by") or {}).get(name)
        if rule is None:
            continue
        patterns = settings["experiments"].get(rule["experiment"], {}).get("arms", ())
        shown = [a for a in settings["arms"] if not settings["arms"][a]["tuning"]]
        arms = [a for a in shown if any(fnmatch.fnmatchcase(a, p) for p in patterns)]
        rule = {**rule, **{side: [resolve(t, arms) for t in listed(rule[side])] for side in ("of", "against")}}
        on_curve = any("x" in t for side in ("of", "against") for t in rule[side])
        said = None if on_curve and not there else recomputed(rule, runs, curves, origin)
        rows.append({"row": row, "scale": rule["scale"], "said": said})
    family = [each for each in rows if each["row"]["verdict"] is not None and each["said"]]
    last = after_holm([each["said"].verdict for each in family], [each["said"].p for each in family])
    whole = len(family) == len(published.dropna(subset=["experiment"]))
    for each, word_left in zip(family, last, strict=True):
        each["holm"] = word_left if whole else None
    return pd.DataFrame([as_row(name, **{"holm": None, **each}) for each in rows], columns=COLUMNS)


def as_row(name: str, row: Mapping[str, Any], scale: str, said: Reread | None, holm: str | None) -> dict[str, Any]:
    """Of a claim on the study of that name what was published, and what comes out."""
    about = {"study": name, "claim": row["claim"], "published": row["verdict"], "scale": scale, "holm": holm}
    about |= {"recomputed": said and said.verdict, "off": said and off(row, said, holm)}
    return about | {key: said and getattr(said, key) for key in NUMBERS}


def off(row: Mapping[str, Any], said: Reread, holm: str | None) -> str:
    """Which published numbers are not those that come out, in words."""
    was = row.get("holm_verdict")
    agrees = holm is None or not isinstance(was, str) or was == holm
    wrong = [] if agrees else [f"{was} after Holm's adjustment, recomputed as {holm}"]
    for key in NUMBERS:
        now, was = getattr(said, key), row.get(key, math.nan)
        now = math.nan if now is None else now
        if key in row and not np.isclose(now, was, rtol=1e-5, atol=1e-8, equal_nan=True):
            wrong.append(f"{key} {was:.6g}, recomputed as {now:.6g}")
    return "; ".join(wrong)


def read_claims(path: Path) -> dict[str, Any]:
    """The claims of a ledger, as its file has them."""
    quick = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return yaml.load(path.read_text(encoding="utf-8"), Loader=quick)["claims"]


def report(folder: Path, claims: Mapping[str, Any]) -> tuple[int, Table]:
    """Print what differs in a study and what cannot be recomputed; return how many differ, and the table."""
    whole, judged_so = study(folder, claims), "basis" in pd.read_csv(folder / VERDICTS, nrows=0)
    table = whole[whole.published.notna()]
    without = table.recomputed.isna()
    same = (table.published == table.recomputed) & (table.off == "")
    wrong = table[~without & ~same] if judged_so else table[:0]
    if judged_so:
        print(f"{folder}: {same.sum()} of {len(table)} verdicts agree")
    else:
        print(f"{folder}: its {len(table)} verdicts are of earlier rules and words, and are held against nothing")
        counts = table.recomputed.value_counts()
        print(f"  by the rules of now: {', '.join(f'{count} {word}' for word, count in counts.items())}")
    if without.any():
        print(f"  {without.sum()} rest on curves.csv, which is not published there")
    if newer := len(whole) - len(table):
        print(f"  rules of now that are newer than its table: {newer}; --table shows what they say")
    for row in wrong.itertuples():
        said = row.off if row.published == row.recomputed else f"as {row.published}, recomputed as {row.recomputed}"
        print(f"  {row.claim}: published {said}")
    return len(wrong), whole.assign(reads=[reads(row) for row in whole.to_dict("records")])


def reads(row: Mapping[str, Any]) -> str:
    """Effect and interval to read: of a logarithm the factor that it stands for."""
    ends = [row[key] for key in ("effect", "low", "high")]
    if any(end is None or math.isnan(end) for end in ends[:1]):
        return ""
    shown = [f"{math.exp(end) if row['scale'] == 'log_ratio' else end:.3g}" for end in ends if not pd.isna(end)]
    times = "times " if row["scale"] == "log_ratio" else ""
    return f"{times}{shown[0]}" + (f" ({shown[1]} to {shown[2]})" if len(shown) == 3 else "")


def show(found: list[tuple[int, Table]], printed: bool, file: Path | None) -> int:
    """Print and write the tables of `report`, if asked to; return how many verdicts differ in all."""
    table = pd.concat([one for _, one in found], ignore_index=True)
    if file is not None:
        table.drop(columns="off").to_csv(file, index=False, float_format="%.9g")
    if printed:
        levels = ["" if pd.isna(p) else f"{p:.3g}" for p in table.p]
        shown = table.assign(p=levels)[["study", "claim", "recomputed", "holm", "reads", "p", "seeds"]]
        print(f"\n{shown.to_string(index=False, na_rep='')}")
    return sum(wrong for wrong, _ in found)
