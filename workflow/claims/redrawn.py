"""A study's own results with labels or signs drawn anew in each seed: how many of its verdicts would be false."""

import zlib
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from trigbench.workflow.claims.deciding import Tables, judge
from trigbench.workflow.claims.effects import Effects
from trigbench.workflow.claims.ledger import CLAIMS, claims_of, in_full, read_claims
from trigbench.workflow.claims.simulate import DRAWS, How, Interim, Rate, planned, redrawn
from trigbench.workflow.claims.verdicts import ALPHA
from trigbench.workflow.study.study import Study

WAYS: dict[str, tuple[How, bool]] = {
    "labels": ("labels", True),
    "signs": ("signs", True),
    "signs, as if every d were 0": ("signs", False),
}
"""(what is drawn anew, whether by each rule's own d), as tables name it."""
OF_CLAIMS = ["study", "drawn", "claim", "asked", "d", "seeds", "false", "low", "high", "holds", "verdicts", "wrong"]
OF_STUDIES = ["study", "drawn", "claims", "seeds_each", "false", "low", "high", "holds", "worst", "above"]


def redrawn_claims(
    study: Study, tables: Tables, draws: int = DRAWS, seed: int = 0, path: Path = CLAIMS
) -> pd.DataFrame:
    """A row for each claim that the tables test and each of WAYS in which something can be drawn: the share of false
    verdicts of all kinds together, its 95% interval by so many draws, and whether it may be ALPHA."""
    whole, rows = in_full(study), []
    for name, claim in claims_of(read_claims(path), study).items():
        rule = claim.decided_by.get(study.study)
        judgement, found = judge(claim, study, tables, whole=whole)
        if rule is None or judgement.p is None:
            continue
        looks = _looks(study.looks_of(rule.experiment), found)
        for way, (how, own) in WAYS.items():
            asked, d = (rule.direction, rule.smallest) if own else ("more", 0.0)
            rate = redrawn(found, asked, d, how, draws, seed ^ zlib.crc32(name.encode()), looks)
            if rate is not None:
                about = {"study": study.label, "drawn": way, "claim": name, "asked": asked, "d": d}
                numbers = {"seeds": len(found[0].seeds), "verdicts": rate.tries, "wrong": rate.false}
                rows.append(about | numbers | rate.columns)
    return pd.DataFrame(rows, columns=OF_CLAIMS)


def _looks(plan: Sequence[tuple[int, ...]], found: Sequence[Effects]) -> list[Interim]:
    """Those of the plan whose seeds are all there, but for what chose a setting; none without a plan."""
    there = {*found[0].seeds, *found[0].spent}
    shares = planned([len(look) for look in plan]) if plan else []
    reached = [(look, share) for look, (_, share) in zip(plan, shares, strict=True) if set(look) <= there]
    return [(len(set(look) & set(found[0].seeds)), share) for look, share in reached]


def redrawn_studies(claims: pd.DataFrame) -> pd.DataFrame:
    """Of each study all verdicts together: the share of false ones with its 95% interval, whether at most ALPHA is
    false (`yes`, `no`, or `open` where ALPHA lies within), the worst claim's share, and how many claims are above."""
    rows = []
    for _, own in claims.groupby(["study", "drawn"], sort=False):
        rate = Rate(int(own.wrong.sum()), int(own.verdicts.sum()))
        low, high = rate.ends()
        seeds = "-".join(dict.fromkeys([str(own.seeds.min()), str(own.seeds.max())]))
        about = {"study": own.study.iloc[0], "drawn": own.drawn.iloc[0], "claims": len(own), "seeds_each": seeds}
        numbers = {"false": rate.share, "low": low, "high": high, "worst": own.false.max()}
        holds = "yes" if high <= ALPHA else "no" if low > ALPHA else "open"
        rows.append(about | numbers | {"holds": holds, "above": int((~own.holds.astype(bool)).sum())})
    return pd.DataFrame(rows, columns=OF_STUDIES)


def redrawn_words(studies: pd.DataFrame) -> str:
    """A line for each study and what was drawn anew: whether at most ALPHA of its verdicts is false."""
    answer = {"yes": "holds", "no": "does NOT hold", "open": "is open at so many draws"}
    lines = []
    for row in studies.to_dict("records"):
        rate = f"{row['false']:.2%} of verdicts false ({row['low']:.2%} to {row['high']:.2%})"
        of = f"{row['claims']} claims, {row['seeds_each']} seeds"
        at_most = f"at most {ALPHA:.0%} {answer[row['holds']]}"
        alone = f"; of single claims {row['above']} are above, at worst {row['worst']:.2%}" if row["above"] else ""
        lines.append(f"{row['study']}, {row['drawn']}: {rate}, of {of}; {at_most}{alone}")
    return "\n".join(lines)
