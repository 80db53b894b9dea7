"""How often verdicts are false: the level that intervals hold, by how residuals are spread, and how they are chosen.

Three tables: the share of intervals that miss what they are of, on either side (2.5% is their level), for the interval
that decides and for those that it was chosen among; how often a verdict is said where it is false, at effects beside
the smallest that matters, with one look and with plans of several, and on the published results with labels shuffled
within each seed (which flips the signs of effects); and the effect that is found in four cases of five. What does not
hold is marked.

    python benchmarks/verdicts.py [--publish] [--draws N]
"""

import argparse
import json
import math
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
from scipy import stats

from trigbench._places import ROOT
from trigbench.workflow.claims.effects import comparisons
from trigbench.workflow.claims.intervals import limits, shares_of_alpha, sign_levels
from trigbench.workflow.claims.ledger import read_claims, resolved
from trigbench.workflow.claims.tables import CURVE_COLUMNS, read_table
from trigbench.workflow.claims.verdicts import classify
from trigbench.workflow.study.reading import load

ALPHA, SEEDS, PLANS = 0.05, (5, 8, 12, 20, 60), ((5, 8, 12, 20, 30, 60), (8, 12, 20, 30, 60))
SMALLEST = 0.05
"""d of most rules."""
SCATTER = 0.1
"""Standard deviation of a log ratio over seeds, of the studies here."""
PUBLISHED = ROOT / "results/published/benchmarks"
Draw = Callable[[tuple[int, ...]], np.ndarray]
Ends = tuple[np.ndarray, np.ndarray]


def residuals(draw: np.random.Generator) -> dict[str, tuple[Draw, float, float]]:
    """(how they are drawn, their median, their mean) by name."""
    return {
        "normal": (lambda shape: draw.normal(size=shape), 0.0, 0.0),
        "lognormal (1)": (lambda shape: np.exp(draw.normal(size=shape)), 1.0, math.exp(0.5)),
        "lognormal (1/2)": (lambda shape: np.exp(draw.normal(size=shape) / 2), 1.0, math.exp(0.125)),
        "t of 2 degrees": (lambda shape: draw.standard_t(2, size=shape), 0.0, 0.0),
        "Cauchy": (lambda shape: draw.standard_cauchy(size=shape), 0.0, math.nan),
        "two modes": (
            lambda shape: draw.choice([-1.0, 1.0], size=shape) + 0.3 * draw.normal(size=shape), 0.0, 0.0,
        ),
    }  # fmt: skip


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
    for spread, (make, median, mean) in residuals(draw).items():
        many = make((2_000_000,))
        pseudo = float(np.median((many[:1_000_000] + many[1_000_000:]) / 2))
        for seeds in SEEDS:
            values = make((draws, seeds))
            for way, (ends, of) in WAYS.items():
                truth = {"median": median, "mean": mean, "pseudo-median": pseudo}[of]
                if math.isnan(truth):
                    continue
                low, high = ends(values)
                above, below, slack = (low > truth).mean(), (high < truth).mean(), 3 * _error(len(low))
                about = {"interval": way, "of": of, "residuals": spread, "seeds": seeds, "above": above, "below": below}
                yield about | {"holds": bool(max(above, below) <= ALPHA / 2 + slack)}


def _error(count: int) -> float:
    return math.sqrt(ALPHA / 2 * (1 - ALPHA / 2) / count)


# --- verdicts ------------------------------------------------------------------------------------


def false_verdicts(draws: int) -> Iterator[dict[str, object]]:
    """How often verdicts are false, of all kinds together: the most over effects at none and just beside d and -d."""
    draw, beside = np.random.default_rng(0), (1 - 1e-9, 1 + 1e-9)
    for spread, (make, median, _) in residuals(draw).items():
        for seeds in (*SEEDS, *PLANS):
            values = SCATTER * (make((draws, seeds if isinstance(seeds, int) else seeds[-1])) - median)
            shown = str(seeds) if isinstance(seeds, int) else f"looks at {', '.join(map(str, seeds))}"
            for asked, d in (("more", 0.0), ("more", SMALLEST), ("more", 4 * SMALLEST), ("same", 4 * SMALLEST)):
                truths = (0.0, *(sign * k * d for sign in (-1, 1) for k in beside))
                share = max(_false(_said(values + truth, asked, d, seeds), asked, d, truth) for truth in truths)
                about = {"asked": f"{WORD[asked]}, d = {d:g}", "residuals": spread, "seeds": shown}
                yield about | {"false": share, "holds": bool(share <= ALPHA + 3 * _error(draws) * math.sqrt(2))}


WORD = {"more": "greater", "same": "same"}


def _said(values: np.ndarray, asked: str, d: float, seeds: int | tuple[int, ...]) -> np.ndarray:
    """The verdict of each row, in a plan that of its first look which decides."""
    if isinstance(seeds, int):
        return classify(*limits(values, ALPHA), asked, d)  # pyright: ignore[reportArgumentType]
    said = np.full(len(values), "inconclusive", dtype="<U32")
    for look, share in zip(seeds, shares_of_alpha(seeds), strict=True):
        now = classify(*limits(values[:, :look], ALPHA * share), asked, d)  # pyright: ignore[reportArgumentType]
        said = np.where(said == "inconclusive", now, said)
    return said


def _false(said: np.ndarray, asked: str, d: float, truth: float) -> float:
    """The share of verdicts that are false of a true effect."""
    small, great, other = abs(truth) < d, truth > d, truth < -d
    holds = {"reproduced": great, "too small to matter": small, "opposite": other}
    if asked == "same":
        holds = {"reproduced": small, "opposite": great or other}
    return float(sum((said == word).mean() for word, true in holds.items() if not true))


def shuffled(study: str, draws: int) -> Iterator[dict[str, object]]:
    """False verdicts on a study's published results with the labels of the two sides drawn anew in each seed: by each
    rule's own d, and as if it were 0."""
    folder = ROOT / "results/published" / study
    if not (folder / "runs.csv").is_file():
        return
    whole, runs = load(study), read_table(folder / "runs.csv")
    curves = folder / "curves.csv"
    points = read_table(curves) if curves.is_file() else pd.DataFrame(columns=CURVE_COLUMNS)
    draw, false, seeds = np.random.default_rng(0), dict[str, list[float]](), set[int]()
    for claim in read_claims().claims.values():
        rule = claim.decided_by.get(study)
        for found in () if rule is None else comparisons(resolved(rule, whole.arms_of(rule.experiment)), runs, points):
            values, gap = np.array(found.values), np.subtract(*found.sides) if found.values else np.array([])
            if rule is None or len(values) < 3 or not np.isfinite(values).all() or np.ptp(values) == 0:
                continue
            sign, constant = -1.0 if rule.direction == "less" else 1.0, float(values[0] - gap[0])
            asked, seeds = "same" if rule.direction == "same" else "more", {*seeds, len(values)}
            drawn = sign * (constant + draw.choice([-1.0, 1.0], size=(draws // 10, len(values))) * gap)
            said = _said(drawn, asked, rule.smallest, len(values))
            false.setdefault("as each rule has it", []).append(_false(said, asked, rule.smallest, sign * constant))
            none = _said(drawn - sign * constant, "more", 0.0, len(values))
            false.setdefault("greater, d = 0", []).append(_false(none, "more", 0.0, 0.0))
    for asked, shares in false.items():
        shown = "-".join(map(str, sorted({min(seeds), max(seeds)})))
        about = {"asked": asked, "residuals": f"{study}, labels shuffled ({len(shares)})", "seeds": shown}
        yield about | {"false": float(np.mean(shares)), "holds": bool(np.mean(shares) <= ALPHA)}


def powers(draws: int) -> Iterator[dict[str, object]]:
    """How far an effect must lie beyond the bound, in standard deviations of a seed, to be found in 80% of cases."""
    draw = np.random.default_rng(0)
    for seeds in (*SEEDS[1:4], 30, 60):
        values = draw.normal(size=(draws, seeds))
        row: dict[str, object] = {"seeds": seeds}
        for way in ("decides", "Wilcoxon", "Student"):
            row[way] = -float(np.quantile(WAYS[way][0](values)[0], 0.2))
        yield row


def main() -> None:
    """Print the tables; write them where they are published if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--publish", action="store_true", help=f"write them to {PUBLISHED.relative_to(ROOT)}")
    parser.add_argument("--draws", type=int, default=20_000, help="simulations of each number (default: 20000)")
    arguments = parser.parse_args()
    labels = [row for study in ("oracle", "digits") for row in shuffled(study, arguments.draws)]
    tables = {
        "verdict-levels": pd.DataFrame(levels_held(arguments.draws)),
        "verdict-errors": pd.DataFrame([*false_verdicts(arguments.draws), *labels]),
        "verdict-powers": pd.DataFrame(powers(arguments.draws)),
    }
    for name, table in tables.items():
        print(f"\n{name}\n{table.to_string(index=False, float_format=lambda value: f'{value:.4f}')}")
        if "holds" in table and not table.holds.all():
            print(f"{int((~table.holds).sum())} of {len(table)} do not hold their level")
        if arguments.publish:
            table.to_csv(PUBLISHED / f"{name}.csv", index=False, float_format="%.5g")
    decides = tables["verdict-levels"].query("interval == 'decides' and not holds")
    print(f"\nof the interval that decides: {json.dumps(decides[['residuals', 'seeds']].to_dict('records'))}")


if __name__ == "__main__":
    main()
