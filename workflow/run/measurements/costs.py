"""Floating-point operations of training and sampling: those of one image, times images."""

from trigbench.workflow.run.counts import Counts, counts_of, sampling_evaluations
from trigbench.workflow.run.measurements.measured import Measured, Row
from trigbench.workflow.run.task import opened
from trigbench.workflow.study.records import Value
from trigbench.workflow.study.study import Run, Study


def measure(study: Study, experiment: str) -> Measured:
    """train_flops of every arm's whole training, and sample_flops of every way in which it is sampled."""
    rows, seen = [], dict[str, list[Counts]]()
    for arm in study.arms_of(experiment):
        task = opened(study, Run(arm=arm, seed=0))
        counts = counts_of(task, seen)
        trained = counts.step * task.arm.batch * task.arm.iterations
        rows.append(Row(Value(metric="train_flops", value=trained), arm))
        shown = study.experiments[experiment].samplers or study.samplers_of(arm)[:1]
        for way in (way for way in study.samplings(arm) if way.sampler in shown):
            sampled = counts.evaluation * sampling_evaluations(way, task.arm.told)
            rows.append(Row(Value(metric="sample_flops", value=sampled, **way.columns), arm))
    return Measured(runs=rows)
