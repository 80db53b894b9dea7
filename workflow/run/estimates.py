"""What a study will take before anybody spends it: operations counted, seconds of steps measured, bytes."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch

from trigbench.core import ema
from trigbench.core.optimiser import adam_step, initial_state
from trigbench.workflow.machine import checkpoints
from trigbench.workflow.machine.devices import products
from trigbench.workflow.run.assembly import Modules
from trigbench.workflow.run.counts import (
    COUNTED,
    Counts,
    count,
    counts_of,
    evaluation_of,
    in_width,
    key_of,
    prepared,
    sampling_evaluations,
    width_of,
    without_data,
)
from trigbench.workflow.run.sampling import BATCH
from trigbench.workflow.run.task import Task
from trigbench.workflow.study.schema import Arm
from trigbench.workflow.study.study import Study

TIMED_WIDTH = 32
LARGEST_BATCH = 64
"""Images in a measured step on a GPU, of an arm without microbatch; more where they are no more than ENOUGH."""
MEASURED = 8
"""The same on a CPU."""
ENOUGH = 2e10
"""Operations beside which what a call costs whatever its size, most of a small network's step, is small."""
LARGEST_MEASURED = 4e11
"""Operations of a measured step, some seconds of a core; a dearer one is timed at TIMED_WIDTH."""
LONG_ENOUGH, MOST_TIMES = 0.2, 8
"""Seconds, and times, after which nothing is timed again."""
BESIDE = 5.7
"""Seconds of a run in which its network does nothing: to start, and to judge the samples of a small study; alone
on a core 4 of `oracle` and 8 of `digits`, less .2 and .4 for the norms of the tangent, which are counted."""
BYTES = 4


@dataclass(frozen=True)
class Rates:
    """Operations a second of one process of this machine."""

    training: float
    evaluation: float
    """Of the network as samples are drawn by it, in more images at once and without a gradient."""


@dataclass(frozen=True)
class Cost:
    """Of an arm, all its seeds together."""

    arm: str
    runs: int
    parameters: int
    train_operations: float
    other_operations: float
    """Of sampling, of snapshots, and of the norms of the tangent."""
    rates: Rates | None
    """None where nothing was timed, or nothing counted."""
    narrowed: bool
    """Whether these were timed on a narrower network."""
    kept_bytes: float
    """Weights, snapshots and samples."""
    working_bytes: float
    """Checkpoints and parts of samples while a run is made, which go when it is judged."""

    @property
    def operations(self) -> float:
        return self.train_operations + self.other_operations


def costs_of(study: Study, judged: int, measure: bool = True) -> list[Cost]:
    """The cost of every arm that some experiment needs, in the study's order.

    `judged` is how often a run's network is evaluated to be judged, beside sampling.
    """
    runs, seen, rates = study.runs(), dict[str, list[Counts]](), dict[str, Rates]()
    costs = []
    for arm in dict.fromkeys(run.arm for run in runs):
        task = without_data(study, arm)
        counts = counts_of(task, seen)
        cost = _cost(task, counts, sum(run.arm == arm for run in runs), judged)
        costs.append(_timed(task, cost, counts, rates) if measure else cost)
    return costs


def device_hours(cost: Cost, tflops: float, utilisation: float) -> float:
    """Hours of one device that does `utilisation` of `tflops` 10^12 operations a second.

    >>> cost = Cost("a", 1, 0, 3.0e18, 0.6e18, None, False, 0, 0)
    >>> device_hours(cost, tflops=1000, utilisation=0.25)
    4.0
    """
    return cost.operations / (tflops * 1e12 * utilisation) / 3600


def machine_hours(cost: Cost) -> float | None:
    """Hours of one process of this machine, alone on its core; None where nothing was timed.

    >>> machine_hours(Cost("a", 100, 0, 2.43e13, 0.6e13, Rates(1.0e10, 1.0e10), False, 0, 0))
    1.0
    """
    if cost.rates is None:
        return None
    seconds = cost.train_operations / cost.rates.training + cost.other_operations / cost.rates.evaluation
    return (seconds + BESIDE * cost.runs) / 3600


def _cost(task: Task, counts: Counts, runs: int, judged: int) -> Cost:
    study, settings, arm = task.study, task.arm, task.run.arm
    samplings, samples = study.samplings(arm), study.evaluation.samples
    main = [way for way in samplings if way.sampler == study.samplers_of(arm)[0]]
    snapshots = settings.snapshots or 0
    each, of_main = (sum(sampling_evaluations(way, settings.told) for way in ways) for ways in (samplings, main))
    evaluations = samples * each + (0 if settings.told else judged)
    evaluations += snapshots * (study.evaluation.snapshot_samples or samples) * of_main
    numbers = torch.Size(task.data.shape).numel()
    # parameters, average and two moments; a fake has no average; snapshots so far stand in every checkpoint
    states = (4 + bool(settings.target_decay)) * counts.trained
    states += (3 * settings.method.fake + snapshots) * counts.parameters
    adapter = counts.trained if settings.adapter else 0
    drawn = float(numbers) * samples * len(samplings)
    return Cost(
        arm=arm,
        runs=runs,
        parameters=round(counts.parameters),
        train_operations=float(runs * settings.iterations * settings.batch) * counts.step,
        other_operations=float(runs * evaluations) * counts.evaluation,
        rates=None,
        narrowed=False,
        kept_bytes=BYTES * runs * (counts.parameters * (1 + snapshots) + adapter + drawn),
        working_bytes=BYTES * (checkpoints.KEPT * states + drawn),
    )


def _timed(task: Task, cost: Cost, counts: Counts, rates: dict[str, Rates]) -> Cost:
    """The cost with its rates; arms that differ in numbers alone are timed once."""
    if not counts.evaluation:  # a network without a product
        return cost
    rows, width = _rows(task.arm, counts), width_of(task)
    dear = not torch.cuda.is_available() and counts.step * rows > LARGEST_MEASURED
    narrowed = dear and width is not None and width > TIMED_WIDTH
    key = f"{key_of(task)} {task.arm.precision} {task.arm.batch} {rows} {TIMED_WIDTH if narrowed else width}"
    if key not in rates:
        timed = in_width(task, TIMED_WIDTH) if narrowed else task
        each = count(timed) if narrowed else counts
        drawn = max(COUNTED, min(BATCH, _few(each.evaluation)))
        step, modules = prepared(timed, rows)
        evaluate = evaluation_of(timed, modules, drawn)
        parts = task.arm.batch / rows
        seconds = parts * _seconds(task, lambda: step(1)) + _seconds(task, _updating(step(1), modules))
        rates[key] = Rates(each.step * task.arm.batch / seconds, each.evaluation * drawn / _seconds(task, evaluate))
    return replace(cost, rates=rates[key], narrowed=narrowed)


def _updating(gradients: Any, modules: Modules) -> Callable[[], None]:
    """What a step does once a batch of however many parts: of the optimiser and the average, at the same weights."""
    weights = {name: p.detach().clone() for name, p in modules.parameters().items()}
    moments, given = initial_state(weights), dict(zip(weights, gradients, strict=True))

    def update() -> None:
        adam_step(weights, given, moments, 0.0)
        ema.update(weights, weights, 0.5)

    return update


def _rows(arm: Arm, counts: Counts) -> int:
    """Images in a measured step: all that an arm's has at once, but for those beyond what is ENOUGH."""
    part = min(arm.batch, arm.microbatch or arm.batch)
    fewest = (arm.microbatch or LARGEST_BATCH) if torch.cuda.is_available() else MEASURED
    rows = min(part, max(fewest, _few(counts.step)))
    return max(rows - rows % arm.compared, arm.compared)


def _few(operations: float) -> int:
    """As many images as are ENOUGH, of so many operations each."""
    return int(ENOUGH / max(operations, 1.0))


def _seconds(task: Task, timed: Callable[[], Any]) -> float:
    """What it takes at the median after a first time, which warms up; of the processor, so that it does not matter what
    else the machine does, or of a GPU."""
    on_gpu = task.device.type == "cuda"
    clock = time.monotonic if on_gpu else time.process_time
    taken: list[float] = []
    while len(taken) < 2 or (sum(taken) < LONG_ENOUGH and len(taken) < MOST_TIMES):
        started = clock()
        with products(task.device, task.arm.tf32):
            timed()
        if on_gpu:
            torch.cuda.synchronize(task.device)
        taken.append(clock() - started)
    return max(statistics.median(taken[1:]), 1e-9)
