"""What says that a claim is not tested, once more from docs/verdicts.md, apart from what judges."""

import fnmatch
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from trigbench.workflow.report.second_numbers import (
    BOUNDED,
    EXACT,
    LacksError,
    Table,
    candidates,
    diverged,
    listed,
    numbers,
    score,
)


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


def is_untested(rule: Mapping[str, Any], parts: list, runs: Table, arms: Mapping[str, Any]) -> bool:
    """Whether anything says that the claim is not tested."""
    bar = rule.get("sane")
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


def chose_an_edge(rule: Mapping[str, Any], runs: Table, curves: Table, settings: Mapping[str, Any]) -> bool:
    """Whether a term of the rule has chosen the last of a grid."""
    terms = [t for side in ("of", "against") for t in listed(rule[side])]
    table = curves if any("x" in t for t in terms) else runs
    asked = [(t, n) for t in terms if t.get("choose_on") for n in (rule["metric"], *listed(rule.get("also")))]
    return any(is_last(t, t.get("metric", n), table, diverged(runs), settings) for t, n in asked)


def is_last(
    term: Mapping[str, Any], metric: str, table: Table, lost: set[tuple[str, int]], settings: Mapping[str, Any]
) -> bool:
    """Whether the best stands alone at an end of those that differ from it in one number."""
    found = [
        (score(one, metric, term["choose_on"]), placed(table.loc[[*which]], settings) if which else {})
        for one, which in candidates(term, metric, table, lost)
    ]
    least, best = min(found, key=lambda f: f[0])
    for key, value in best.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        line = [
            (p[key], s)
            for s, p in found
            if p.keys() == best.keys()
            and isinstance(p[key], int | float)
            and all(p[k] == best[k] for k in best if k != key)
        ]
        low, high = min(v for v, _ in line), max(v for v, _ in line)
        good = {v for v, s in line if s == least}
        limits = ENDS.get(key, ())
        at_an_end = (value == low and ("low", low) not in limits) or (value == high and ("high", high) not in limits)
        if at_an_end and not any(low < v < high for v in good) and len(good) < len({v for v, _ in line}):
            return True
    return False


ENDS = {
    "guidance": {("low", 1)}, "churn": {("low", 0)}, "warmup": {("low", 0)},
    "gamma": {("low", 0), ("high", 1)}, "eta": {("low", 0), ("high", 1)},
}  # fmt: skip
"""Beyond which there is nothing."""


def placed(rows: Table, settings: Mapping[str, Any]) -> dict[str, Any]:
    """All settings of rows of one arm and way of sampling; numbers where they have an order."""
    row = rows.iloc[0].dropna().to_dict()
    arm = dict(settings["arms"].get(row.get("arm"), {"arm": row.get("arm")}))
    for key in ("tuning", "samplers", "snapshots", "rate_steps", "microbatch", "sharded"):
        arm.pop(key, None)
    if arm.pop("rate_of", None):
        arm.pop("rate")
    arm |= arm.pop("settings", None) or {}
    sampler = settings["samplers"].get(row.get("sampling"), {})
    told = {"gamma": sampler.get("gamma"), **(sampler.get("settings") or {})}
    if not sampler:
        told["sampling"] = row.get("sampling")
    times = json.loads(row["times"]) if "times" in row else [row["mid_time"]] if "mid_time" in row else []
    told |= {f"time {i}": time for i, time in enumerate(times)} | {"guidance": row.get("guidance")}
    return arm | told | {key: str(row.get(key)) for key in ("sampler", "steps", "x")}
