"""Rules and effects in words."""

import math
from collections.abc import Mapping
from typing import Any

from trigbench.workflow.report.pages.common import label, shown

Content = Mapping[str, Any]
"""What is known of one claim on one study: an entry of results/<study>/claims.json."""


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


# --- the rule -------------------------------------------------------------------------------------


def rule_words(rule: Content, claim: Content) -> list[str]:
    """The rule's data as sentences."""
    labels = claim.get("labels") or {}
    bounds = _bounds(claim["direction"], claim["smallest_effect"], claim["scale"])
    return [*compared(rule, labels), *conditions(rule, labels), *bounds]


def compared(rule: Content, labels: Mapping[str, str]) -> list[str]:
    """What is held against what."""
    ratio = rule["scale"] == "log_ratio"
    of, against = (_side(rule[side], rule["metric"], ratio, labels) for side in ("of", "against"))
    kind = "ratio" if ratio else "difference"
    return [f"Each seed gives one effect: the {kind} of {of} {'to' if ratio else 'less'} {against}."]


def conditions(rule: Content, labels: Mapping[str, str]) -> list[str]:
    """What else must hold, or the claim is not tested."""
    said, terms = [], [*rule["of"], *rule["against"]]
    if any(term.get("take") == "each" for term in terms):
        said.append("It must hold for each by itself: the interval of every one counts (an intersection-union test).")
    if chosen := sorted({seed for term in terms for seed in term.get("choose_on", ())}):
        seeds = ", ".join(map(str, chosen))
        said.append(f"The setting is the best on average over seeds {seeds}, which decide nothing.")
    asked = {rule["metric"], *_listed(rule.get("also", ())), *(term["metric"] for term in terms if "metric" in term)}
    if any(name.endswith("_train") and name.replace("_train", "_held_out") not in asked for name in asked):
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


ALONE = "The distance to the training part decides alone; that to the held-out part does not enter."


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
