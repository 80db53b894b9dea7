"""A rate chosen among three, say, on seeds that no figure shows."""

import math

from trigbench.workflow.errors import BenchError
from trigbench.workflow.study.quantities import quantities_of
from trigbench.workflow.study.rating import ratings
from trigbench.workflow.study.records import read_record
from trigbench.workflow.study.schema import Arm
from trigbench.workflow.study.study import Run, Study


def tuned(study: Study, run: Run) -> Arm:
    """The run's arm, with the rate of its best candidate where it has candidates.

    Best is the mean of the study's tuning metric over the tuning seeds, at the arm's `rate_steps`; a
    diverged candidate is never best, and where all diverged the arm keeps its own rate. Raises
    BenchError when a candidate has no record, or one without that metric.
    """
    arm = study.arms[run.arm]
    candidates = study.candidates(run.arm)
    if not candidates:
        return arm
    scores = {name: _score(study, name, arm.rate_steps) for name in candidates}
    best = min(scores, key=lambda name: scores[name])
    return arm.model_copy(update={"rate": study.arms[best].rate}) if math.isfinite(scores[best]) else arm


def _score(study: Study, arm: str, steps: int | None) -> float:
    """Lower is better; infinite for a diverged run."""
    known = quantities_of([study.data[study.arms[arm].data]])
    sign = -1 if known[study.tuning_metric].better == "higher" else 1
    values = []
    for seed in study.tuning_seeds:
        found = ratings(study, read_record(study.files(Run(arm=arm, seed=seed)).metrics), steps)
        if not found:
            problem = f"{arm} has no {study.tuning_metric} to choose a rate by"
            raise BenchError(
                problem, file=study.file, key="tuning_metric", remedy="name one that its data's judge knows"
            )
        values.append(math.inf if found[0] is None else sign * found[0])
    return sum(values) / len(values)
