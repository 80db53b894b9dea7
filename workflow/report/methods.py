"""Figures of the pages in docs/methods: what each method reaches in the study that compares them, with sCD beside.

Publishing that study draws them into its published folder, from where the site takes them (.ci/site.py).
"""

from collections.abc import Iterator

import pandas as pd
from matplotlib.figure import Figure

from trigbench.workflow.claims.tables import CURVE_COLUMNS
from trigbench.workflow.report.kinds import kind_of
from trigbench.workflow.study.quantities import quantities_of
from trigbench.workflow.study.study import Study

BESIDE = "scd"
"""What each method stands beside."""
ELSEWHERE = {"pcm": "phases", "pd": "halving"}
"""Experiments in which a method has an arm for each number of steps."""
FIGURE = "method-{}"
"""A figure's name, of its method."""

Frame = pd.DataFrame


def method_figures(study: Study, runs: Frame) -> Iterator[tuple[str, Figure]]:
    """(name, figure) of every method in a study that compares them, by an experiment of its own name; else none.

    `runs` is the study's runs.csv. A method whose runs all failed has none.
    """
    whole = study.study
    if whole not in study.experiments:
        return
    compared = runs[runs.experiment == whole]
    for method in sorted(set(compared.objective.dropna()) - {BESIDE, "data"}):
        own = ELSEWHERE.get(method, whole)
        rows = runs[(runs.experiment == own) & (runs.objective == method)]
        if own in study.experiments and len(rows):
            beside = compared[compared.objective.isin([BESIDE, "data"])]
            yield FIGURE.format(method), _drawn(study, own, pd.concat([rows, beside]))


def _drawn(study: Study, experiment: str, rows: Frame) -> Figure:
    settings, known = study.experiments[experiment], quantities_of(study.data.values())
    kind = kind_of(settings.figure)
    return kind.draw(settings, *kind.shown(settings, rows, pd.DataFrame(columns=CURVE_COLUMNS), known), known)
