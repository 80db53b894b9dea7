"""Rows of runs.csv and curves.csv: which ones are shown, which make one line, how they are named."""

import fnmatch
import re
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from trigbench.core.objectives import OBJECTIVES
from trigbench.workflow.claims.statistics import COLUMNS, SAMPLING
from trigbench.workflow.claims.tables import CURVE_COLUMNS
from trigbench.workflow.study.experiment import Experiment
from trigbench.workflow.study.records import REAL

NUMBERS = ("intervals", "steps", "guidance", "seed", "value", "parameters", "mid_time", "x")
"""Columns of either table that hold numbers."""
TEACHERS = frozenset(name for name, method in OBJECTIVES.items() if method.teaches)
"""Objectives of models that teach others: their steps are evaluations of a solver."""
Frame = pd.DataFrame


def results(runs: Frame, *metrics: str) -> Frame:
    """Rows of runs.csv of these metrics, real data left out; every column there, numbers as numbers."""
    rows = numeric(runs.reindex(columns=COLUMNS))
    return rows[rows.metric.isin(metrics) & (rows.objective != REAL)]


def told_apart(rows: Frame, separate: Sequence[str] = ()) -> Frame:
    """The rows; where an arm is sampled in several ways with equal steps, all but the first are named after the way.

    `scd` of the study's sampler `few` and `scd by mine` of its `mine` are two settings, as two arms are, and
    `scd at [1.1, 0.05]` is another one than `scd` with other middle angles. `separate` are columns by which they
    are told apart already.
    """
    columns = ["arm", *SAMPLING]
    sampled = rows[rows.steps.notna() & (rows.sampler.notna() | rows.sampling.notna())]
    ways = sampled[columns].astype(object).drop_duplicates().to_dict("records")
    place = ("arm", "steps", *separate)
    first: dict[tuple, str | None] = {}
    beside = set()
    for way in ways:
        name = _known(way["sampling"]) or way["sampler"]
        if first.setdefault(tuple(map(_known, (way[c] for c in place))), name) != name:
            beside.add((way["arm"], name))
    names, taken = dict[tuple, str](), dict[tuple, tuple]()
    for way in ways:
        name = _known(way["sampling"]) or way["sampler"]
        label = f"{way['arm']} by {name}" if (way["arm"], name) in beside else way["arm"]
        angles = _known(way["times"]) or _known(way["mid_time"])
        there = (label, *(_known(way[c]) for c in place[1:]))
        if taken.setdefault(there, angles) != angles:
            label = f"{label} at {angles or 'no middle angle'}"
        names[tuple(_known(way[c]) for c in columns)] = label
    told = (tuple(map(_known, way)) for way in rows[columns].astype(object).itertuples(index=False))
    return rows.assign(arm=[names.get(way, way[0]) for way in told]) if set(names.values()) - set(rows.arm) else rows


def _known(value: object) -> object:
    """None for a number or name that is not there."""
    return None if pd.isna(value) else value  # pyright: ignore[reportArgumentType, reportCallIssue, reportGeneralTypeIssues]


def arm_of(shown: str) -> str:
    """The arm of the study whose rows `told_apart` calls so; no arm's name holds a space.

    >>> arm_of("scd by mine at [1.1, 0.8]")
    'scd'
    """
    return str(shown).split(" ", 1)[0]


def family(arm: str, intervals: float = float("nan"), size: object = None) -> str:
    """The arm's name without its N (or the number of its segments), and without its size.

    >>> family("dscd-64-fp32", 64.0), family("scd-fp32"), family("scd-xl by mine", size="xl")
    ('dscd-fp32', 'scd-fp32', 'scd by mine')
    """
    parts = [] if pd.isna(intervals) else [f"{intervals:.0f}"]
    for part in (*parts, *([] if _known(size) is None else [re.escape(str(size))])):
        arm = re.sub(rf"-{part}(?=[- ]|$)", "", str(arm), count=1)
    return str(arm)


def lines(rows: Frame, keys: list[str], along: str) -> Iterator[tuple[tuple, str, Frame]]:
    """(values of the keys, words, rows) of each line along a column.

    Arms that differ in what the keys do not say, and so would be one line with several values of one seed at one
    place, have a line each; the words name it.
    """
    for key, group in rows.groupby(keys, sort=False, dropna=False):
        if not group.duplicated([along, "seed"]).any():
            yield key, "", group
            continue
        apart = [family(a, n, s) for a, n, s in zip(group.arm, group.intervals, group["size"], strict=True)]
        for own, part in group.groupby(np.array(apart, object), sort=False):
            if part.duplicated([along, "seed"]).any():  # a family of several intervals at one place
                yield from ((key, f", {arm}", alone) for arm, alone in part.groupby("arm", sort=False))
            else:
                yield key, f", {own}", part


def first_way(rows: Frame) -> Frame:
    """Of each arm's rows those of its first way of sampling: its main one."""
    first = dict[str, tuple]()
    ways = (tuple(map(_known, way)) for way in rows[["arm", *SAMPLING]].astype(object).itertuples(index=False))
    return rows.loc[np.array([first.setdefault(str(way[0]), way) == way for way in ways], bool)]


def taught_by(rows: Frame) -> pd.Series:
    """The arm of each row's teacher, of a teacher itself; where none is named, the diffusion arm of its size.

    Of stages it is that of the first, whatever a stage taught in between.
    """
    teachers = rows[rows.objective.isin(TEACHERS)].drop_duplicates("size")
    by_size = dict(zip(teachers["size"], teachers.arm, strict=True))
    students = rows[~rows.objective.isin(TEACHERS)]
    taught = dict(zip(students.arm.map(arm_of), students.teacher, strict=True))

    def first(teacher: object) -> object:
        while teacher in taught:
            teacher = taught[teacher]
        return teacher

    named = rows.teacher.map(first)
    named = named.mask(named == "exact")
    every = rows.arm.astype(object).where(rows.objective.isin(TEACHERS), named)  # where nobody teaches, it is unknown
    return every.fillna(rows["size"].map(by_size))


def evaluations(rows: Frame) -> pd.Series:
    """Of the network for one sample: a guided diffusion model is evaluated with and without its label."""
    return rows.steps * (1 + (rows.objective.isin(TEACHERS) & rows.guidance.notna()))


def in_order(experiment: Experiment, rows: Frame) -> Frame:
    """Rows with their arms as the experiment lists them: its first is what the others are held against."""

    def place(arm: str) -> int:
        fits = [i for i, pattern in enumerate(experiment.arms) if fnmatch.fnmatchcase(arm_of(arm), pattern)]
        return min(fits, default=len(experiment.arms))

    return rows.sort_values("arm", key=lambda arms: arms.map(place), kind="stable")


def points(curves: Frame, *metrics: str) -> Frame:
    """Rows of curves.csv of these metrics; what is not finite is no value."""
    rows = numeric(curves.reindex(columns=CURVE_COLUMNS))
    return rows[rows.metric.isin(metrics)]


def numeric(rows: Frame) -> Frame:
    """The same with floats, where a table of few rows has none or objects."""
    return rows.assign(**{c: pd.to_numeric(rows[c]).astype(float) for c in NUMBERS if c in rows})


def is_lost(rows: Frame) -> pd.Series:
    """Whether a row has no value: its run diverged."""
    lost = ~np.isfinite(rows.value)
    return lost | (rows.status == "diverged") if "status" in rows else lost


def steps_label(count: float, objective: str = "") -> str:
    """`2 steps`, or `35 evaluations` of a teacher's solver."""
    unit = "evaluation" if objective in TEACHERS else "step"
    return f"{count:.0f} {unit}{'' if count == 1 else 's'}"
