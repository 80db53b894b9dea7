"""Why a claim is not tested, though its runs are there: nothing acted, nothing could differ, or no one fair was met."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from trigbench.workflow.claims.edges import choice_at_the_edge, rate_at_the_edge
from trigbench.workflow.claims.effects import Effects, TermNumbers, number_by_seed, of_experiment
from trigbench.workflow.study.claim import Activity, Rule, Sane
from trigbench.workflow.study.quantities import Quantities, is_exact
from trigbench.workflow.study.study import Study


def too_short(study: Study) -> str | None:
    """Of a budget that is there to be quick."""
    return f"too short to judge: the budget {study.budget} is a quick one" if study.quick else None


def untested(rule: Rule, found: Sequence[Effects], runs: pd.DataFrame, study: Study, known: Quantities) -> str | None:
    """The reason why these comparisons test nothing; None where they do.

    The rule's patterns must be resolved, and the study be in full.
    """
    runs = of_experiment(runs, rule.experiment)
    reasons = (
        *(_alike(effects, known) for effects in found),
        _inactive(rule.activity, runs) if rule.activity else None,
        _failed(rule.sane, runs, known) if rule.sane else None,
        *(_at_its_limit(rule, effects, known) for effects in found),
        *(rate_at_the_edge(arm, runs, study) for arm in rule.arms),
        *(choice_at_the_edge(term.choice, study) for effects in found for term in effects.terms if term.choice),
    )
    return next(filter(None, reasons), None)


def _alike(found: Effects, known: Quantities) -> str | None:
    """Two terms, one on each side, with one value in every seed; counts may well agree."""
    for own in (term for term in found.terms if term.sign > 0):
        for other in (term for term in found.terms if term.sign < 0):
            scatters = own.metric == other.metric and not is_exact(own.metric, known)
            if scatters and own.values == other.values and np.isfinite(own.values).all():
                return f"{own.label} and {other.label} agree bit for bit in every seed"
    return None


def _inactive(activity: Activity, runs: pd.DataFrame) -> str | None:
    """The intervention acted too rarely; an arm without that number is missing, which `missing_beside` says."""
    for arm in activity.arms:
        share = float(runs[(runs.arm == arm) & (runs.metric == activity.metric)].value.mean())
        if share < activity.least:
            acted = f"{share:.2%} of steps ({activity.metric})"
            return f"what {arm} is about was active in {acted}, below {activity.least:.0%}"
    return None


def missing_beside(rule: Rule, runs: pd.DataFrame, known: Quantities) -> str | None:
    """What is needed to know whether a claim is tested, and is not there."""
    runs = of_experiment(runs, rule.experiment)
    if rule.activity is not None:
        for arm in rule.activity.arms:
            if not runs[(runs.arm == arm) & (runs.metric == rule.activity.metric)].value.notna().any():
                return f"{rule.activity.metric} of {arm}"
    if rule.sane is not None:
        for term in rule.sane.terms:
            if not number_by_seed(term, rule.sane.metric, runs, known):
                return f"{rule.sane.metric} of {term.arms[0]}"
    return None


def _failed(bar: Sane, runs: pd.DataFrame, known: Quantities) -> str | None:
    own, *of = (number_by_seed(term, bar.metric, runs, known) for term in bar.terms)
    seeds = sorted(set(own).intersection(*of))
    ratios = [own[seed] / (of[0][seed] if of else 1.0) for seed in seeds]
    median = float(np.median(ratios)) if ratios else math.nan
    fair = median <= bar.at_most if bar.at_most is not None else median >= (bar.at_least or 0.0)
    if fair:
        return None
    bound = f"at most {bar.at_most:g}" if bar.at_most is not None else f"at least {bar.at_least:g}"
    times = f" times that of {bar.of.arms[0]}" if bar.of is not None else ""
    return f"its competitor failed: {bar.metric} of {bar.name} is {median:.3g}{times}, and the bar was {bound}"


def _at_its_limit(rule: Rule, found: Effects, known: Quantities) -> str | None:
    """What the claim is held against stands where nothing can be better (or worse), or both sides stand there."""
    sides = [[t for t in found.terms if t.sign == sign] for sign in (1, -1)]
    for word, sense in (("floor", -1), ("ceiling", 1)):
        there = [bool(side) and all(_stands(term, word, sense, rule, known) for term in side) for side in sides]
        no_room = there[1] and rule.direction == ("less" if sense < 0 else "more")
        if all(there) or no_room:
            return f"{sides[1][0].metric} of {sides[1][0].label} is at its {word}"
    return None


def _stands(term: TermNumbers, word: str, sense: int, rule: Rule, known: Quantities) -> bool:
    of_rule = getattr(rule, word) if term.metric == rule.metric else None
    limit = of_rule if of_rule is not None else getattr(known[term.metric], word) if term.metric in known else None
    return limit is not None and sense * float(np.median(term.values)) >= sense * limit
