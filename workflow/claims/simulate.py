"""How often verdicts are false, and how often they find what is there, by simulation.

Everything is a function of what is given and of a seed; what is given by default takes a few seconds. A verdict is
false where its word is not true of the effect that was drawn from; all kinds of false ones are counted together.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from scipy import stats

from trigbench.workflow.claims.effects import Effects
from trigbench.workflow.claims.intervals import POWER, limits, shares_of_alpha
from trigbench.workflow.claims.verdicts import ALPHA, MIN_SEEDS, Direction, classify

SEEDS = (5, 8, 12, 20, 60)
PLANS = ((8, 12, 20, 30, 60),)
"""Of plans that add seeds, how many each look has."""
SMALLEST = 0.05
"""d of most rules."""
SCATTER = 0.1
"""Standard deviation of a log ratio over seeds, of the studies here."""
DRAWS = 4000
SURE = 0.998
"""How surely a rate lies above ALPHA before it is said not to hold: of so many rows some would by chance."""
Draw = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]
How = Literal["labels", "signs"]
Interim = tuple[int, float]
"""(how many of the first columns it has, its share of alpha)."""

RESIDUALS: Mapping[str, Draw] = {
    "normal": lambda draw, shape: draw.normal(size=shape),
    "lognormal (1)": lambda draw, shape: np.exp(draw.normal(size=shape)) - 1,
    "lognormal (1/2)": lambda draw, shape: np.exp(draw.normal(size=shape) / 2) - 1,
    "t of 2 degrees": lambda draw, shape: draw.standard_t(2, size=shape),
    "Cauchy": lambda draw, shape: draw.standard_cauchy(size=shape),
    "two modes": lambda draw, shape: draw.choice([-1.0, 1.0], size=shape) + 0.3 * draw.normal(size=shape),
}
"""How effects may scatter, with a median of zero."""


@dataclass(frozen=True)
class Rate:
    """How many of some simulated verdicts are false."""

    false: int
    tries: int

    @property
    def share(self) -> float:
        return self.false / self.tries

    def ends(self, level: float = 0.95) -> tuple[float, float]:
        """The interval of Clopper and Pearson: how surely so many draws know the rate."""
        miss = (1 - level) / 2
        low = stats.beta.ppf(miss, self.false, self.tries - self.false + 1) if self.false else 0.0
        high = stats.beta.isf(miss, self.false + 1, self.tries - self.false) if self.false < self.tries else 1.0
        return float(low), float(high)

    @property
    def columns(self) -> dict[str, float | bool]:
        """Of a table: false (the share), low, high, holds."""
        low, high = self.ends()
        return {"false": self.share, "low": low, "high": high, "holds": self.ends(SURE)[0] <= ALPHA}

    def __add__(self, other: "Rate") -> "Rate":
        return Rate(self.false + other.false, self.tries + other.tries)


def planned(counts: Sequence[int]) -> list[Interim]:
    """The looks of a plan with so many seeds each; of a single one, all of alpha."""
    return list(zip(counts, shares_of_alpha(counts), strict=True))


# --- words ---------------------------------------------------------------------------------------


def words_said(
    values: Sequence[np.ndarray],
    direction: Direction,
    smallest: float,
    looks: Sequence[Interim] = (),
    shift: float = 0.0,
) -> np.ndarray:
    """The verdict of every draw, as `verdicts.judged` and `judged_in_looks` have it of one.

    `values` has an array (draws, seeds) for each comparison in which the claim must hold, to all of which `shift` is
    added; without looks there is one, with all seeds.
    """
    said = np.full(len(values[0]), "inconclusive", dtype="<U32")
    for count, share in looks or [(values[0].shape[1], 1.0)]:
        now = _at_one_look([v[:, :count] for v in values], direction, smallest, ALPHA * share, shift)
        said = np.where(said == "inconclusive", now, said)
    return said


def _at_one_look(
    values: list[np.ndarray], direction: Direction, smallest: float, alpha: float, shift: float
) -> np.ndarray:
    sign, many, same = -1.0 if direction == "less" else 1.0, len(values), direction == "same"
    turned: Direction = "same" if same else "more"
    ends = np.array([limits(sign * v, alpha) for v in values]) + sign * shift
    strict = ends if many == 1 else np.array([limits(sign * v, alpha / many) for v in values]) + sign * shift
    low, high = ends[:, 0].min(axis=0), ends[:, 1].max(axis=0) if same else strict[:, 1].min(axis=0)
    said = classify(low, high, turned, smallest)
    if not same or many == 1:
        return said
    outside = (classify(strict[:, 0], strict[:, 1], turned, smallest) == "opposite").any(axis=0)
    return np.where(said == "reproduced", said, np.where(outside, "opposite", "inconclusive"))


def false_of(said: np.ndarray, direction: Direction, smallest: float, truth: float) -> Rate:
    """How many of these words are false where the median effect is `truth`; on a threshold every word is."""
    claimed = -truth if direction == "less" else truth
    small, great, other = abs(claimed) < smallest, claimed > smallest, claimed < -smallest
    holds = {"reproduced": great, "too small to matter": small, "opposite": other}
    if direction == "same":
        holds = {"reproduced": small, "opposite": great or other}
    false = sum(int((said == word).sum()) for word, true in holds.items() if not true)
    return Rate(false, len(said))


# --- false verdicts ------------------------------------------------------------------------------


def false_rates(
    draws: int = DRAWS,
    seeds: Sequence[int] = SEEDS,
    plans: Sequence[Sequence[int]] = PLANS,
    smallest: float = SMALLEST,
    scatter: float = SCATTER,
    seed: int = 0,
) -> pd.DataFrame:
    """How often verdicts are false, at worst over effects at none and just beside d and -d.

    A row for each way in which effects scatter (`scatter` times RESIDUALS), number of seeds or plan of looks, and what
    is asked: residuals, seeds, asked, d, false, low, high (95%), and holds: whether the rate may be ALPHA at most.
    """
    draw, beside, rows = np.random.default_rng(seed), (1 - 1e-9, 1 + 1e-9), []
    great = 4 * smallest
    asked: list[tuple[Direction, float]] = [("more", 0.0), ("more", smallest), ("more", great), ("same", great)]
    sizes: list[tuple[int, ...]] = [*((count,) for count in seeds), *map(tuple, plans)]
    for name, make in RESIDUALS.items():
        for looks in sizes:
            values = [scatter * make(draw, (draws, looks[-1]))]
            for direction, d in asked:
                truths = dict.fromkeys((0.0, *(sign * k * d for sign in (-1, 1) for k in beside)))
                rates = [
                    false_of(words_said(values, direction, d, planned(looks), truth), direction, d, truth)
                    for truth in truths
                ]
                shown = str(looks[0]) if len(looks) == 1 else f"looks at {', '.join(map(str, looks))}"
                about = {"residuals": name, "seeds": shown, "asked": "same" if direction == "same" else "greater"}
                rows.append({**about, "d": d, **max(rates, key=lambda rate: rate.share).columns})
    return pd.DataFrame(rows)


def redrawn(
    found: Sequence[Effects],
    direction: Direction,
    smallest: float,
    how: How,
    draws: int = DRAWS,
    seed: int = 0,
    looks: Sequence[Interim] = (),
) -> Rate | None:
    """False verdicts of a claim's own effects once chance has decided which way each seed points.

    `labels`: in each seed the labels of the two sides are drawn anew, in all comparisons at once, so that the median
    effect is the constant of the rule (none, or the bound that it asks for). `signs`: the sign of each seed's effects
    is, so that it is zero. None where nothing can be drawn: fewer than MIN_SEEDS seeds, numbers that are not finite, no
    scatter, and for `labels` a claim that holds one side against a number.
    """
    values = [np.array(effects.values) for effects in found]
    if min(map(len, values)) < MIN_SEEDS or not all(np.isfinite(v).all() and np.ptp(v) for v in values):
        return None
    if how == "labels" and not all({term.sign for term in e.terms} == {1, -1} for e in found):
        return None
    seeds = sorted({s for effects in found for s in effects.seeds})
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], size=(draws, len(seeds)))
    gaps = values if how == "signs" else [np.subtract(*effects.sides) for effects in found]
    truth = 0.0 if how == "signs" else float(values[0][0] - gaps[0][0])
    drawn = [signs[:, np.isin(seeds, e.seeds)] * gap for e, gap in zip(found, gaps, strict=True)]
    return false_of(words_said(drawn, direction, smallest, looks, truth), direction, smallest, truth)


# --- power ---------------------------------------------------------------------------------------


def power(
    seeds: Sequence[int] = (5, 8, 12, 20, 30, 60),
    beyond: Sequence[float] = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0),
    draws: int = DRAWS,
    seed: int = 0,
) -> pd.DataFrame:
    """How often a verdict is said, of normal residuals, by how far the effect lies beyond the bound.

    A row for each number of seeds and `beyond`, in standard deviations of one seed: seeds, beyond, said (the share).
    """
    return pd.DataFrame(
        [
            {"seeds": count, "beyond": far, "said": float((_reach(count, draws, seed) < far).mean())}
            for count in seeds
            for far in beyond
        ]
    )


def found_with(seeds: int, share: float = POWER, draws: int = DRAWS, seed: int = 0) -> float:
    """How far beyond the bound an effect must lie, in standard deviations of one seed, to be found so often."""
    return float(np.quantile(_reach(seeds, draws, seed), share))


def _reach(seeds: int, draws: int, seed: int) -> np.ndarray:
    """How far below the median each interval of normal effects begins."""
    return -limits(np.random.default_rng(seed).normal(size=(draws, seeds)), ALPHA)[0]


def power_at(
    effect: float, deviation: float, direction: Direction, smallest: float, seeds: int,
    draws: int = DRAWS, seed: int = 0,
) -> dict[str, float]:  # fmt: skip
    """The share of each verdict of one claim, if residuals are normal with that deviation and `effect` is true."""
    values = deviation * np.random.default_rng(seed).normal(size=(draws, seeds))
    said = words_said([values], direction, smallest, shift=effect)
    words, counts = np.unique(said, return_counts=True)
    return {str(word): float(count / draws) for word, count in zip(words, counts, strict=True)}
