"""CM's search for middle times, by the study's own distance, and the result on noise that it did not see."""

import math

import torch
from torch import nn

from trigbench.core.samplers.consistency import sample_consistency
from trigbench.core.samplers.noise import noise_of_samples
from trigbench.core.samplers.search import greedy_times
from trigbench.core.schedules import largest_angle
from trigbench.workflow.data.dataset import not_numbers
from trigbench.workflow.data.randomness import generator, seed_globals
from trigbench.workflow.run.assembly import boundary_of, student_field
from trigbench.workflow.run.batches import mapped
from trigbench.workflow.run.measurements.measured import Measured, Row
from trigbench.workflow.run.measurements.trained import trained
from trigbench.workflow.run.noise import condition_of_samples
from trigbench.workflow.run.task import Task, opened
from trigbench.workflow.run.weights import Tensors
from trigbench.workflow.study.kinds import kind_module
from trigbench.workflow.study.records import Value
from trigbench.workflow.study.study import Study

MIDDLE_TIMES = 2
LOW, HIGH, WIDTH = 0.2, 1.54, 0.05


def measure(study: Study, experiment: str) -> Measured:
    """`found_mid_time` (steps: which), and the experiment's metric at the found times on other noise.

    Both are None where samples, or what is measured of them, are not numbers.
    """
    rows = []
    for run in study.runs_of(experiment):
        task = opened(study, run)
        if (left := trained(task)) is not None:
            rows += _search(task, *left, study.experiments[experiment].metric)
    return Measured(runs=rows)


def _search(task: Task, network: nn.Module, weights: Tensors, metric: str) -> list[Row]:
    study, run, dataset, device = task.study, task.run, task.data, task.device
    kind = kind_module(study.data[task.arm.data])
    count, seed = study.evaluation.samples, study.evaluation.noise_seed(run.seed)
    condition = mapped(lambda part: part.to(device), condition_of_samples(range(count), dataset))
    field = student_field(task, network, weights, condition)

    boundary = boundary_of(task.arm, study.sigma_d)

    def score(times, purpose: str = "search") -> float:
        generators = [generator(seed, purpose, row) for row in range(count)]
        noise = noise_of_samples(generators, len(times) + 1, dataset.shape).to(device)
        seed_globals(seed, purpose)
        with torch.no_grad():
            samples = sample_consistency(field, noise, [largest_angle(study.sigma_d), *times], boundary)
        found = None if not_numbers(samples) else kind.judge_samples(dataset, samples.cpu(), wanted=[metric])[metric]
        return found if found is not None and math.isfinite(found) else math.inf  # NaN would steer the search

    found = greedy_times(score, MIDDLE_TIMES, LOW, HIGH, WIDTH)
    rows = []
    for middles in range(1, MIDDLE_TIMES + 1):
        times, steps = found[:middles], middles + 1
        at = times if math.isfinite(score(times)) else None  # no number led there
        judged = score(at, "found") if at else math.inf
        about = {"steps": steps, "sampler": "search", "mid_time": at[0] if at else None, "times": at}
        rows.append(Row(Value(metric="found_mid_time", value=at[-1] if at else None, steps=steps), run.arm, run.seed))
        value = judged if math.isfinite(judged) else None
        rows.append(Row(Value(metric=metric, value=value, **about), run.arm, run.seed))
    return rows
