"""How often verdicts are false: the level that intervals hold, by how residuals are spread, and how they are chosen.

Tables: the share of intervals that miss what they are of, on either side (2.5% is their level), for the interval that
decides and for those that it was chosen among; how often a verdict is said where it is false, at effects beside the
smallest that matters, with one look and with a plan of several; the same on the published results, with the labels of
the two sides, and the signs of effects, drawn anew in each seed; and how often effects are found. What does not hold is
marked, and the last lines say of each published study whether at most 5% of its verdicts are false.

    python benchmarks/verdicts.py [--publish] [--draws N]
"""

import argparse
import math
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
from scipy import stats

from trigbench._places import ROOT
from trigbench.workflow.claims.deciding import Tables
from trigbench.workflow.claims.intervals import limits, sign_levels
from trigbench.workflow.claims.redrawn import redrawn_claims, redrawn_studies, redrawn_words
from trigbench.workflow.claims.simulate import PLANS, RESIDUALS, SEEDS, false_rates, found_with, power
from trigbench.workflow.claims.tables import CURVE_COLUMNS, read_table
from trigbench.workflow.study.reading import load

ALPHA = 0.05
MEANS = {
    "normal": 0.0, "lognormal (1)": math.exp(0.5) - 1, "lognormal (1/2)": math.exp(0.125) - 1, "t of 2 degrees": 0.0,
    "two modes": 0.0,
}  # fmt: skip
"""Of RESIDUALS, whose medians are zero; Cauchy's has none."""
EARLY = (5, 8, 12, 20, 30, 60)
"""A plan that looks too early, as docs/verdicts.md says."""
RESULTS = ROOT / "results/published"
Ends = tuple[np.ndarray, np.ndarray]


# --- intervals to choose among -------------------------------------------------------------------


def student(values: np.ndarray, alpha: float = ALPHA) -> Ends:
    """Of the mean."""
    half = stats.t.ppf(1 - alpha / 2, values.shape[1] - 1) * values.std(axis=1, ddof=1) / math.sqrt(values.shape[1])
    return values.mean(axis=1) - half, values.mean(axis=1) + half


def johnson(values: np.ndarray, alpha: float = ALPHA) -> Ends:
    """Of the mean, adjusted for skewness (Johnson, JASA 73, 1978)."""
    centred = values - values.mean(axis=1, keepdims=True)
    shift = (centred**3).mean(axis=1) / (6 * values.var(axis=1, ddof=1) * values.shape[1])
    low, high = student(values, alpha)
    return low + shift, high + shift


def bootstrap_t(values: np.ndarray, alpha: float = ALPHA, draws: int = 400) -> Ends:
    """Of the mean, by the bootstrap of its t (Efron, 1979); of the first thousand rows."""
    values, draw = values[:1000], np.random.default_rng(1)
    count, mean = values.shape[1], values.mean(axis=1, keepdims=True)
    error = values.std(axis=1, ddof=1, keepdims=True) / math.sqrt(count)
    picked = values[:, draw.integers(count, size=(draws, count))]
    with np.errstate(divide="ignore", invalid="ignore"):
        t = (picked.mean(axis=2) - mean) / (picked.std(axis=2, ddof=1) / math.sqrt(count))
    low, high = np.nanquantile(t, [alpha / 2, 1 - alpha / 2], axis=1)
    return mean[:, 0] - high * error[:, 0], mean[:, 0] - low * error[:, 0]


def walsh(values: np.ndarray, alpha: float = ALPHA) -> Ends:
    """Of the pseudo-median, by Wilcoxon's signed ranks (Hodges and Lehmann, 1963); none where all signs do not do."""
    count = values.shape[1]
    ways = np.zeros(count * (count + 1) // 2 + 1)
    ways[0] = 1
    for rank in range(1, count + 1):
        ways[rank:] = ways[rank:] + ways[:-rank]
    below = int(np.searchsorted(np.cumsum(ways) / 2.0**count, alpha / 2, side="right")) - 1
    if below < 0:
        return np.full(len(values), -math.inf), np.full(len(values), math.inf)
    first, second = np.triu_indices(count)
    ordered = np.sort((values[:, first] + values[:, second]) / 2, axis=1)
    return ordered[:, below], ordered[:, -1 - below]


def hettmansperger_sheather(values: np.ndarray, alpha: float = ALPHA) -> Ends:
    """Of the median, by order statistics interpolated as of Laplace's distribution (Stat. Prob. Letters 4, 1986)."""
    count, levels = values.shape[1], sign_levels(values.shape[1])
    if alpha < levels[0]:
        return limits(values, alpha)
    below = int(np.searchsorted(levels, alpha, side="right")) - 1
    share = (alpha - levels[below]) / (levels[below + 1] - levels[below])
    k = below + 1
    share = (count - k) * share / (k + (count - 2 * k) * share)
    ordered = np.sort(values, axis=1)
    low = (1 - share) * ordered[:, below] + share * ordered[:, below + 1]
    return low, (1 - share) * ordered[:, -1 - below] + share * ordered[:, -2 - below]


WAYS: dict[str, tuple[Callable[[np.ndarray], Ends], str]] = {
    "decides": (lambda values: limits(values, ALPHA), "median"),
    "Hettmansperger-Sheather": (hettmansperger_sheather, "median"),
    "Wilcoxon": (walsh, "pseudo-median"),
    "Wilcoxon, for the median": (walsh, "median"),
    "Student": (student, "mean"),
    "Johnson": (johnson, "mean"),
    "bootstrap t": (bootstrap_t, "mean"),
}


def levels_held(draws: int) -> Iterator[dict[str, object]]:
    """The share of intervals that lie above, and below, what they are of."""
    draw = np.random.default_rng(0)
    for spread, make in RESIDUALS.items():
        many = make(draw, (2_000_000,))
        pseudo = float(np.median((many[:1_000_000] + many[1_000_000:]) / 2))
        for seeds in SEEDS:
            values = make(draw, (draws, seeds))
            for way, (ends, of) in WAYS.items():
                truth = {"median": 0.0, "mean": MEANS.get(spread, math.nan), "pseudo-median": pseudo}[of]
                if math.isnan(truth):
                    continue
                low, high = ends(values)
                above, below, slack = (low > truth).mean(), (high < truth).mean(), 3 * _error(len(low))
                row: dict[str, object] = {"interval": way, "of": of, "residuals": spread, "seeds": seeds}
                row |= {"above": above, "below": below, "holds": bool(max(above, below) <= ALPHA / 2 + slack)}
                yield row


def _error(count: int) -> float:
    return math.sqrt(ALPHA / 2 * (1 - ALPHA / 2) / count)


# --- verdicts ------------------------------------------------------------------------------------


def published(draws: int) -> pd.DataFrame:
    """False verdicts of every published study's claims, with labels and signs drawn anew in each seed."""
    found = []
    for folder in sorted(path.parent for path in RESULTS.glob("*/runs.csv")):
        curves = folder / "curves.csv"
        points = read_table(curves) if curves.is_file() else pd.DataFrame(columns=CURVE_COLUMNS)
        found.append(redrawn_claims(load(folder.name), Tables(read_table(folder / "runs.csv"), points, ()), draws))
    return pd.concat(found, ignore_index=True)


def powers(draws: int) -> Iterator[dict[str, object]]:
    """How far an effect must lie beyond the bound, in standard deviations of a seed, to be found in 80% of cases."""
    for seeds in (*SEEDS[1:4], 30, 60):
        values = np.random.default_rng(0).normal(size=(draws, seeds))
        row: dict[str, object] = {"seeds": seeds, "decides": found_with(seeds, draws=draws)}
        for way in ("Wilcoxon", "Student"):
            row[way] = -float(np.quantile(WAYS[way][0](values)[0], 0.2))
        yield row


def main() -> None:
    """Print the tables; write them where they are published if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--publish", action="store_true", help="write them to results/published/benchmarks")
    parser.add_argument("--draws", type=int, default=20_000, help="simulations of each number (default: 20000)")
    arguments = parser.parse_args()
    claims = published(arguments.draws // 4)
    tables = {
        "verdict-levels": pd.DataFrame(levels_held(arguments.draws)),
        "verdict-errors": false_rates(arguments.draws, plans=(EARLY, *PLANS)),
        "verdict-redrawn-claims": claims,
        "verdict-redrawn": redrawn_studies(claims),
        "verdict-powers": pd.DataFrame(powers(arguments.draws)),
        "verdict-power": power(draws=arguments.draws),
    }
    for name, table in tables.items():
        print(f"\n{name}\n{table.to_string(index=False, float_format=lambda value: f'{value:.4f}')}")
        if "holds" in table and table.holds.dtype == bool and not table.holds.all():
            print(f"{int((~table.holds).sum())} of {len(table)} do not hold their level")
        if arguments.publish:
            import shared  # noqa: PLC0415 (torch, for which simulating need not wait)

            shared.publish(table, name)
    decides = tables["verdict-levels"].query("interval == 'decides' and not holds")
    lost = [f"{spread} at {seeds} seeds" for spread, seeds in zip(decides.residuals, decides.seeds, strict=True)]
    print(f"\nthe interval that decides does not hold its level for: {'; '.join(lost) or 'none of these'}")
    print(redrawn_words(tables["verdict-redrawn"]))


if __name__ == "__main__":
    main()
