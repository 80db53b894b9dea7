"""The page of two sets of results held against each other; it stands alone, to be sent or kept."""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from trigbench.workflow.claims.compare import (
    ALONE,
    DIVERGED,
    FIXED,
    FOUND,
    METHOD,
    SAME,
    TOPICS,
    UNSURE,
    Comparison,
    Difference,
)
from trigbench.workflow.claims.verdicts import ALPHA
from trigbench.workflow.report.pages.common import ASSETS, DASH, SYMBOLS, Cell, Table, label, render, short, shown
from trigbench.workflow.report.words import capital
from trigbench.workflow.study.places import REPORTS
from trigbench.workflow.study.records import REAL

FOLDER = REPORTS / "compare"
LONGEST = 60
"""Letters of each set's name in the file's name."""
WHY_UNTESTED = {
    ALONE: "one seed on a side: no p",
    FIXED: "no seed changes it",
    DIVERGED: "runs diverged",
}
MARKS = {"reproduced": "yes", "opposite": "no", "not reproduced": "no"}


@dataclass(frozen=True)
class ComparePage:
    """Everything on the page."""

    first: str
    second: str
    places: tuple[str, str]
    summary: list[str]
    facts: list[tuple[str, str]]
    verdicts: Table | None
    means: Table | None
    untested: Table | None
    others: Table | None
    """Means that were tested and not found to differ."""
    only: Table | None
    changes: list[tuple[str, Table]]
    """By what they are about."""
    tested: int
    method: str


def address_of(first: str, second: str) -> Path:
    """Where the page stands unless it is told otherwise."""
    names = (re.sub(r"[^\w.]+", "-", asked).strip("-.")[-LONGEST:] for asked in (first, second))
    return FOLDER / f"{'-'.join(names)}.html"


def compare_html(page: ComparePage) -> str:
    """The whole page, with its style and script in it."""
    style = "\n".join(
        (ASSETS / name).read_text(encoding="utf-8") for name in ("colours.css", "style.css", "narrow.css")
    )
    script = (ASSETS / "report.js").read_text(encoding="utf-8")
    return render("compare.html.j2", page=page, style=style, script=script)


def compare_page(found: Comparison) -> ComparePage:
    """What the page says."""
    untested = found.means[found.means.outcome.isin(WHY_UNTESTED)]
    return ComparePage(
        first=found.first.asked,
        second=found.second.asked,
        places=(found.first.place, found.second.place),
        summary=summary(found),
        facts=list(_facts(found)),
        verdicts=_verdicts(found.verdicts_changed, "differ" if found.two_studies else "changed"),
        means=_means("means", "Means that differ, the surest first", found.of(FOUND), found),
        untested=_untested(untested, found),
        others=_means("others", "Means within the noise of their seeds", found.of(UNSURE), found),
        only=_only(found),
        changes=list(_changes(found.changes)),
        tested=found.tested,
        method=method(found),
    )


# --- words ----------------------------------------------------------------------------------------


def summary(found: Comparison) -> list[str]:
    """What differs, a sentence each; for the page and for a terminal."""
    return [sentence for sentence in _sentences(found) if sentence]


def _sentences(found: Comparison) -> Iterator[str]:
    for change in found.changes:
        if (change.topic, change.name) == ("settings", "version"):
            yield f"{change.study} is of version {change.first} and of version {change.second}: not to be compared."
    if found.identical:
        yield f"{_listed(found.identical)} {'is' if len(found.identical) == 1 else 'are'} the same bits in both."
    changed, claims = len(found.verdicts_changed), len(found.verdicts)
    if found.two_studies:
        yield f"Two studies, {_listed(found.two_studies)}: a verdict is of its study, and of its rule there."
        yield "An arm of one name may be another there, on other data: compare numbers between two sets of one study."
    if claims:
        yield f"{capital(_of(changed, claims, 'verdict'))} {'differ' if found.two_studies else 'changed'}."
    else:
        yield "No claim is judged in both."
    means, same = len(found.means), len(found.of(SAME))
    if not means:
        yield "No mean stands in both."
    elif same == means:
        yield f"All {means:,} means are the same in every digit."
    else:
        yield _of_means(found, means, same)
    yield from _one_sided(found)
    same, both = found.runs_alike
    if both and (same or not found.two_studies):
        yield f"{capital(_of(same, both, 'run'))} that both have {_is(same)} of the same settings and mathematics."


def _of_means(found: Comparison, means: int, same: int) -> str:
    differ = len(found.of(FOUND))
    said = f"Of {means:,} means in both, {f'{same:,}' if same else 'none'} {_is(same or 1)} the same in every digit"
    verb = "differ" if differ > 1 else "differs"
    tested = f"{found.tested:,} were tested, and {f'{differ:,}' if differ else 'none'} {verb}" if found.tested else ""
    untested = sum(len(found.of(why)) for why in WHY_UNTESTED)
    left = f"{untested:,} {'differs' if untested == 1 else 'differ'} and cannot be tested" if untested else ""
    return "; ".join(filter(None, (said, tested, left))) + "."


def _one_sided(found: Comparison) -> Iterator[str]:
    for side, studies, claims, means in zip(
        (found.first.asked, found.second.asked), found.studies_only, found.claims_only, found.means_only, strict=True
    ):
        arms = means.arm.nunique() if len(means) else 0
        parts = [
            f"the stud{'y' if len(studies) == 1 else 'ies'} {_listed(studies)}" if studies else "",
            f"{_count(len(means), 'mean')} of {_count(arms, 'arm')}" if arms else "",
            _count(len(claims), "claim") if claims else "",
        ]
        if any(parts):
            yield f"In {side} alone: {_listed([part for part in parts if part])}."
    if found.untold:
        yield f"{found.untold:,} means are left out: the older table does not tell their settings apart."


def method(found: Comparison) -> str:
    """How it was decided, and among how many."""
    among = f"among all {found.tested:,} means that were tested" if found.tested else "where means differ"
    return (
        f"{METHOD} {among}, at {ALPHA:.0%}: of the differences that are found, {ALPHA:.0%} at most are expected to be "
        "none. Seeds are taken for independent; where both sets have the same, a small difference may go unfound."
    )


def _of(some: int, total: int, what: str) -> str:
    return f"{some if some else 'none'} of {total:,} {what}{'' if total == 1 else 's'}"


def _count(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _is(count: int) -> str:
    return "is" if count == 1 else "are"


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _facts(found: Comparison) -> Iterator[tuple[str, str]]:
    yield "Verdicts that changed", f"{len(found.verdicts_changed)} of {len(found.verdicts)}"
    yield "Means in both", f"{len(found.means):,}"
    yield "The same in every digit", f"{len(found.of(SAME)):,}"
    yield "Tested", f"{found.tested:,}"
    yield "Found to differ", f"{len(found.of(FOUND)):,}"
    yield "Not tested", f"{sum(len(found.of(why)) for why in WHY_UNTESTED):,}"


# --- tables ---------------------------------------------------------------------------------------


def _verdicts(changed: pd.DataFrame, verb: str) -> Table | None:
    rows = [
        [
            Cell(row.claim),
            Cell(f"{row.paper}, {row.place}"),
            Cell(row.study),
            *(_verdict(verdict) for verdict in (row.verdict_first, row.verdict_second)),
            _effect(row.effect_first, row.low_first, row.high_first),
            _effect(row.effect_second, row.low_second, row.high_second),
            Cell(f"{shown_count(row.seeds_first)}, {shown_count(row.seeds_second)}"),
            Cell("changed too" if row.rule_changed else DASH, mark="warning" if row.rule_changed else ""),
        ]
        for row in changed.itertuples()
    ]
    heads = ["Claim", "Of", "Study", "Was", "Is", "Effect was", "Effect is", "Seeds", "Rule"]
    columns = [(head, head.startswith("Effect")) for head in heads]
    return Table("verdicts", f"Verdicts that {verb}; effects with their 95% intervals", columns, rows) if rows else None


def _verdict(verdict: str) -> Cell:
    return Cell(f"{SYMBOLS.get(verdict, '')}\N{NO-BREAK SPACE}{verdict}".strip(), mark=MARKS.get(verdict, ""))


def _effect(effect: float, low: float, high: float) -> Cell:
    if pd.isna(effect):
        return Cell(DASH, math.nan)
    around = "" if pd.isna(low) else f" [{shown(low)},\N{NO-BREAK SPACE}{shown(high)}]"
    return Cell(f"{shown(effect)}{around}", float(effect))


def shown_count(count: float) -> str:
    """A number of seeds; a dash for none."""
    return DASH if pd.isna(count) else f"{count:.0f}"


def sampled(row: pd.Series) -> str:
    """How it was sampled, in few words; a dash for what is of no samples."""
    names = (("steps", "{} steps"), ("sampling", "{}"), ("times", "t = {}"), ("guidance", "guidance {}"))
    parts = [form.format(row[key]) for key, form in names if row[key]]
    if row["mid_time"] and not row["times"]:
        parts.append(f"t = {float(row['mid_time']):.4g}")
    if row["sampler"] and row["sampler"] != row["sampling"]:
        parts.insert(1, row["sampler"])
    return ", ".join(parts).replace("1 steps", "1 step") if parts else DASH


def _means(name: str, caption: str, means: pd.DataFrame, found: Comparison) -> Table | None:
    rows = [
        [
            *_named(row, found),
            *(_mean(row, side) for side in ("first", "second")),
            _effect(row.difference, row.low, row.high),
            Cell(_relative(row), _ratio(row)),
            Cell(shown(row.p, 2), row.p),
            Cell(shown(row.adjusted, 2), row.adjusted),
        ]
        for _, row in means.iterrows()
    ]
    heads = ("Was", "Is", "Difference", "Relative", "p", "adjusted")
    columns = [*_heads(found), *((head, True) for head in heads)]
    return Table(name, caption, columns, rows) if rows else None


def _untested(means: pd.DataFrame, found: Comparison) -> Table | None:
    rows = [
        [
            *_named(row, found),
            *(_mean(row, side) for side in ("first", "second")),
            Cell(shown(row.difference), row.difference),
            Cell(WHY_UNTESTED[row.outcome]),
        ]
        for _, row in means.iterrows()
    ]
    columns = [*_heads(found), ("Was", True), ("Is", True), ("Difference", True), ("Why there is no test", False)]
    return Table("untested", "Numbers that differ and cannot be tested", columns, rows) if rows else None


def _heads(found: Comparison) -> list[tuple[str, bool]]:
    several = [("Study", False)] if found.means.study.nunique() > 1 else []
    return [("Arm", False), ("Metric", False), ("Sampled", False), *several]


def _named(row: pd.Series, found: Comparison) -> list[Cell]:
    several = [Cell(row.study)] if found.means.study.nunique() > 1 else []
    return [Cell(_arm(row.arm, row.data)), Cell(label(row.metric)), Cell(sampled(row)), *several]


def _mean(row: pd.Series, side: str) -> Cell:
    mean, sd, seeds, lost = (row[f"{name}_{side}"] for name in ("mean", "sd", "seeds", "diverged"))
    if lost:
        return Cell(f"{lost:.0f} of {seeds:.0f} diverged", math.inf, mark="warning")
    return Cell(shown(mean) if pd.isna(sd) else f"{shown(mean)} ± {shown(sd, 2)} ({seeds:.0f})", mean)


def _ratio(row: pd.Series) -> float:
    return row.difference / abs(row.mean_first) if row.mean_first else math.nan


def _relative(row: pd.Series) -> str:
    ratio = _ratio(row)
    return f"{ratio:+.1%}" if math.isfinite(ratio) else DASH


def _only(found: Comparison) -> Table | None:
    """Arms of the same metrics in one row."""
    rows = []
    for side, means in zip((found.first.asked, found.second.asked), found.means_only, strict=True):
        alike: dict[tuple[str, str], list[tuple[str, int]]] = {}
        for (study, arm), part in means.groupby(["study", "arm"], sort=False) if len(means) else ():
            metrics = ", ".join(dict.fromkeys(map(label, part.metric)))
            alike.setdefault((study, metrics), []).append((_arm(arm), len(part)))
        for (study, metrics), arms in alike.items():
            count = sum(of_arm for _, of_arm in arms)
            names = ", ".join(name for name, _ in arms)
            rows.append([Cell(side), Cell(study), Cell(names), Cell(f"{count}", count), Cell(metrics)])
    columns = [("In", False), ("Study", False), ("Arms", False), ("Means", True), ("Metrics", False)]
    return Table("only", "Means that one set has alone", columns, rows, header=2) if rows else None


def _arm(name: str, data: str = "") -> str:
    return " of ".join(filter(None, ("real data", data))) if name == REAL else name


def _side(change: Difference, value: str | None) -> str:
    if value is None:
        return DASH
    return short(value.replace(",", "")) if change.name == "commits" else value


def _changes(changes: Sequence[Difference]) -> Iterator[tuple[str, Table]]:
    studies = {change.study for change in changes}
    for topic in TOPICS:
        own = [change for change in changes if change.topic == topic]
        rows = [
            [
                Cell(change.name),
                *([Cell(change.study)] if len(studies) > 1 else []),
                *(Cell(_side(change, side)) for side in (change.first, change.second)),
            ]
            for change in own
        ]
        columns = [("What", False), *([("Study", False)] if len(studies) > 1 else []), ("Was", False), ("Is", False)]
        if rows:
            yield topic, Table(f"changed-{topic}", f"{capital(topic)}, {len(rows)} that differ", columns, rows)
