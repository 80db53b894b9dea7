"""Figures of the pages in docs/methods: what each method reaches in the study that compares them, its first arm beside.

Publishing that study draws them into its published folder, from where the site takes them (.ci/site.py).
"""

from collections.abc import Iterator

import pandas as pd
from matplotlib.figure import Figure

from trigbench.workflow.claims.tables import CURVE_COLUMNS
from trigbench.workflow.report.kinds import kind_of
from trigbench.workflow.report.rows import Frame
from trigbench.workflow.study.quantities import quantities_of
from trigbench.workflow.study.study import Study

FIGURE = "method-{}"
"""A figure's name, of its method."""


def method_figures(study: Study, runs: Frame) -> Iterator[tuple[str, Figure]]:
    """(name, figure) of every method in a study that compares them, by an experiment of its own name; else none.

    `runs` is the study's runs.csv. A method whose runs all failed has none.
    """
    whole = study.study
    if whole not in study.experiments:
        return
    compared = runs[runs.experiment == whole]
    first = [study.arms[study.arms_of(whole)[0]].objective, "data"]
    for method in sorted(set(compared.objective.dropna()) - set(first)):
        own = _experiment_of(study, method)
        rows = runs[(runs.experiment == own) & (runs.objective == method)]
        if len(rows):
            beside = compared[compared.objective.isin(first)]
            yield FIGURE.format(method), _drawn(study, own, pd.concat([rows, beside]))


def _experiment_of(study: Study, method: str) -> str:
    """The one, drawn as that of all methods, with most arms of this one for so many steps each; else that of all."""
    whole = study.experiments[study.study]
    counts = {study.study: 1}
    for name, settings in study.experiments.items():
        if (settings.figure, settings.metric) == (whole.figure, whole.metric):
            arms = [study.arms[arm] for arm in study.arms_of(name) if study.arms[arm].objective == method]
            counts[name] = max(counts.get(name, 0), len({arm.segments for arm in arms}))
    return max(counts, key=lambda name: counts[name])


def _drawn(study: Study, experiment: str, rows: Frame) -> Figure:
    settings, known = study.experiments[experiment], quantities_of(study.data.values())
    kind = kind_of(settings.figure)
    return kind.draw(settings, *kind.shown(settings, rows, pd.DataFrame(columns=CURVE_COLUMNS), known), known)
