"""The kinds of figure, one file each: how it is drawn, what it says, its caption, the axis of its interactive chart.

Adding one is such a file with a KIND, and its line in workflow.study.figures.FIGURES, by which studies name it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure

from trigbench.workflow.claims.statistics import COLUMNS, at_best_guidance
from trigbench.workflow.claims.tables import CURVE_COLUMNS
from trigbench.workflow.machine.named import named
from trigbench.workflow.report.rows import Frame, family, numeric, told_apart
from trigbench.workflow.study.experiment import Experiment
from trigbench.workflow.study.figures import FIGURES
from trigbench.workflow.study.quantities import QUANTITIES, Quantities

SEEDS_SHOWN = "Lines and points are means over seeds, bars and bands span the seeds"
AT_BEST = (
    "Guided samples are at the scale of best mean among those that most seeds have, "
    "chosen afterwards from the same runs, which favours them."
)


def of_families(rows: Frame, swept: pd.Series) -> Frame:
    """The rows with the `family` of each arm: its name without what is swept, such as its N."""
    return rows.assign(family=[family(arm, n) for arm, n in zip(rows.arm, swept, strict=True)])


def by_intervals(rows: Frame) -> Frame:
    """The rows with the `family` of each arm, in which N alone differs."""
    return of_families(rows, rows.intervals)


@dataclass(frozen=True)
class Along:
    """The interactive chart is lines along a column of runs.csv."""

    column: str
    label: str
    log: bool
    keys: tuple[str, ...]
    """Columns that make a line."""
    rows: Callable[[Frame], Frame] = lambda rows: rows
    """The rows that it shows, with the columns that it needs beside those of runs.csv."""
    flat: bool = False
    """Whether rows without a value of the column are lines across the whole chart; else they are left out."""


@dataclass(frozen=True)
class OfCurve:
    """The interactive chart is lines along the x of curves.csv."""

    metric: str | None = None
    """Empty for the experiment's."""


@dataclass(frozen=True)
class Kind:
    """A kind of figure; its rows are those that `shown` leaves of an experiment's runs.csv and curves.csv."""

    draw: Callable[..., Figure]
    """(experiment, runs, curves, quantities) -> figure."""
    say: Callable[..., str]
    """(experiment, runs, curves, quantities) -> what the figure shows, computed from the rows and nothing else."""
    caption: str
    """Below the figure; `{label}` is the experiment's metric, `{seeds}` says what bars and bands are."""
    axis: Along | OfCurve | None = None
    """What the interactive chart goes along; empty for a row of dots for each arm."""
    separate: tuple[str, ...] = ()
    """Columns beside arm and steps by which it tells ways of sampling apart itself."""
    every_scale: bool = False
    """Whether it shows guided samples at every scale, and not at the best one alone."""
    pictured: bool = False
    """Whether pictures of samples stand beside it, as beside the papers' tables of methods."""

    def shown(
        self, experiment: Experiment, runs: Frame, curves: Frame, known: Quantities = QUANTITIES
    ) -> tuple[Frame, Frame]:
        """The rows that figure, charts and finding show: guided samples at their best scale, unless at every one."""
        runs, curves = numeric(runs.reindex(columns=COLUMNS)), numeric(curves.reindex(columns=CURVE_COLUMNS))
        if not self.every_scale:
            runs = at_best_guidance(runs, experiment.metric, known)
        parts = [at_best_guidance(part, metric, known) for metric, part in curves.groupby("metric", sort=False)]
        curves = pd.concat(parts) if parts else curves
        return told_apart(runs, self.separate), told_apart(curves, self.separate)

    def captioned(self, label: str) -> str:
        """The caption, with the label of the experiment's metric."""
        return self.caption.format(label=label, seeds=SEEDS_SHOWN)


def kind_of(name: str) -> Kind:
    """The kind of that name, one of workflow.study.figures.FIGURES; its file is imported now."""
    return named(FIGURES[name].path)
