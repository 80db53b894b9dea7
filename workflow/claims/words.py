"""Verdicts to read."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from trigbench.workflow.claims.dating import UNKNOWN
from trigbench.workflow.claims.verdicts import totals


def sentence(content: Mapping[str, Any]) -> str:
    """A verdict to read; it always names the study that it is of."""
    verdict, study = content["verdict"], content["study"]
    lines = [f"{content['claim']} ({content['paper']}, {content['place']}): {verdict} on {study}", content["says"]]
    if content["effect"] is not None:
        low, high = content["low"], content["high"]
        around = "" if low is None else f", 95% interval {low:.3g} to {high:.3g}"
        lines.append(f"effect {content['effect']:.3g}{around} ({content['scale']} of {content['metric']})")
    if content["direction"] is not None:
        lines.append(f"claimed: {content['direction']}, smallest effect that matters {content['smallest_effect']:.3g}")
        lines.append(f"seeds: {content['seeds']}; experiment: {content['experiment']}")
        lines.append(f"rule of commit {content['rule_commit'] or UNKNOWN}; before the results: {content['rule_first']}")
    lines += [f"{key}: {content[key]}" for key in ("note", "erratum", "caveat") if content[key]]
    return "\n  ".join(lines)


def summary(table: pd.DataFrame, label: str) -> str:
    """The totals to read."""
    found = totals(table)
    counts = ", ".join(f"{found[name]:.0f} {name}" for name in ("reproduced", "not reproduced", "inconclusive"))
    holm = ", ".join(f"{found[f'{name} (Holm)']:.0f} {name}" for name in ("reproduced", "not reproduced"))
    return (
        f"on {label}: {found['tested']:.0f} claims tested; {counts}, {found['not run']:.0f} not run; "
        f"after Holm's adjustment {holm}; at most {found['false at most']:.1f} false verdicts to expect"
    )
