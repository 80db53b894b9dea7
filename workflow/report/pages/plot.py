"""Where effects lie: every seed a dot, every comparison a row with its interval, between the smallest that matters."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from trigbench.workflow.report.pages.common import SYMBOLS
from trigbench.workflow.report.pages.rules import Content, effect
from trigbench.workflow.study.quantities import QUANTITIES

HEAD, ROW, NAMED = 24, 34, 48
"""Heights in pixels: of the regions' words, of a row, and of one with its name above it."""
LETTER = 1.05
"""Percent of the width that a letter takes, where regions have their words."""


@dataclass(frozen=True)
class Band:
    """A region of effects, which an interval that lies in it gives its word."""

    left: float
    width: float
    verdict: str
    word: str
    """Empty where there is no room for it."""

    @property
    def kind(self) -> str:
        """Its class in the style sheet."""
        return self.verdict.replace(" ", "-")


@dataclass(frozen=True)
class PlotRow:
    """One comparison, or all of them together; places are in percent of the width."""

    name: str
    top: float
    """In pixels."""
    seeds: list[float]
    mean: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Plot:
    """Rows on one axis; places across are in percent of its width, those down in pixels."""

    bands: list[Band]
    zero: float
    bounds: list[float]
    """The smallest effect that matters, on both sides of zero."""
    rows: list[PlotRow]
    ticks: list[tuple[float, str]]
    foot: float
    """Where the axis lies."""

    @property
    def height(self) -> float:
        return self.foot + 26


def plot_of(claim: Content) -> Plot:
    """Of a claim with a finite interval: the rows that its verdict rests on, and last, of several, what it says."""
    smallest, scale, several = claim["smallest_effect"], claim["scale"], claim.get("compared") or []
    said = {
        "name": "all together" if several else "",
        "median": claim["effect"],
        "low": claim["low"],
        "high": claim["high"],
    }
    rows = [*several, {**said, "effects": {} if several else claim["effects"]}]
    numbers = [n for row in rows for n in (*row["effects"].values(), row["median"], row["low"], row["high"])]
    marks = [*filter(_is_number, numbers), 0.0, -smallest, smallest]
    margin = 0.08 * ((max(marks) - min(marks)) or 1.0)
    left, right = min(marks) - margin, max(marks) + margin

    def place(value: float) -> float:
        return round(100 * (value - left) / (right - left), 2)

    def placed(value: float | None) -> float | None:
        return place(value) if value is not None and math.isfinite(value) else None

    tall = NAMED if several else ROW
    drawn = [
        PlotRow(
            _named(row["name"], claim.get("labels") or {}), float(HEAD + tall * rank),
            [at for value in row["effects"].values() if (at := placed(value)) is not None],
            placed(row["median"]), placed(row["low"]), placed(row["high"]),
        )
        for rank, row in enumerate(rows)
    ]  # fmt: skip
    low, high = place(-smallest), place(smallest)
    return Plot(
        bands=_bands(claim["direction"], low, high), zero=place(0.0), bounds=list(dict.fromkeys((low, high))),
        rows=drawn,
        ticks=[(place(value), effect(value, scale)) for value in _ticks(left, right, scale)],
        foot=float(HEAD + tall * len(rows) + 6),
    )  # fmt: skip


def _named(name: str, labels: Mapping[str, str]) -> str:
    """What is compared, with a metric by its label."""
    known = {**{metric: quantity.title for metric, quantity in QUANTITIES.items()}, **labels}
    return "; ".join(known.get(part, part) for part in name.split("; "))


def _bands(direction: str, low: float, high: float) -> list[Band]:
    verdicts = {
        "less": ("reproduced", "too small to matter", "opposite"),
        "more": ("opposite", "too small to matter", "reproduced"),
        "same": ("opposite", "reproduced", "opposite"),
    }[direction]
    found = []
    for verdict, (left, right) in zip(verdicts, pairwise((0.0, low, high, 100.0)), strict=True):
        fits = right - left > LETTER * (len(verdict) + 3)
        if right > left:
            word = f"{SYMBOLS[verdict]} {verdict}" if fits else ""
            found.append(Band(left, round(right - left, 2), verdict, word))
    return found


def _is_number(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


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
