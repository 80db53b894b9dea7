"""The page of a claim: what the paper says, what each study found, and the rule that decided, in words."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trigbench.workflow.claims.history import Event
from trigbench.workflow.claims.ledger import Ledger
from trigbench.workflow.claims.verdicts import CLAIM_NEW, RULE_CHANGED
from trigbench.workflow.claims.words import power_words
from trigbench.workflow.report.pages.common import Badge, Cell, Table, short
from trigbench.workflow.report.pages.plot import Plot, plot_of
from trigbench.workflow.report.pages.rules import (
    Content,
    compared,
    conditions,
    effect,
    effect_words,
    rule_words,
    smallest_words,
)
from trigbench.workflow.study.claim import Change, Claim


@dataclass(frozen=True)
class Decision:
    """What one study says of the claim."""

    badge: Badge
    holm: str | None
    """The verdict after Holm's adjustment, where it is another one."""
    note: str
    effect: str | None
    """In words, with its interval."""
    p: str | None
    smallest: str
    plot: Plot | None
    alt: str
    """What the plot shows, in words."""
    seeds: Table | None
    rule: list[str]
    """Sentence by sentence; empty where the study does not decide the claim."""
    experiment: str | None
    linked: bool
    """Whether the experiment has a page."""
    arms: list[str]
    rule_commit: str
    results_commit: str
    rule_first: str | None
    seen: str | None
    """Whether a result that it uses was published before its rule."""
    found_with: str | None
    """What effect as many seeds that scatter so would find."""
    power: str
    """Of an undecided one, the seeds that it would take."""
    correlation: str | None
    exact: bool

    @property
    def rule_changed(self) -> bool:
        return self.rule_first == RULE_CHANGED

    @property
    def is_late(self) -> bool:
        """Whether the rule is not older than the results that it judges."""
        return self.rule_first in (RULE_CHANGED, CLAIM_NEW)


@dataclass(frozen=True)
class ClaimPage:
    """One claim and all verdicts on it."""

    claim: str
    says: str
    paper: str
    place: str
    topic: str
    needs: str | None
    caveat: str | None
    erratum: str | None
    published: Table | None
    decisions: list[Decision]
    commands: list[str]
    """What makes its verdicts again, study by study."""
    withdrawn: Change | None = None
    """Since when and why nobody judges it."""
    changed: Sequence[Mapping[str, Any]] = ()
    """Why its rules are not what they were: date, why and studies."""
    history: Table | None = None
    """Its rules and published verdicts of all commits; None where git does not tell."""

    @property
    def address(self) -> str:
        return f"claims/{self.claim}.html"

    def on(self, study: str) -> Decision | None:
        """What that study says of it."""
        return next((decision for decision in self.decisions if decision.badge.study == study), None)

    @property
    def decided(self) -> list[Decision]:
        return [decision for decision in self.decisions if decision.rule]


Past = Mapping[str, Sequence[Event]]
Reach = Mapping[str, float]
"""By number of seeds, how far beyond what matters an effect must lie, in standard deviations, to be found mostly."""


def claim_pages(
    entries: Sequence[Mapping[str, Any]], past: Past | None = None, reach: Reach | None = None
) -> list[ClaimPage]:
    """The pages of all claims that any study's entry speaks of, in the ledger's order, with what git knows of them."""
    by_claim: dict[str, list[tuple[Mapping[str, Any], Content]]] = {}
    for entry in entries:
        for claim in entry["claims"]:
            by_claim.setdefault(claim["claim"], []).append((entry, claim))
    return [_page(name, found, (past or {}).get(name, ()), reach) for name, found in by_claim.items()]


def withdrawn_pages(ledger: Ledger, past: Past) -> list[ClaimPage]:
    """The pages of the claims that nobody judges any more."""
    return [_withdrawn(name, c, past.get(name, ())) for name, c in ledger.claims.items() if c.withdrawn is not None]


def _withdrawn(name: str, claim: Claim, past: Sequence[Event]) -> ClaimPage:
    return ClaimPage(
        claim=name, says=claim.claim, paper=claim.paper, place=claim.place, topic=claim.topic, needs=None,
        caveat=claim.caveat, erratum=claim.erratum, published=_published(claim.published), decisions=[], commands=[],
        withdrawn=claim.withdrawn, changed=[c.model_dump() for c in claim.changed], history=history_table(past),
    )  # fmt: skip


def _page(
    name: str, found: list[tuple[Mapping[str, Any], Content]], past: Sequence[Event], reach: Reach | None
) -> ClaimPage:
    about = found[0][1]
    return ClaimPage(
        claim=name, says=about["says"], paper=about["paper"], place=about["place"], topic=about["topic"],
        needs=about["needs"], caveat=about["caveat"], erratum=about["erratum"],
        published=_published(about["published"]), decisions=[decision(entry, claim, reach) for entry, claim in found],
        commands=list(dict.fromkeys(entry["commands"][name] for entry, c in found if c["rule"])),
        changed=about.get("changed", ()), history=history_table(past),
    )  # fmt: skip


def _published(figures: Mapping[str, float]) -> Table | None:
    rows = [[Cell(text), Cell(f"{value:g}", value)] for text, value in figures.items()]
    return Table("published", "The paper's figures", [("Of", False), ("Value", True)], rows) if rows else None


def history_table(past: Sequence[Event]) -> Table | None:
    """What each commit made of a claim's rules, and the verdicts that were published, the oldest first."""
    rows = [[Cell(short(e.commit)), Cell(e.date), Cell(e.study), Cell(_happened(e))] for e in past]
    columns = [("Commit", False), ("Day", False), ("On", False), ("Rule or verdict", False)]
    return Table("history", "Rules and published verdicts, by commit", columns, rows) if rows else None


def _happened(event: Event) -> str:
    if event.verdict is not None:
        words = effect_words(event.verdict)
        return f"Verdict: {event.verdict['verdict']}" + (f", {words}" if words else "")
    if event.rule is None:
        return "Rule withdrawn"
    rule = {**event.rule, **{side: _terms(event.rule.get(side, ())) for side in ("of", "against")}}
    try:
        smallest = smallest_words(rule["smallest"], rule["scale"])
        asked = f"Asked: {rule['direction']}; smallest effect that matters: {smallest}."
        return " ".join(["Rule:", *compared(rule, {}), *conditions(rule, {}), asked])
    except (AttributeError, KeyError, TypeError, ValueError):  # of a version with other keys
        return f"Rule: {dict(event.rule)}"


def _terms(side: Any) -> list[Any]:
    return [side] if isinstance(side, Mapping) else list(side)


def decision(entry: Mapping[str, Any], claim: Content, reach: Reach | None = None) -> Decision:
    """What the study of that entry says of one claim."""
    study, experiments = entry["label"], [experiment["name"] for experiment in entry["experiments"]]
    rule, scale = claim["rule"], claim["scale"]
    ends = [claim[key] for key in ("effect", "low", "high")]
    finite = all(end is not None and math.isfinite(end) for end in ends)
    holm = claim["holm_verdict"] if claim["holm_verdict"] != claim["verdict"] else None
    return Decision(
        badge=Badge(claim["verdict"], study), holm=holm, note=claim["note"] or "",
        effect=effect_words(claim), p=None if claim["p"] is None else _p(claim["p"]),
        smallest="" if rule is None else smallest_words(claim["smallest_effect"], scale),
        plot=plot_of(claim) if finite else None,
        alt=_alt(claim, scale) if finite else "",
        seeds=_by_seed(study, claim, scale) if claim["effects"] else None,
        rule=[] if rule is None else rule_words(rule, claim),
        experiment=claim["experiment"], linked=claim["experiment"] in experiments, arms=claim["arms"],
        rule_commit=short(claim["rule_commit"]), results_commit=short(claim["results_commit"]),
        rule_first=claim["rule_first"], seen=claim.get("seen"), found_with=_found_with(claim, reach),
        power=power_words({"seeds_needed": None, **claim}),
        correlation=None if claim.get("correlation") is None else f"{claim['correlation']:.2f}",
        exact=claim.get("basis") == "exact",
    )  # fmt: skip


def _alt(claim: Content, scale: str) -> str:
    """The plot in words."""
    several = len(claim.get("compared") or [])
    of = f"{several} comparisons" if several else f"{claim['seeds']} seeds"
    smallest = smallest_words(claim["smallest_effect"], scale)
    return f"Effects of {of}: {effect_words(claim)}, {claim['verdict']}; smallest effect that matters: {smallest}."


def _found_with(claim: Content, reach: Reach | None) -> str | None:
    """The effect that as many seeds find in most cases, if they scatter as these do: one beyond what matters. Of one
    comparison at all of alpha, as nothing else is simulated."""
    if claim.get("compared") or claim.get("planned"):
        return None
    effects = [value for value in claim["effects"].values() if value is not None and math.isfinite(value)]
    far = (reach or {}).get(str(len(effects)))
    if far is None or claim["direction"] not in ("less", "more") or claim.get("basis") not in ("median", "t"):
        return None
    bound = claim["smallest_effect"] + far * statistics.stdev(effects)
    sign = -1 if claim["direction"] == "less" else 1
    return f"{'below' if sign < 0 else 'above'} {effect(sign * bound, claim['scale'])}"


def _p(value: float) -> str:
    return "below 0.0001" if value < 1e-4 else f"{value:.2g}"


def _by_seed(study: str, claim: Content, scale: str) -> Table:
    effects, which = claim["effects"], ", in the comparison that decides" if claim.get("compared") else ""
    rows = [
        [Cell(seed, float(seed)), Cell(effect(v, scale), math.nan if v is None else v)] for seed, v in effects.items()
    ]
    return Table(f"seeds-{study}", f"Effects by seed on {study}{which}", [("Seed", False), ("Effect", True)], rows)
