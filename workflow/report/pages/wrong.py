"""How we could be wrong: what simulations say of the judge, what it assumes, and what nobody has tested."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trigbench._places import to_make
from trigbench.workflow.claims.verdicts import DECIDED
from trigbench.workflow.claims.words import needed_words
from trigbench.workflow.report.pages.claim import ClaimPage
from trigbench.workflow.report.pages.common import Cell, Table, shown
from trigbench.workflow.report.words import short_name
from trigbench.workflow.study.places import SIMULATIONS
from trigbench.workflow.study.shipped import by_default

ADDRESS = "wrong.html"
REASONS = (
    (
        "Arms agree bit for bit", "agree bit for bit",
        "whatever they differ in did nothing, so that seeds say nothing of it",
    ),
    (
        "What arms differ in hardly acted", "was active in",
        "an intervention that acts in less than 1% of steps is not tested by what comes out",
    ),
    (
        "A named competitor failed its own bar", "its competitor failed",
        "to win against a method that did not work here is no evidence for the claim",
    ),
    (
        "A metric is at its floor or ceiling", "is at its (floor|ceiling)",
        "where nothing can be better, nothing can be found to be",
    ),
    (
        "What was chosen, as a rate, lies at the edge of its grid", "at the edge of its grid",
        "the best rate may lie outside, so that the method was not at its best",
    ),
    (
        "Training was too short to judge", "too short to judge",
        "a quick budget shows that everything runs, and decides nothing",
    ),
    ("Exact numbers differ", "said to be exact", "a number without scatter must be the same in every seed"),
)  # fmt: skip
"""Why a claim is not tested: in a few words, what its note has, and the reason of the reason."""
OTHER = ("For another reason", "", "its note says which")


@dataclass(frozen=True)
class Untested:
    """A reason, and the claims that are not tested for it."""

    name: str
    purpose: str
    claims: list[tuple[str, str, str, str]]
    """(address, what it says, study, note)."""


@dataclass(frozen=True)
class WrongPage:
    """Everything on the page; tables that would be empty are None."""

    false: Table | None
    every_false: Table | None
    redrawn: Table | None
    power: Table | None
    made: str
    """By what the simulations were made."""
    command: str
    """That makes them, where this is read."""
    bases: Table | None
    undecided: Table | None
    seen: Table | None
    untested: list[Untested]
    lengths: Table | None
    floors: Table | None
    rule_floors: Table | None


def wrong_page(
    entries: Sequence[Mapping[str, Any]], claims: Sequence[ClaimPage], simulated: Mapping[str, Any]
) -> WrongPage:
    """Of the studies and claims that have pages, and of what was simulated."""
    decided = [(entry, claim) for entry in entries for claim in entry["claims"] if claim["rule"]]
    versions = ", ".join(f"{name} {version}" for name, version in simulated.get("versions", {}).items())
    made = f"{simulated.get('draws', 0):,} draws each, seed {simulated.get('seed')}, {versions}"
    return WrongPage(
        false=_false(simulated), every_false=_every_false(simulated), redrawn=_redrawn(entries),
        power=_power(simulated), made=made,
        command=_command(), bases=_counts("bases", "What verdicts rest on", entries, "basis", BASES),
        undecided=_undecided(decided), seen=_counts("seen", SEEN_CAPTION, entries, "seen", SEEN),
        untested=_untested(decided, {claim.claim: claim for claim in claims}), lengths=_lengths(entries),
        floors=_floors(entries), rule_floors=_rule_floors(decided),
    )  # fmt: skip


# --- simulations ----------------------------------------------------------------------------------


def _command() -> str:
    return to_make([str(SIMULATIONS)], [by_default()[0], "--", str(SIMULATIONS)])


def _false(simulated: Mapping[str, Any]) -> Table | None:
    """By how effects scatter and how many seeds there are, the worst of all that was asked."""
    rows = simulated.get("false", [])
    sizes = list(dict.fromkeys(row["seeds"] for row in rows))
    worst: dict[tuple[str, str], Mapping[str, Any]] = {}
    for row in rows:
        key = row["residuals"], row["seeds"]
        worst[key] = max(row, worst.get(key, row), key=lambda one: one["false"])
    made = [
        [Cell(name), *(_share(worst[name, size]["false"], worst[name, size]["holds"]) for size in sizes)]
        for name in dict.fromkeys(row["residuals"] for row in rows)
    ]
    columns = [("Effects scatter as", False), *((_seeds(size), True) for size in sizes)]
    caption = "False verdicts of all kinds together, at the worst true effect: meant are 5% at most"
    return Table("false", caption, columns, made) if made else None


def _every_false(simulated: Mapping[str, Any]) -> Table | None:
    rows = [
        [
            Cell(row["residuals"]), Cell(row["seeds"]), Cell(row["asked"]), Cell(f"{row['d']:g}", row["d"]),
            _share(row["false"], row["holds"]), Cell(f"[{row['low']:.1%}, {row['high']:.1%}]", row["high"]),
        ]
        for row in simulated.get("false", [])
    ]  # fmt: skip
    heads = ("Effects scatter as", "Seeds", "Asked", "d", "False", "95% interval")
    columns = [(head, head in heads[3:]) for head in heads]
    return (
        Table("every-false", "The same, one by one; asked is a greater effect or none", columns, rows) if rows else None
    )


def _redrawn(entries: Sequence[Mapping[str, Any]]) -> Table | None:
    """Of the verdicts of this report."""
    rows = [
        [
            Cell(f"on {row['study']}", link=f"{entry['label']}.html"), Cell(row["drawn"]),
            Cell(str(row["claims"]), row["claims"]), Cell(str(row["seeds_each"])),
            _share(row["false"], row["holds"] != "no"), Cell(f"[{row['low']:.1%}, {row['high']:.1%}]", row["high"]),
            _share(row["worst"]),
        ]
        for entry in entries
        for row in entry.get("redrawn", ())
    ]  # fmt: skip
    heads = ("Verdicts", "Drawn anew", "Claims", "Seeds", "False", "95% interval", "Worst claim")
    columns = [(head, head in ("Claims", *heads[4:])) for head in heads]
    return Table("redrawn", "Verdicts of this report, had chance decided their seeds", columns, rows) if rows else None


def _share(value: float, holds: bool = True) -> Cell:
    return Cell(f"{value:.1%}", value, mark="" if holds else "no")


def _seeds(size: str) -> str:
    return f"{size} seeds" if size.isdigit() else size


def _power(simulated: Mapping[str, Any]) -> Table | None:
    rows, found = simulated.get("power", []), simulated.get("found_with", {})
    far = list(dict.fromkeys(row["beyond"] for row in rows))
    said = {(row["seeds"], row["beyond"]): row["said"] for row in rows}
    made = [
        [Cell(str(n), n), *(_share(said[n, b]) for b in far), Cell(f"{found[str(n)]:.2f}", found[str(n)])]
        for n in dict.fromkeys(row["seeds"] for row in rows)
    ]
    columns = [("Seeds", True), *((f"{b:g} sd", True) for b in far), ("80% from (sd)", True)]
    caption = "How often a verdict is said, by how far the true effect lies beyond the smallest that matters"
    return Table("power", caption, columns, made) if made else None


# --- verdicts -------------------------------------------------------------------------------------

BASES = {
    "median": "signs of seeds", "t": "Student's t", "exact": "no scatter", "divergence": "divergence in every seed",
}  # fmt: skip
SEEN = {"no": "rule first", "yes": "results first", "unknown": "unknown"}
SEEN_CAPTION = "Whether results that a verdict uses were published before its rule"


def _counts(
    name: str, caption: str, entries: Sequence[Mapping[str, Any]], key: str, words: Mapping[str, str]
) -> Table | None:
    """By study, how many of its verdicts have each value."""
    rows = []
    for entry in entries:
        found = [claim.get(key) for claim in entry["claims"] if claim["verdict"] in (*DECIDED, "inconclusive")]
        if found:
            counts = [found.count(value) for value in words]
            cells = [Cell(str(count), count) for count in counts]
            rows.append([Cell(f"on {entry['label']}", link=f"{entry['label']}.html"), *cells])
    columns = [("Verdicts", False), *((word.capitalize(), True) for word in words.values())]
    return Table(name, caption, columns, rows) if rows else None


def _undecided(decided: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> Table | None:
    rows = []
    for entry, claim in decided:
        if claim["verdict"] == "inconclusive" and claim.get("basis") != "exact":
            needed, text = needed_words({"seeds_needed": None, **claim})
            cells = [
                Cell(claim["claim"].replace("-", " "), link=f"claims/{claim['claim']}.html"),
                Cell(f"on {entry['label']}"),
                Cell(str(claim["seeds"]), claim["seeds"]),
                Cell(text, needed),
            ]
            rows.append((math.inf if math.isnan(needed) else needed, cells))
    rows.sort(key=lambda row: row[0])
    columns = [("Undecided", False), ("Study", False), ("Seeds", True), ("It would take", True)]
    caption = "Undecided verdicts, and the seeds that would decide them in 80% of cases"
    return Table("undecided", caption, columns, [cells for _, cells in rows]) if rows else None


def _untested(
    decided: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]], pages: Mapping[str, ClaimPage]
) -> list[Untested]:
    found: dict[tuple[str, str, str], list[tuple[str, str, str, str]]] = {}
    for entry, claim in decided:
        if claim["verdict"] == "not tested":
            note = claim["note"] or ""
            reason = next((reason for reason in REASONS if re.search(reason[1], note)), OTHER)
            page = pages[claim["claim"]]
            found.setdefault(reason, []).append((page.address, page.says, entry["label"], note))
    return [Untested(name, purpose, own) for (name, _, purpose), own in sorted(found.items(), key=lambda f: -len(f[1]))]


# --- limits ---------------------------------------------------------------------------------------


def _lengths(entries: Sequence[Mapping[str, Any]]) -> Table | None:
    rows = [
        [
            Cell(entry["label"], link=f"{entry['label']}.html"), Cell(short_name(method["objective"])),
            Cell(str(method["arms"]), method["arms"]),
            *(Cell(_span(*method[key]), method[key][1]) for key in ("steps", "images")),
        ]
        for entry in entries
        if entry["runs"]
        for method in entry.get("lengths", ())
    ]  # fmt: skip
    columns = [("Study", False), ("Method", False), ("Arms", True), ("Steps", True), ("Samples seen", True)]
    return (
        Table("lengths", "How long methods were trained: the least and the most of their arms", columns, rows)
        if rows
        else None
    )


def _span(low: int, high: int) -> str:
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _floors(entries: Sequence[Mapping[str, Any]]) -> Table | None:
    rows = [
        [
            Cell(f"{entry['label']}, {floor['data']}"), Cell(floor["metric"]), Cell(floor["better"]),
            Cell(shown(float(floor["real"])), floor["real"]), Cell(shown(floor["best"]), floor["best"]),
            Cell(floor["arm"]),
        ]
        for entry in entries
        for floor in entry.get("floors", ())
    ]  # fmt: skip
    heads = ("Data", "Metric", "Better", "Real data", "Best mean", "Of")
    columns = [(head, head in heads[3:5]) for head in heads]
    return Table("floors", "How near the best arm comes to real data", columns, rows) if rows else None


def _rule_floors(decided: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> Table | None:
    rows = [
        [
            Cell(claim["claim"].replace("-", " "), link=f"claims/{claim['claim']}.html"), Cell(f"on {entry['label']}"),
            Cell(word), Cell(f"{claim['rule'][word]:g}", claim["rule"][word]),
        ]
        for entry, claim in decided
        for word in ("floor", "ceiling")
        if word in claim["rule"]
    ]  # fmt: skip
    columns = [("Claim", False), ("Study", False), ("Limit", False), ("Value", True)]
    return Table("rule-floors", "Floors and ceilings that rules name", columns, rows) if rows else None
