"""Verdicts: what the interval of a claim's effect says of what is asked (docs/verdicts.md has the one table).

What is claimed is that the effect is greater than d, the smallest that matters, on the claimed side of zero, or that it
is none (`same`: between -d and d):

| the whole interval lies         | greater             | same         |
|---------------------------------|---------------------|--------------|
| beyond d, on the claimed side   | reproduced          | opposite     |
| between -d and d                | too small to matter | reproduced   |
| beyond -d, on the other side    | opposite            | opposite     |
| on both sides of one of the two | inconclusive        | inconclusive |

Each verdict is false with a probability of at most half of alpha, and all false ones of a claim together of at most
alpha. An interval that excludes what is claimed but not the opposite is inconclusive, and the note says so.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, cast

import numpy as np
import pandas as pd

from trigbench.workflow.claims.effects import Effects
from trigbench.workflow.claims.intervals import (
    FEW,
    correlation,
    holm,
    limits,
    p_above,
    p_below,
    seeds_needed,
    shares_of_alpha,
    signs_decide,
)

Verdict = Literal["reproduced", "opposite", "too small to matter", "inconclusive", "not tested", "not run"]
DECIDED: tuple[Verdict, ...] = ("reproduced", "too small to matter", "opposite")
WORDS: tuple[Verdict, ...] = (*DECIDED, "inconclusive", "not tested", "not run")
OLD_WORDS = {"not reproduced": "of earlier rules: the opposite, or too small to matter"}
"""What tables that were published before may say, and what it meant."""
Direction = Literal["less", "more", "same"]
Basis = Literal["exact", "median", "t", "divergence"]
ALPHA = 0.05
MIN_SEEDS = 3
RULE_CHANGED = "rule changed after results"
CLAIM_NEW = "claim newer than results"
"""What is said of a rule that is not older than the results that it judges."""
BY_STUDENT = "Student's t decides, which takes residuals to be normal: {} seeds alone do not"
EXCLUDED = "what is claimed is excluded; whether there is no effect or the opposite is open"


@dataclass(frozen=True)
class Judgement:
    """A verdict with its effect and interval; None where there is no such number."""

    verdict: Verdict
    effect: float | None = None
    """The median over seeds."""
    low: float | None = None
    high: float | None = None
    p: float | None = None
    """The least alpha at which the verdict would be said; None where none is tested."""
    seeds: int = 0
    note: str = ""
    basis: Basis | None = None
    """What decides: no scatter, the signs of seeds, Student's t, or that a side diverged in every seed."""
    correlation: float | None = None
    """Over seeds, between the two sides."""
    seeds_needed: int | None = None
    """Of an undecided one: seeds for a verdict with probability 0.8, if the observed effect and scatter are true."""
    which: int = 0
    """Of several comparisons the one that decides."""
    ends: tuple[tuple[float, float], ...] = ()
    """Of each comparison its own interval, at the level at which a claim must hold in all."""
    looked: tuple[int, ...] = ()
    """The seeds of the look that says it; none where there is no look."""

    def used(self, found: Sequence[Effects]) -> tuple[Effects, ...]:
        """What it rests on: of looks, the seeds of the one that says it."""
        return tuple(effects.among(self.looked) if self.looked else effects for effects in found)


def not_tested(reason: str, found: Sequence[Effects] = ()) -> Judgement:
    """A verdict of its own, outside Holm's family."""
    seeds = min((len(effects.values) for effects in found), default=0)
    return Judgement("not tested", seeds=seeds, note=reason)


def classify(low: np.ndarray, high: np.ndarray, direction: Direction, smallest: float) -> np.ndarray:
    """The verdict of each interval."""
    if direction == "less":
        low, high = -high, -low
    beyond, within, other = low > smallest, (-smallest < low) & (high < smallest), high < -smallest
    if direction == "same":
        return np.select([within, beyond | other], ["reproduced", "opposite"], "inconclusive")
    return np.select([beyond, within, other], ["reproduced", "too small to matter", "opposite"], "inconclusive")


def _word(low: float, high: float, same: bool, smallest: float) -> Verdict:
    """Of effects turned so that the claimed side is above zero."""
    return cast(Verdict, str(classify(np.array(low), np.array(high), "same" if same else "more", smallest)))


def judged(found: Sequence[Effects], direction: Direction, smallest: float, alpha: float = ALPHA) -> Judgement:
    """The verdict on the effects by seed of one comparison, or of several in all of which the claim must hold.

    Of several the least effect is judged (for `same` the largest): its interval begins where the lowest of them
    begins, and ends with the lowest end at alpha over their number. A diverged run counts as infinitely bad. With fewer
    than FEW seeds it decides where it decides every seed to one side; from there on it is a rank like others.
    """
    if found[0].missing:
        return Judgement("not run", note=f"there is no {'; no '.join(found[0].missing)}")
    sign = -1.0 if direction == "less" else 1.0
    values = [sign * np.array(effects.values) for effects in found]
    left = dict.fromkeys(seed for effects in found for seed in effects.left_out)
    notes = [f"seeds left out, since an arm lacks them: {', '.join(map(str, left))}"] if left else []
    count = min(map(len, values))
    if any(np.isnan(v).any() or (count < FEW and _mixed(v)) for v in values):
        why = "no seed gives a number" if all(np.isnan(v).all() for v in values) else "runs diverged"
        few = [f"fewer than {MIN_SEEDS} seeds"] if count < MIN_SEEDS else []
        return Judgement("inconclusive", seeds=count, note="; ".join([why, *few, *notes]))
    if count < MIN_SEEDS:
        return _too_few(found, values, sign, notes)
    return _decided(found, values, direction, smallest, alpha, notes)


def _mixed(values: np.ndarray) -> bool:
    """Whether runs of some seeds diverged, and did not all point one way."""
    return not np.isfinite(values).all() and len(set(values)) > 1


def _too_few(found: Sequence[Effects], values: list[np.ndarray], sign: float, notes: list[str]) -> Judgement:
    which = int(np.argmin([np.median(v) for v in values]))
    own, note = values[which], "; ".join([f"fewer than {MIN_SEEDS} seeds", *notes])
    if not np.isfinite(own).all():
        return Judgement("inconclusive", seeds=len(own), note=f"runs diverged; {note}")
    low, high = map(float, limits(own, ALPHA)) if len(own) > 1 else (None, None)
    ends = (low, high) if sign > 0 or low is None or high is None else (-high, -low)
    return Judgement("inconclusive", sign * float(np.median(own)), *ends, seeds=len(own), note=note, which=which)


def _decided(
    found: Sequence[Effects],
    values: list[np.ndarray],
    direction: Direction,
    smallest: float,
    alpha: float,
    notes: list[str],
) -> Judgement:
    """Of effects turned so that the claimed side is above zero."""
    same, sign, many = direction == "same", -1.0 if direction == "less" else 1.0, len(values)
    medians = [float(np.median(v)) for v in values]
    which = int(np.argmax(np.abs(medians)) if same else np.argmin(medians))
    ends, strict = [_limits(v, alpha) for v in values], [_limits(v, alpha / many) for v in values]
    low = min(low for low, _ in ends)
    high = max(high for _, high in ends) if same else min(high for _, high in strict)
    verdict = _word(low, high, same, smallest)
    if same and many > 1 and verdict != "reproduced":
        outside = any(_word(*ends_of_one, same, smallest) == "opposite" for ends_of_one in strict)
        verdict = "opposite" if outside else "inconclusive"
    own, count = values[which], min(map(len, values))
    if not np.isfinite(own).all() and count < FEW:
        effect = sign * own[0]
        note = "; ".join(["decided by divergence in every seed", *notes])
        return Judgement(verdict, effect, effect, effect, None, count, note, "divergence", which=which)
    by_signs = all(signs_decide(len(v), alpha / many) for v in values)
    if many > 1:
        notes = [f"the {'largest' if same else 'least'} of {many} effects: {found[which].name}", *notes]
    if not by_signs:
        notes = [BY_STUDENT.format(count), *notes]
    if verdict == "inconclusive" and not same and high < smallest:
        notes = [EXCLUDED, *notes]
    p = _p(values, medians, same, smallest)
    needed = None if verdict != "inconclusive" else _needed(own, same, smallest, alpha, many)
    shown, *each = [(a, b) if sign > 0 else (-b, -a) for a, b in ((low, high), *ends)]
    return Judgement(
        verdict, sign * medians[which], *shown, p, count, "; ".join(notes), "median" if by_signs else "t",
        correlation(*found[which].sides), needed, which, tuple(each),
    )  # fmt: skip


def _limits(values: np.ndarray, alpha: float) -> tuple[float, float]:
    if not np.isfinite(values).all() and not signs_decide(len(values), alpha):
        return (values[0], values[0]) if len(set(values)) == 1 else (-math.inf, math.inf)
    low, high = limits(values, alpha)
    return float(low), float(high)


def _p(values: list[np.ndarray], medians: list[float], same: bool, smallest: float) -> float:
    """The least alpha at which the verdict that the medians speak for would be said."""
    many = len(values)

    def above(bound: float) -> float:  # in all
        return max(p_above(v, bound) for v in values)

    def below(bound: float) -> float:  # in any
        return min(1.0, many * min(p_below(v, bound) for v in values))

    if same:
        if max(map(abs, medians)) < smallest:
            return max(above(-smallest), *(p_below(v, smallest) for v in values))
        return min(1.0, many * min(min(p_above(v, smallest), p_below(v, -smallest)) for v in values))
    least = min(medians)
    if least > smallest:
        return above(smallest)
    return below(-smallest) if least < -smallest else max(above(-smallest), below(smallest))


def _needed(values: np.ndarray, same: bool, smallest: float, alpha: float, many: int) -> int | None:
    """For the verdict that the median speaks for, as if the other comparisons said it, too."""
    effect = float(np.median(values))
    deviation = float(values.std(ddof=1)) if np.isfinite(values).all() else math.inf
    for region in ((smallest, math.inf), (-smallest, smallest), (-math.inf, -smallest)):
        if region[0] < effect < region[1]:
            in_all = region[0] == -smallest if same else region[0] == smallest
            return seeds_needed(effect, deviation, region, alpha if in_all else alpha / many)
    return None


# --- other ways to a verdict ---------------------------------------------------------------------


def judged_exactly(found: Sequence[Effects], direction: Direction, smallest: float) -> Judgement:
    """The verdict on numbers without scatter: that of the effect itself, without interval and p. One seed is enough."""
    if found[0].missing:
        return judged(found, direction, smallest)
    if any(max(e.values) - min(e.values) > 1e-6 * max(1.0, abs(e.values[0])) for e in found):
        return not_tested("its numbers are said to be exact, and differ between seeds", found)
    sign = -1.0 if direction == "less" else 1.0
    numbers = [sign * e.values[0] for e in found]
    which = int(np.argmax(np.abs(numbers)) if direction == "same" else np.argmin(numbers))
    verdict = _word(numbers[which], numbers[which], direction == "same", smallest)
    note = f"one of {len(found)} comparisons: {found[which].name}" if len(found) > 1 else ""
    effect, seeds = sign * numbers[which], len(found[0].values)
    return Judgement(verdict, effect, effect, effect, None, seeds, note, "exact", which=which)


def judged_in_looks(
    looks: Sequence[tuple[int, ...]],
    found: Sequence[Effects],
    direction: Direction,
    smallest: float,
    untested: Callable[[Sequence[Effects], Sequence[int]], str | None] = lambda *_: None,
) -> Judgement:
    """The first verdict in a plan that adds seeds; `looks` are the seeds that each look has.

    Each look spends its share of alpha (`shares_of_alpha`), and p is relative to it. Nothing is judged between looks.
    `untested` says of a look's effects and seeds why they test nothing: a verdict, too, which no later one unsays.
    """
    last = None
    for seeds, share in zip(looks, shares_of_alpha([len(seeds) for seeds in looks]), strict=True):
        there = [effects.among(seeds) for effects in found]
        if not all(e.seeds and set(seeds) <= {*e.seeds, *e.spent} for e in there):
            break
        reason = untested(there, seeds)
        last = not_tested(reason, there) if reason else judged(there, direction, smallest, share * ALPHA)
        last = replace(last, p=None if last.p is None else min(1.0, last.p / share), looked=tuple(seeds))
        if last.verdict != "inconclusive":
            break
    count = min(len(effects.values) for effects in found)
    if last is None:
        return Judgement("inconclusive", seeds=count, note=f"{count} seeds: the first look is at {len(looks[0])}")
    look = f"looked at after {last.seeds} seeds, of {len(looks[-1])} at most"
    return replace(last, note="; ".join(filter(None, (look, last.note))))


# --- many claims at once -------------------------------------------------------------------------


def holm_verdicts(judgements: Sequence[Judgement], others: Sequence[float] = ()) -> list[Verdict]:
    """Each verdict, but inconclusive where it does not survive Holm's adjustment among all that were tested, and the p
    values of `others`."""
    tested = [i for i, judgement in enumerate(judgements) if judgement.p is not None]
    adjusted = dict(zip(tested, holm([*(judgements[i].p or 0.0 for i in tested), *others]), strict=False))
    return [
        "inconclusive" if i in adjusted and adjusted[i] >= ALPHA else judgement.verdict
        for i, judgement in enumerate(judgements)
    ]


def totals(verdicts: pd.DataFrame) -> dict[str, float]:
    """Counts of claims.csv: each verdict, those that survive Holm, claims tested, false verdicts to expect at most.

    All false verdicts of one claim together are said with probability alpha at most. A verdict of a table that was
    published with other words counts as none.
    """
    tested = int((verdicts.p.notna()).sum())
    counts: dict[str, float] = {name: int((verdicts.verdict == name).sum()) for name in WORDS}
    for name in DECIDED:
        counts[f"{name} (Holm)"] = int((verdicts.holm_verdict == name).sum())
    return counts | {"tested": tested, "false at most": tested * ALPHA}


def fresh(verdicts: pd.DataFrame) -> pd.DataFrame:
    """The headline: verdicts of rules that stood before any result that they judge was published."""
    return verdicts[verdicts.seen == "no"] if "seen" in verdicts else verdicts[:0]
