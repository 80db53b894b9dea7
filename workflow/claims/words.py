"""Verdicts to read."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from trigbench.workflow.claims.dating import UNKNOWN
from trigbench.workflow.claims.intervals import MOST, POWER
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
    """Of an undecided verdict, the seeds that it would take; nothing where that is not known.

    >>> power_words({"verdict": "inconclusive", "effect": 0.1, "low": -1.0, "seeds_needed": 23})
    'undecided: a verdict would take about 23 seeds (chance 80%, if the observed effect and scatter are true)'
    """
    if content["verdict"] != "inconclusive" or content["effect"] is None or content["low"] is None:
        return ""
    needed = content["seeds_needed"]
    much = f"more than {MOST}" if needed is None or pd.isna(needed) else f"about {needed:.0f}"
    odds = f"(chance {POWER:.0%}, if the observed effect and scatter are true)"
    return f"undecided: a verdict would take {much} seeds {odds}"


def summary(table: pd.DataFrame, label: str) -> str:
    """The totals to read: of the rules that stood before their results, and of all."""
    found, held = totals(table), totals(fresh(table))
    counts = ", ".join(f"{found[name]:.0f} {name}" for name in (*DECIDED, "inconclusive", "not tested", "not run"))
    holm = ", ".join(f"{found[f'{name} (Holm)']:.0f} {name}" for name in DECIDED)
    ahead = ", ".join(f"{held[name]:.0f} {name}" for name in DECIDED)
    return (
        f"on {label}: {found['tested']:.0f} claims tested; {counts}; after Holm's adjustment {holm}; "
        f"at most {found['false at most']:.1f} false verdicts to expect; "
        f"by rules that stood before any of their results was published: {ahead}"
    )
