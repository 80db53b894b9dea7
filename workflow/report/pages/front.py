"""The front page: the matrix of claims and studies, totals, findings that no paper reports, and what it all cost."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from trigbench.workflow.claims.verdicts import DECIDED, OLD_WORDS
from trigbench.workflow.report.pages.claim import ClaimPage, Decision
from trigbench.workflow.report.pages.common import SYMBOLS, Cell, Picture, Table, content, duration
from trigbench.workflow.study.places import page_record
from trigbench.workflow.study.shipped import by_default

NOVEL = Path(__file__).parents[1] / "novel.yaml"
Entry = Mapping[str, Any]
"""What a study's page left beside itself (workflow.report.pages.study.entry)."""


@dataclass(frozen=True)
class Novel:
    """A finding that no paper reports: the question it answers, and sentences of a computed finding."""

    question: str
    study: str
    sentences: list[str]
    chart: Mapping[str, Any] | None
    """Of its curve, where it is one; drawn in place of the experiment's figure."""
    figure: str
    alt: str
    address: str


@dataclass(frozen=True)
class Topic:
    """A row of the map: all claims on one topic, with the verdicts of every study."""

    name: str
    cells: list[list[tuple[ClaimPage, Decision]]]
    """By study, and last those that no study here decides."""


@dataclass(frozen=True)
class FrontPage:
    """Everything on the front page."""

    entries: list[Entry]
    claims: list[ClaimPage]
    topics: list[Topic]
    totals: Table | None
    """Of all verdicts."""
    headline: Table | None
    """Of the rules that stood before any of their results was published."""
    costs: Table | None
    novel: list[Novel]
    timing: Table | None
    leads: list[tuple[str, Picture]]
    """What methods make of one noise, by study: the first is shown, and the others are folded away."""
    waiting: list[str]
    """Of the studies that are made together, those without a page."""
    withdrawn: Sequence[ClaimPage] = ()
    """Claims that nobody judges any more; in none of the above."""

    @property
    def studies(self) -> list[str]:
        return [entry["label"] for entry in self.entries]

    @property
    def papers(self) -> list[str]:
        return list(dict.fromkeys(claim.paper for claim in self.claims))


def front_page(
    entries: list[Entry], claims: list[ClaimPage], timing: Path, withdrawn: Sequence[ClaimPage] = ()
) -> FrontPage:
    """The front page of these studies and claims."""
    return FrontPage(
        entries=entries, claims=sorted(claims, key=lambda claim: claim.topic), topics=_topics(entries, claims),
        totals=_totals(entries, "verdicts", "totals", ALL), headline=_totals(entries, "headline", "headline", FRESH),
        costs=_costs(entries), novel=novel_findings(entries), timing=time_spent(timing),
        leads=_leads(entries), waiting=_waiting(entries), withdrawn=withdrawn,
    )  # fmt: skip


def read_entries(reports: Path) -> list[Entry]:
    """What was left by the study pages that exist in that folder, by name."""
    found = [(page, content(page_record(reports, page.stem))) for page in sorted(reports.glob("*.html"))]
    return [entry for page, entry in found if entry.get("label") == page.stem]


def _leads(entries: Sequence[Entry]) -> list[tuple[str, Picture]]:
    """By the places that studies give themselves; those without one come after them, and quick budgets last."""

    def rank(entry: Entry) -> tuple[bool, float, int]:
        return entry.get("quick", False), entry.get("leads") or float("inf"), -len(entry["seeds"])

    found = [entry for entry in sorted(entries, key=rank) if entry.get("one_noise")]
    return [(entry["label"], Picture(**entry["one_noise"])) for entry in found]


def _waiting(entries: Sequence[Entry]) -> list[str]:
    made = {entry["study"] for entry in entries if entry["runs"]}
    return [name for name in by_default() if name not in made] if made & {*by_default()} else []


def novel_findings(entries: Sequence[Entry], path: Path = NOVEL) -> list[Novel]:
    """Those whose experiment is there and says what the table asks for, each of the study with the most seeds."""
    most_seeds_first = sorted(entries, key=lambda entry: -len(entry["seeds"]))
    found = []
    for wanted in yaml.safe_load(path.read_text(encoding="utf-8")):
        same = (entry for entry in most_seeds_first if entry["study"] == wanted["study"])
        answers = (answer for entry in same if (answer := _answer(wanted, entry)))
        found += [answer] if (answer := next(answers, None)) else []
    return found


def _answer(wanted: Mapping[str, str], entry: Entry) -> Novel | None:
    experiment = next((e for e in entry["experiments"] if e["name"] == wanted["experiment"]), None)
    if experiment is None or not experiment["figure"]:
        return None
    about = (experiment["figure"], experiment["alt"], experiment["address"])
    if "curve" in wanted:
        chart = experiment["curves"].get(wanted["curve"])
        return Novel(wanted["question"], entry["label"], [chart["words"]], chart, *about) if chart else None
    parts = re.split(r"(?<=[.;])\s+", " ".join(experiment["finding"]))
    chosen = [f"{part.rstrip('.;')}." for part in parts if re.search(wanted["sentences"], part)]
    return Novel(wanted["question"], entry["label"], chosen, None, *about) if chosen else None


def time_spent(timing: Path) -> Table | None:
    """Where the workflow's time went: a mapping of rule -> seconds, where one was written."""
    spent = {k: float(v) for k, v in content(timing).items() if isinstance(v, int | float)}
    rows = [
        [Cell(name), Cell(duration(seconds), seconds)]
        for name, seconds in sorted(spent.items(), key=lambda item: -item[1])
    ]
    return Table("time", "Where the time went", [("Part", False), ("Wall-clock", True)], rows) if rows else None


def _topics(entries: list[Entry], claims: list[ClaimPage]) -> list[Topic]:
    def cell(own: list[ClaimPage], study: str) -> list[tuple[ClaimPage, Decision]]:
        pairs = [(claim, d) for claim in own for d in claim.decided if d.badge.study == study]
        order = [*SYMBOLS, *OLD_WORDS]
        return sorted(pairs, key=lambda pair: order.index(pair[1].badge.verdict))

    found = []
    for name in sorted({claim.topic for claim in claims}):
        own = [claim for claim in claims if claim.topic == name]
        undecided = [(claim, claim.decisions[0]) for claim in own if not claim.decided]
        found.append(Topic(name, [*(cell(own, entry["label"]) for entry in entries), undecided]))
    return found


ALL = "All verdicts by study; how many survive Holm's adjustment for many claims, and false verdicts to expect"
FRESH = "Verdicts by rules that stood before any result that they judge was published"


def _totals(entries: list[Entry], of: str, name: str, caption: str) -> Table | None:
    heads = {"tested": "Tested"}
    for verdict in DECIDED:
        heads |= {verdict: verdict.capitalize(), f"{verdict} (Holm)": "after Holm"}
    heads |= {word: word.capitalize() for word in ("inconclusive", "not tested", "not run")}
    heads |= {"false at most": "False, at most"}
    rows = [
        [
            Cell(f"on {entry['label']}", link=f"{entry['label']}.html"),
            *(Cell(f"{entry[of][key]:.3g}", entry[of][key]) for key in heads),
        ]
        for entry in entries
        if entry.get(of)
    ]
    columns = [("Verdicts", False), *((head, True) for head in heads.values())]
    return Table(name, caption, columns, rows) if rows else None


def _costs(entries: list[Entry]) -> Table | None:
    rows = [
        [
            Cell(entry["label"], link=f"{entry['label']}.html"),
            Cell(duration(entry["run_seconds"]), entry["run_seconds"]),
            Cell(f"{entry['runs']}", entry["runs"]),
            Cell(f"{len(entry['seeds'])}", len(entry["seeds"])),
            Cell(f"{entry['runs_diverged']}", entry["runs_diverged"]),
            Cell(entry["hardware"] or "unknown"),
        ]
        for entry in entries
        if entry["runs"]
    ]
    columns = [
        ("Study", False),
        ("Hours of jobs", True),
        ("Runs", True),
        ("Seeds", True),
        ("Diverged", True),
        ("Hardware", False),
    ]
    caption = "What it cost to find out: wall-clock of all runs, one after the other"
    return Table("what-it-cost", caption, columns, rows) if rows else None
