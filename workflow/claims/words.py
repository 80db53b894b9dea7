"""Verdicts to read."""

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from trigbench.workflow.claims.dating import UNKNOWN
from trigbench.workflow.claims.family import LATE
from trigbench.workflow.claims.intervals import FEW, MOST, POWER
from trigbench.workflow.claims.verdicts import DECIDED, fresh, totals


def sentence(content: Mapping[str, Any]) -> str:
    """A verdict to read; it always names the study that it is of."""
    verdict, study = content["verdict"], content["study"]
    exactly = " (exact)" if content["basis"] == "exact" else ""
    lines = [f"{content['claim']} ({content['paper']}, {content['place']}): {verdict}{exactly} on {study}"]
    lines.append(content["says"])
    if content["effect"] is not None:
        low, high = content["low"], content["high"]
        around = "" if low is None or exactly else f", 95% interval {low:.3g} to {high:.3g}"
        median = "" if exactly else "median over seeds, "
        lines.append(f"effect {content['effect']:.3g}{around} ({median}{content['scale']} of {content['metric']})")
    if content["direction"] is not None:
        lines.append(f"claimed: {content['direction']}, smallest effect that matters {content['smallest_effect']:.3g}")
        lines.append(f"seeds: {content['seeds']}; experiment: {content['experiment']}")
        lines.append(f"rule of commit {content['rule_commit'] or UNKNOWN}; before the results: {content['rule_first']}")
        lines.append(f"results published before the rule: {content['seen'] or 'there are none'}")
    lines += [power] if (power := power_words(content)) else []
    lines += [f"{key}: {content[key]}" for key in ("note", "erratum", "caveat") if content[key]]
    return "\n  ".join(lines)


def power_words(content: Mapping[str, Any]) -> str:
    """Of an undecided verdict, the seeds that it would take.

    >>> found = {"verdict": "inconclusive", "effect": 0.1, "smallest_effect": 0.05, "p": 0.3, "seeds": 9}
    >>> power_words({**found, "effects": {"0": 0.2, "1": 0.0}, "seeds_needed": 23})
    'undecided: a verdict would take about 23 seeds (chance 80%, if the observed effect and scatter are true)'
    """
    if content["verdict"] != "inconclusive" or content.get("basis") == "exact":
        return ""
    needed, much = needed_words(content)
    if math.isnan(needed):
        return "undecided: how many seeds a verdict would take is not known"
    odds = "" if content["p"] is None else f" (chance {POWER:.0%}, if the observed effect and scatter are true)"
    return f"undecided: a verdict would take {much} seeds{odds}"


def needed_words(content: Mapping[str, Any]) -> tuple[float, str]:
    """Seeds that an undecided verdict would take, as a number to sort by (NaN: not known) and in words.

    What has no p was not held against anything, which FEW seeds would mend. Of the others nothing is known where a seed
    diverged, so that the scatter has no number, and where the median lies on a threshold.
    """
    needed = content["seeds_needed"]
    if needed is not None and not pd.isna(needed):
        return float(needed), f"about {needed:.0f}"
    if content["p"] is None:
        return (FEW, f"at least {FEW}") if content["seeds"] < FEW else (math.nan, "not known")
    finite = all(value is not None and math.isfinite(value) for value in content["effects"].values())
    if not finite or content["effect"] is None or abs(content["effect"]) == content["smallest_effect"]:
        return math.nan, "not known"
    return math.inf, f"more than {MOST}"


def summary(table: pd.DataFrame, label: str) -> str:
    """The totals to read: of the rules that stood before their results, and of all."""
    found, held = totals(table), totals(fresh(table))
    counts = ", ".join(f"{found[name]:.0f} {name}" for name in (*DECIDED, "inconclusive", "not tested", "not run"))
    holm = ", ".join(f"{found[f'{name} (Holm)']:.0f} {name}" for name in DECIDED)
    late = (table.holm_verdict == LATE).sum()
    holm += f" ({late} outside the family, by a newer rule)" if late else ""
    ahead = ", ".join(f"{held[name]:.0f} {name}" for name in DECIDED)
    return (
        f"on {label}: {found['tested']:.0f} claims tested; {counts}; after Holm's adjustment {holm}; "
        f"at most {found['false at most']:.1f} false verdicts to expect; "
        f"by rules that stood before any of their results was published: {ahead}"
    )
