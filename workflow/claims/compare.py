"""What differs between two sets of results: verdicts, means, and what they were made with.

Means are held against each other by Welch's t over seeds, with Benjamini and Hochberg's adjustment over all of them: of
the differences that are found, 5% at most are expected to be none; where nothing differs, any is found once in 20
times. Numbers that agree in every digit need no test, and no test is made of one seed, of numbers that no seed changes,
or of runs that diverged.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from trigbench.workflow.claims.result_sets import Results, ResultSet
from trigbench.workflow.claims.statistics import SAMPLING
from trigbench.workflow.claims.tables import COSTS, LATER
from trigbench.workflow.claims.verdicts import ALPHA

METHOD = "Welch's t, with Benjamini and Hochberg's adjustment"
SETTING = ("study", "data", "arm", "metric", *SAMPLING)
"""What a mean is of."""
SAME, FOUND, UNSURE, ALONE, FIXED, DIVERGED = "same", "differs", "within noise", "one seed", "fixed", "diverged"
"""Outcomes: equal in every digit; found by the tests, or not; and without a test."""
TESTED = (FOUND, UNSURE)
TOPICS: Mapping[str, tuple[str, ...]] = {
    "seeds": ("budget", "seeds", "seeds_of", "runs", "runs_missing", "runs_diverged"),
    "code": ("commits", "releases", "sources", "dirty"),
    "versions": ("python", "libraries", "cuda"),
    "hardware": ("processor", "cores", "device", "platform", "steps"),
    "settings": ("settings",),
    "protocol": ("protocols",),
}
"""What provenance.json says, by what it is about."""
WORDS = frozenset({"title", "summary", "question", "expectation", "paper", "claims", "study", "budget"})
"""Settings that decide no number of a run."""
SECTIONS = ("data", "sizes", "arms", "samplers", "experiments")
"""Settings that name parts of a study."""
NAMED = 3
"""So many parts with the same change are named; of more, the number is."""


@dataclass(frozen=True)
class Difference:
    """One thing that both sets say, otherwise; None where one says nothing."""

    study: str
    topic: str
    name: str
    first: str | None
    second: str | None


@dataclass(frozen=True)
class Comparison:
    """All that differs from the first set to the second."""

    first: ResultSet
    second: ResultSet
    identical: tuple[str, ...]
    """Files of the same bits in both, as `<study>/<file>`."""
    verdicts: pd.DataFrame
    """A row for each claim of both: see `compare_verdicts`."""
    claims_only: tuple[list[str], list[str]]
    means: pd.DataFrame
    """A row for each mean of both: see `compare_means`."""
    means_only: tuple[pd.DataFrame, pd.DataFrame]
    """Settings (without seeds) that one set has alone."""
    untold: int
    """Means left out, as the older table does not tell their settings apart."""
    studies_only: tuple[list[str], list[str]]
    changes: tuple[Difference, ...]
    runs_alike: tuple[int, int]
    """Runs of both with the same fingerprint, and with any."""

    @property
    def verdicts_changed(self) -> pd.DataFrame:
        return self.verdicts[self.verdicts.verdict_first != self.verdicts.verdict_second]

    @property
    def two_studies(self) -> tuple[str, str] | None:
        """Their names, where two sets of one study each are not of the same."""
        names = [name for side in (self.first, self.second) for name in side.studies]
        return (names[0], names[1]) if len(names) == 2 and names[0] != names[1] else None

    @property
    def tested(self) -> int:
        """How many means were tested, which the adjustment counts."""
        return int(self.means.outcome.isin(TESTED).sum())

    def of(self, outcome: str) -> pd.DataFrame:
        """The means of that outcome."""
        return self.means[self.means.outcome == outcome]


def compare(first: ResultSet, second: ResultSet) -> Comparison:
    """What differs. Two sets of one study each are held against each other whatever these are called."""
    pairs = _pairs(first, second)
    means, means_only, untold = compare_means(*(_together([pair[i].runs for pair in pairs], pairs) for i in (0, 1)))
    verdicts, claims_only = compare_verdicts(*(_together([pair[i].verdicts for pair in pairs], pairs) for i in (0, 1)))
    alike = [_alike(a.origin, b.origin) for a, b in pairs]
    names = [a.study for a, _ in pairs], [b.study for _, b in pairs]
    return Comparison(
        first=first,
        second=second,
        identical=tuple(name for a, b in pairs for name in _identical(a, b)),
        verdicts=verdicts,
        claims_only=claims_only,
        means=means,
        means_only=means_only,
        untold=untold,
        studies_only=(
            [name for name in first.studies if name not in names[0]],
            [name for name in second.studies if name not in names[1]],
        ),
        changes=tuple(change for a, b in pairs for change in changes(a.study, a.origin, b.origin)),
        runs_alike=(sum(same for same, _ in alike), sum(both for _, both in alike)),
    )


def _pairs(first: ResultSet, second: ResultSet) -> list[tuple[Results, Results]]:
    if len(first.studies) == len(second.studies) == 1:
        return [(*first.studies.values(), *second.studies.values())]
    return [(found, second.studies[name]) for name, found in first.studies.items() if name in second.studies]


def _identical(first: Results, second: Results) -> list[str]:
    return [f"{first.study}/{file}" for file, digest in first.digests.items() if second.digests.get(file) == digest]


def _together(tables: list[pd.DataFrame], pairs: list[tuple[Results, Results]]) -> pd.DataFrame:
    named = [table.assign(study=a.study) for table, (a, _) in zip(tables, pairs, strict=True) if len(table)]
    return pd.concat(named, ignore_index=True) if named else pd.DataFrame(columns=["study"])


# --- means ----------------------------------------------------------------------------------------


def compare_means(
    first: pd.DataFrame, second: pd.DataFrame
) -> tuple[pd.DataFrame, tuple[pd.DataFrame, pd.DataFrame], int]:
    """(means of both, settings that one alone has, means left out) of two tables of runs.

    Of both: the SETTING as text, mean_, sd_, seeds_ and diverged_ with `first` and `second`, the difference (second
    less first) with its 95% interval, `p`, `adjusted`, and the outcome; the surest differences first.
    """
    keys = [key for key in SETTING if key not in LATER or all(_says(table, key) for table in (first, second))]
    plain, untold = zip(*(_plain(table, keys) for table in (first, second)), strict=True)
    sums = [_summed(table, keys) for table in plain]
    both = sums[0].merge(sums[1], on=keys, how="outer", suffixes=("_first", "_second"), indicator=True)
    doubled = {key for table in untold for key in table}
    left_out = both[keys].apply(tuple, axis=1).isin(doubled) if len(both) else both[keys[0]].astype(bool)
    both = both[~left_out]
    alone = [both.loc[both._merge == side, keys].reset_index(drop=True) for side in ("left_only", "right_only")]
    both = both[both._merge == "both"].drop(columns="_merge").merge(_equal(*plain, keys), on=keys, how="left")
    tested = _tested(both.reindex(columns=[*both.columns, *(key for key in SETTING if key not in keys)], fill_value=""))
    return tested, (alone[0], alone[1]), int(left_out.sum())


def _says(table: pd.DataFrame, column: str) -> bool:
    return column in table and bool(table[column].notna().any())


def _plain(table: pd.DataFrame, keys: list[str]) -> tuple[pd.DataFrame, set[tuple[str, ...]]]:
    """(a row for each setting and seed, whatever experiment asked for it; settings with two values for a seed)."""
    known = table.reindex(columns=list(dict.fromkeys([*keys, "seed", "value", "status"])))
    known = known[~known.metric.isin(COSTS)]  # no two machines agree in these
    text = known[keys].map(_text).astype(str)
    rows = text.assign(seed=known.seed.map(_text), value=known.value.astype(float), status=known.status)
    rows = rows.drop_duplicates([*keys, "seed", "value"])
    twice = rows[rows.duplicated([*keys, "seed"])]
    return rows, set(twice[keys].itertuples(index=False, name=None))


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None or np.isnan(value) else f"{value:.9g}"


def _summed(rows: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    lost = (rows.status == "diverged") | ~np.isfinite(rows.value)
    finite = rows.assign(value=rows.value.mask(lost), lost=lost)
    groups = finite.groupby(keys, sort=False, as_index=False)
    return groups.agg(mean=("value", "mean"), sd=("value", "std"), seeds=("seed", "size"), diverged=("lost", "sum"))


def _equal(first: pd.DataFrame, second: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """How many seeds have the same value in both, in every digit that is written."""
    pairs = first.merge(second, on=[*keys, "seed"], suffixes=("_first", "_second"))
    same = (pairs.value_first == pairs.value_second) | (pairs.value_first.isna() & pairs.value_second.isna())
    return pairs.assign(equal=same).groupby(keys, sort=False, as_index=False).agg(equal=("equal", "sum"))


def _tested(both: pd.DataFrame) -> pd.DataFrame:
    count = both[["seeds_first", "seeds_second"]].to_numpy(float)
    spread = both[["sd_first", "sd_second"]].to_numpy(float)
    same = (both.equal.to_numpy(float) == count[:, 0]) & (count[:, 0] == count[:, 1])
    lost = (both[["diverged_first", "diverged_second"]].to_numpy(float) > 0).any(1)
    alone, fixed = (count < 2).any(1), (spread == 0).all(1)
    about = np.select([same, lost, alone, fixed], [SAME, DIVERGED, ALONE, FIXED], "tested")
    difference = (both.mean_second - both.mean_first).mask(about == DIVERGED).to_numpy(float)
    tested = about == "tested"
    low, high, p, adjusted = (np.full(len(both), np.nan) for _ in range(4))
    low[tested], high[tested], p[tested] = welch(difference[tested], spread[tested], count[tested])
    adjusted[tested] = adjusted_for_many(p[tested])
    outcome = np.where(tested, np.where(adjusted < ALPHA, FOUND, UNSURE), about)
    found = {"difference": difference, "low": low, "high": high, "p": p, "adjusted": adjusted, "outcome": outcome}
    return both.assign(**found).sort_values("p", kind="stable", ignore_index=True)


def welch(difference: np.ndarray, spread: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(low, high, p) of differences of means by Welch's t, each from two standard deviations and numbers of seeds.

    `spread` and `count` have a column for each side. NaN where there is no test: one seed, or no spread at all.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = spread**2 / count
        error = np.sqrt(parts.sum(1))
        freedom = parts.sum(1) ** 2 / (parts**2 / (count - 1)).sum(1)
        p = 2 * stats.t.sf(np.abs(difference) / error, freedom)
        half = stats.t.ppf(0.975, freedom) * error
    return difference - half, difference + half, p


def adjusted_for_many(p: np.ndarray) -> np.ndarray:
    """Benjamini and Hochberg's adjusted p values: of those below ALPHA that share is expected to be false at most."""
    return stats.false_discovery_control(p, method="bh") if len(p) else p


# --- verdicts -------------------------------------------------------------------------------------


def compare_verdicts(first: pd.DataFrame, second: pd.DataFrame) -> tuple[pd.DataFrame, tuple[list[str], list[str]]]:
    """(claims of both, with verdict_, effect_, low_, high_ and seeds_ of each and `rule_changed`; claims of one)."""
    keys, judged = ["study", "claim"], ["verdict", "effect", "low", "high", "seeds"]
    rule = ["experiment", "smallest_effect", "direction", "scale"]
    columns = [*keys, "paper", "place", *judged, *rule]
    ours, theirs = (table.reindex(columns=columns) for table in (first, second))
    names = [list(zip(table.study, table.claim, strict=True)) for table in (ours, theirs)]
    only = [[claim for study, claim in own if (study, claim) not in set(other)] for own, other in (names, names[::-1])]
    both = ours.merge(theirs, on=keys, suffixes=("_first", "_second"))
    changed = [(both[f"{c}_first"].map(_text) != both[f"{c}_second"].map(_text)) for c in rule]
    both = both.assign(rule_changed=np.logical_or.reduce(changed), paper=both.paper_second, place=both.place_second)
    kept = [*keys, "paper", "place", *(f"{c}_{side}" for c in judged for side in ("first", "second")), "rule_changed"]
    return both[kept], (only[0], only[1])


# --- what they were made with ---------------------------------------------------------------------


def changes(study: str, first: Mapping[str, Any], second: Mapping[str, Any]) -> Iterator[Difference]:
    """What two provenances say otherwise; what holds for several arms or experiments alike is one change."""
    for topic, names in TOPICS.items():
        ours, theirs = ({name: origin.get(name) for name in names} for origin in (first, second))
        if topic == "settings":
            yield from _sections(study, ours["settings"] or {}, theirs["settings"] or {})
        flat = [_flat(_shared(side, other)) for side, other in ((ours, theirs), (theirs, ours))]
        alike: dict[tuple, list[tuple[str, ...]]] = {}
        for path in dict.fromkeys([*flat[0], *flat[1]]):
            old, new = (side.get(path) for side in flat)
            if old != new:
                alike.setdefault((_family(path), _shown(old), _shown(new)), []).append(path)
        for (_, old, new), paths in alike.items():
            yield Difference(study, topic, _name(paths), old, new)


def _sections(study: str, first: Mapping[str, Any], second: Mapping[str, Any]) -> Iterator[Difference]:
    """Arms, experiments, sizes, ... that one side alone has."""
    for name in SECTIONS:
        ours, theirs = (side.get(name) or {} for side in (first, second))
        only = [", ".join(key for key in side if key not in other) for side, other in ((ours, theirs), (theirs, ours))]
        if any(only):
            yield Difference(study, "settings", f"{name} of one alone", only[0] or None, only[1] or None)


def _shared(content: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Without what `_sections` says."""
    ours, theirs = content.get("settings") or {}, other.get("settings") or {}
    kept = {
        name: {key: v for key, v in part.items() if key in (theirs.get(name) or {})} if name in SECTIONS else part
        for name, part in ours.items()
    }
    return {**content, **({"settings": kept} if "settings" in content else {})}


def _flat(content: Mapping[str, Any], above: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """The leaves of nested mappings by their paths; a list of one is that one."""
    found: dict[tuple[str, ...], Any] = {}
    for name, value in content.items():
        path = (*above, str(name))
        whole = value[0] if isinstance(value, list) and len(value) == 1 else value
        if path[0] == "settings" and (name in WORDS or path == ("settings", "seeds")):
            continue
        if isinstance(whole, Mapping) and whole:
            found |= _flat(whole, path)
        elif whole not in (None, {}, []):
            found[path] = whole
    return found


def _family(path: tuple[str, ...]) -> tuple[str, ...]:
    """The path with a star for the name of the arm, experiment, data set, ..."""
    return (path[0], path[1], "*", *path[3:]) if path[0] == "settings" and len(path) > 3 else path


def _name(paths: list[tuple[str, ...]]) -> str:
    family = ".".join(part for part in _family(paths[0]) if part != "settings")
    if "*" not in _family(paths[0]):
        return family
    names = [path[2] for path in paths]
    said = ", ".join(names) if len(names) <= NAMED else str(len(names))
    return family.replace("*", said if len(names) == 1 else f"({said})", 1)


def _shown(value: Any) -> str | None:
    if value is None:
        return None
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _alike(first: Mapping[str, Any], second: Mapping[str, Any]) -> tuple[int, int]:
    ours, theirs = (origin.get("fingerprints") or {} for origin in (first, second))
    both = [run for run in ours if run in theirs]
    return sum(ours[run] == theirs[run] for run in both), len(both)
