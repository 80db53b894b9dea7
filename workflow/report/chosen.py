"""A few samples of every run, chosen beforehand, for what is heard or seen to move of them."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from trigbench.workflow.data.files.drawing import AGAIN
from trigbench.workflow.machine.files import read_arrays
from trigbench.workflow.report.pictures import samples_of
from trigbench.workflow.report.rows import steps_label
from trigbench.workflow.study.kinds import DataKind, data_kind
from trigbench.workflow.study.study import Run, Study


def shown_of(study: Study, runs: Sequence[Run], way: Callable[[DataKind], Callable[[Any], Any] | None]) -> Any:
    """How the first run's data show samples that way, by their prepared arrays; None where they do not."""
    data = study.arms[runs[0].arm].data if runs else None
    kind = None if data is None else way(data_kind(study.data[data]))
    return None if data is None or kind is None else kind(read_arrays(study.data_file(data), AGAIN))


def few_samples(study: Study, runs: Sequence[Run], rows: Sequence[int]) -> Iterator[tuple[str, np.ndarray]]:
    """(run and number of steps, its samples of these rows) on the first one's data; none that are no numbers."""
    for run in (run for run in runs if study.arms[run.arm].data == study.arms[runs[0].arm].data):
        for count, samples in samples_of(study, run):
            few = samples[[row for row in rows if row < len(samples)]]
            if len(few) == len(rows) and np.isfinite(few).all():
                yield f"{run.arm}, {steps_label(count, study.arms[run.arm].objective)}", few
