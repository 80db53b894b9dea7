"""The page of a claim: what the paper says, what each study found, and the rule that decided, in words."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trigbench.workflow.claims.verdicts import CLAIM_NEW, RULE_CHANGED
from trigbench.workflow.claims.words import power_words
from trigbench.workflow.report.pages.common import Badge, Cell, Table, label, short, shown

Content = Mapping[str, Any]
"""What is known of one claim on one study: an entry of results/<study>/claims.json."""


@dataclass(frozen=True)
class Plot:
    """An interval on an axis, places in percent of its width (None: not on it)."""

    bands: list[tuple[float, float]]
    """The regions of effects that count as reproduced."""
    zero: float
    bounds: list[float]
    """The smallest effect that matters."""
    seeds: list[float]
    mean: float
    low: float
    high: float
    ticks: list[tuple[float, str]]


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

    @property
    def address(self) -> str:
        return f"claims/{self.claim}.html"

    def on(self, study: str) -> Decision | None:
        """What that study says of it."""
        return next((decision for decision in self.decisions if decision.badge.study == study), None)

    @property
    def decided(self) -> list[Decision]:
        return [decision for decision in self.decisions if decision.rule]


def claim_pages(entries: Sequence[Mapping[str, Any]]) -> list[ClaimPage]:
    """The pages of all claims that any study's entry speaks of, in the ledger's order."""
    by_claim: dict[str, list[tuple[Mapping[str, Any], Content]]] = {}
    for entry in entries:
        for claim in entry["claims"]:
            by_claim.setdefault(claim["claim"], []).append((entry, claim))
    return [_page(name, found) for name, found in by_claim.items()]


def _page(name: str, found: list[tuple[Mapping[str, Any], Content]]) -> ClaimPage:
    about = found[0][1]
    rows = [[Cell(text), Cell(f"{value:g}", value)] for text, value in about["published"].items()]
    published = Table("published", "The paper's figures", [("Of", False), ("Value", True)], rows) if rows else None
    return ClaimPage(
        claim=name, says=about["says"], paper=about["paper"], place=about["place"], topic=about["topic"],
        needs=about["needs"], caveat=about["caveat"], erratum=about["erratum"], published=published,
        decisions=[decision(entry, claim) for entry, claim in found],
        commands=list(dict.fromkeys(entry["commands"][name] for entry, c in found if c["rule"])),
    )  # fmt: skip


def decision(entry: Mapping[str, Any], claim: Content) -> Decision:
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
        plot=_plot(claim) if finite else None,
        seeds=_by_seed(study, claim["effects"], scale) if claim["effects"] else None,
        rule=[] if rule is None else rule_words(rule, claim),
        experiment=claim["experiment"], linked=claim["experiment"] in experiments, arms=claim["arms"],
        rule_commit=short(claim["rule_commit"]), results_commit=short(claim["results_commit"]),
        rule_first=claim["rule_first"], seen=claim.get("seen"), power=power_words({"seeds_needed": None, **claim}),
        correlation=None if claim.get("correlation") is None else f"{claim['correlation']:.2f}",
        exact=claim.get("basis") == "exact",
    )  # fmt: skip


def _p(value: float) -> str:
    return "below 0.0001" if value < 1e-4 else f"{value:.2g}"


# --- effects --------------------------------------------------------------------------------------


def effect(value: float | None, scale: str) -> str:
    """An effect as people read it: a factor for ratios, a signed number for differences.

    >>> effect(-0.105, "log_ratio"), effect(0.25, "difference"), effect(None, "log_ratio")
    ('×0.900', '+0.250', 'diverged')
    """
    if value is None or math.isinf(value):
        return "diverged"
    if scale == "difference":
        return f"{value:+.3g}" if abs(value) >= 1 else f"{value:+#.3g}"
    return f"×{shown(math.exp(value))}" if abs(value) < 50 else f"×e^{value:.0f}"


def effect_words(claim: Content) -> str | None:
    """The effect with its interval; None where there is none."""
    if claim["effect"] is None:
        return None
    text = effect(claim["effect"], claim["scale"])
    if claim["low"] is None:
        return text
    return f"{text} [{effect(claim['low'], claim['scale'])}, {effect(claim['high'], claim['scale'])}]"


def smallest_words(smallest: float, scale: str) -> str:
    """The smallest effect that matters.

    >>> smallest_words(0.05, "log_ratio"), smallest_words(0.0, "difference")
    ('5% (0.05 in the logarithm)', 'none beyond the bound in the rule')
    """
    if smallest == 0:
        return "none beyond the bound in the rule"
    return f"{smallest:.0%} ({smallest:g} in the logarithm)" if scale == "log_ratio" else f"{smallest:g}"


def _by_seed(study: str, effects: Mapping[str, float | None], scale: str) -> Table:
    rows = [
        [Cell(seed, float(seed)), Cell(effect(v, scale), math.nan if v is None else v)] for seed, v in effects.items()
    ]
    return Table(f"seeds-{study}", f"Effects by seed on {study}", [("Seed", False), ("Effect", True)], rows)


# --- the rule -------------------------------------------------------------------------------------


def rule_words(rule: Content, claim: Content) -> list[str]:
    """The rule's data as sentences."""
    ratio = rule["scale"] == "log_ratio"
    labels = claim.get("labels") or {}
    of, against = (_side(rule[side], rule["metric"], ratio, labels) for side in ("of", "against"))
    kind = "ratio" if ratio else "difference"
    first = f"Each seed gives one effect: the {kind} of {of} {'to' if ratio else 'less'} {against}."
    return [first, *_conditions(rule, labels), *_bounds(claim["direction"], claim["smallest_effect"], claim["scale"])]


def _conditions(rule: Content, labels: Mapping[str, str]) -> list[str]:
    """What else must hold, or the claim is not tested."""
    said, terms = [], [*rule["of"], *rule["against"]]
    if any(term.get("take") == "each" for term in terms):
        said.append("It must hold for each by itself: the interval of every one counts (an intersection-union test).")
    if chosen := sorted({seed for term in terms for seed in term.get("choose_on", ())}):
        seeds = ", ".join(map(str, chosen))
        said.append(f"The setting is the best on average over seeds {seeds}, which decide nothing.")
    if rule["metric"] == "fd_train" and "fd_held_out" not in _listed(rule.get("also", ())):
        said.append(ALONE)
    if rule.get("also"):
        names = ", ".join(_lower(labels.get(metric) or label(metric)) for metric in _listed(rule["also"]))
        said.append(f"It must hold in {names}, too.")
    if bar := rule.get("sane"):
        bound = f"at most {bar['at_most']:g}" if "at_most" in bar else f"at least {bar['at_least']:g}"
        times = f" times {_term(bar['of'], bar['metric'], labels)}" if "of" in bar else ""
        said.append(
            f"Not tested unless {_term(bar['competitor'], bar['metric'], labels)} is {bound}{times} ({bar['name']})."
        )
    if acting := rule.get("activity"):
        least = acting.get("least", 0.01)
        said.append(
            f"Not tested where {acting['metric']} of {', '.join(_listed(acting['arms']))} is below {least:.0%}."
        )
    limits = [f"{word} of {rule[word]:g}" for word in ("floor", "ceiling") if word in rule]
    return said + ([f"Not tested at the {' or the '.join(limits)}."] if limits else [])


ALONE = "The distance to the training part decides alone: that to the held-out part is not measured there."


def _listed(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def _bounds(direction: str, smallest: float, scale: str) -> list[str]:
    low, high = effect(-smallest, scale), effect(smallest, scale)
    between = f"between {low} and {high}"
    regions = {"less": (f"below {low}", f"above {high}"), "more": (f"above {high}", f"below {low}")}
    yes, no = regions.get(direction, (between, "outside of them"))
    small = f"; too small to matter if it lies {between}" if direction in regions and smallest > 0 else ""
    return [
        f"Reproduced if the 95% interval of the median over seeds lies wholly {yes}; opposite if wholly {no}{small}.",
        "Inconclusive otherwise, and with fewer than three seeds.",
    ]


def _side(terms: Any, metric: str, ratio: bool, labels: Mapping[str, str]) -> str:
    words = [_term(term, metric, labels) for term in terms]
    return words[0] if len(words) == 1 else (" times " if ratio else " plus ").join(f"({word})" for word in words)


def _term(term: Content, metric: str, labels: Mapping[str, str]) -> str:
    if "value" in term:
        return f"the constant {term['value']:g}"
    arms = term.get("arms", ())
    arms, take = _listed(arms), TAKEN.get(term.get("take", "choose_on" if term.get("choose_on") else ""), "")
    metric = term.get("metric", metric)
    words = f"{take}{_lower(labels.get(metric) or label(metric))}"
    words += f" of {', '.join(arms)}" if arms else ""
    settings = [_setting(key, term[key]) for key in SETTING if key in term]
    return words + (f" ({', '.join(settings)})" if settings else "")


TAKEN = {
    "min": "the least ", "max": "the largest ", "mean": "the mean ", "geometric_mean": "the geometric mean ",
    "each": "each ", "choose_on": "the chosen ",
}  # fmt: skip
SETTING = {
    "steps": "{} steps", "guidance": "guidance {}", "sampler": "sampler {}", "sampling": "sampler {}",
    "mid_time": "middle angle {}", "times": "middle angles {}", "x": "at x = {}", "objective": "objective {}",
}  # fmt: skip
"""What a term may fix, in words."""


def _setting(key: str, value: Any) -> str:
    if key == "steps" and value == 1:
        return "1 step"
    if key == "times":
        return f"middle angles {', '.join(f'{time:g}' for time in value)}" if value else "no middle angle"
    if key == "x" and isinstance(value, str):
        return {"first": "at the first x", "last": "at the last x", "all": "at every x"}[value]
    return SETTING[key].format(f"{value:g}" if isinstance(value, float) else value)


def _lower(text: str) -> str:
    """Without a capital, unless it is an abbreviation."""
    return text if text[:2].isupper() or text.startswith("Fréchet") else text[:1].lower() + text[1:]


# --- the plot -------------------------------------------------------------------------------------


def _plot(claim: Content) -> Plot:
    smallest, direction, scale = claim["smallest_effect"], claim["direction"], claim["scale"]
    effects = [value for value in claim["effects"].values() if value is not None and math.isfinite(value)]
    marks = [claim["low"], claim["high"], claim["effect"], *effects, 0.0, -smallest, smallest]
    margin = 0.08 * ((max(marks) - min(marks)) or 1.0)
    left, right = min(marks) - margin, max(marks) + margin

    def place(value: float) -> float:
        return round(100 * (value - left) / (right - left), 2)

    bands = {
        "less": [(0.0, place(-smallest))],
        "more": [(place(smallest), 100.0)],
        "same": [(place(-smallest), place(smallest))],
    }[direction]
    bounds = {"less": [-smallest], "more": [smallest], "same": [-smallest, smallest]}[direction]
    return Plot(
        bands=bands, zero=place(0), bounds=[place(bound) for bound in bounds],
        seeds=[place(value) for value in effects], mean=place(claim["effect"]),
        low=place(claim["low"]), high=place(claim["high"]),
        ticks=[(place(value), effect(value, scale)) for value in _ticks(left, right, scale)],
    )  # fmt: skip


FACTORS = (1, 2, 0.5, 5, 0.2, 10, 0.1, 1.5, 0.75, 3, 0.33, 1.2, 0.85, 1.1, 0.9, 1.05, 0.95, 20, 0.05, 100, 0.01)
"""Ratios that read well, the best first."""


def _ticks(left: float, right: float, scale: str) -> list[float]:
    """A few round numbers, or logarithms of round ratios, that do not crowd each other.

    >>> _ticks(-0.3, 0.12, "difference")
    [-0.2, -0.1, 0.0, 0.1]
    >>> [round(math.exp(tick), 2) for tick in _ticks(-0.3, 1.2, "log_ratio")]
    [0.75, 1.0, 1.5, 2.0, 3.0]
    """
    raw = (right - left) / 4
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * f for f in (1, 2, 5, 10) if power * f >= raw * 0.8)
    even = [round(k * step, 10) + 0.0 for k in range(math.ceil(left / step), math.floor(right / step) + 1)]
    chosen: list[float] = []
    for factor in FACTORS if scale == "log_ratio" else ():
        value = math.log(factor)
        if left <= value <= right and all(abs(value - other) > 0.13 * (right - left) for other in chosen):
            chosen.append(value)
    return sorted(chosen) if len(chosen) > 2 else even
