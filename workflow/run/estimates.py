"""What a study will take before anybody spends it: operations counted, seconds of steps measured, bytes.

Neither data nor weights need be there: images may be noise of the right shape. Operations of a large network are
counted at three small widths; they, and parameters, are polynomials of second degree in the width, so that
what follows for the full width is exact.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from trigbench.core.condition import Condition
from trigbench.core.fields import bind
from trigbench.core.solvers import SOLVERS
from trigbench.workflow.data.dataset import Dataset
from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine import checkpoints
from trigbench.workflow.machine.devices import products
from trigbench.workflow.run.assembly import Modules, make_modules, make_network, step_function
from trigbench.workflow.run.operations import Operations
from trigbench.workflow.run.task import Task, open_teacher
from trigbench.workflow.run.weights import kept_of
from trigbench.workflow.study.kinds import known_of
from trigbench.workflow.study.schema import Arm, Size
from trigbench.workflow.study.study import Run, Sampling, Study

WIDTHS = (16, 32, 64)
"""At which operations are counted; a network that is no wider is counted as it is. All suit groups and heads."""
TIMED_WIDTH = 32
COUNTED = 2
"""Images in a counted step."""
LARGEST_BATCH = 64
"""Images in a measured step on a GPU, of an arm without microbatch."""
MEASURED = 8
"""The same on a CPU."""
LARGEST_MEASURED = 4e11
"""Operations of a measured step, some seconds of a core; a dearer one is timed at TIMED_WIDTH."""
BYTES = 4


@dataclass(frozen=True)
class Cost:
    """Of an arm, all its seeds together."""

    arm: str
    runs: int
    parameters: int
    train_operations: float
    other_operations: float
    """Of sampling, of snapshots, and of the norms of the tangent."""
    measured_rate: float | None
    """Operations a second of its training on this machine; None where nothing was timed."""
    narrowed: bool
    """Whether that was timed on a narrower network."""
    kept_bytes: float
    """Weights, snapshots and samples."""
    working_bytes: float
    """Checkpoints and parts of samples while a run is made, which go when it is judged."""

    @property
    def operations(self) -> float:
        return self.train_operations + self.other_operations


@dataclass(frozen=True)
class Counts:
    """What one image takes."""

    step: float
    """Operations of a training step."""
    evaluation: float
    """Operations of the network, once."""
    parameters: float
    trained: float
    """Of the network's parameters, or of its adapter's."""


def costs_of(study: Study, judged: int, measure: bool = True) -> list[Cost]:
    """The cost of every arm that some experiment needs, in the study's order.

    `judged` is how often a run's network is evaluated to be judged, beside sampling.
    """
    runs, seen, rates = study.runs(), dict[str, list[Counts]](), dict[str, float]()
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
    """Hours of one process of this machine; None where nothing was timed.

    >>> machine_hours(Cost("a", 1, 0, 3.0e13, 0.6e13, 1.0e10, False, 0, 0))
    1.0
    """
    return cost.operations / cost.measured_rate / 3600 if cost.measured_rate else None


def sampling_evaluations(way: Sampling, told: Sequence[str] = ()) -> int:
    """Evaluations of the network for one sample; a diffusion model that is guided is evaluated twice each time, and one
    that is `told` its scale is not."""
    guided = way.guidance is not None and way.solver in SOLVERS and "scale" not in told
    return way.steps * (2 if guided else 1)


def without_data(study: Study, arm: str) -> Task:
    """An arm's task on data that need not be there."""
    settings = study.arms[arm]
    return Task(study, Run(arm=arm, seed=0), settings, stand_in(study, settings.data))


def stand_in(study: Study, data: str) -> Dataset:
    """A data set of the right shape and classes whose images are noise."""
    shape, classes = shape_of(study, data)

    def draw(g: torch.Generator, batch: int) -> tuple[Tensor, Condition]:
        labels = torch.randint(classes, (batch,), generator=g) if classes else None
        return torch.randn(batch, *shape, generator=g), Condition(labels)

    return Dataset(shape, classes, draw, lambda x, t: x, {})


def shape_of(study: Study, data: str) -> tuple[tuple[int, ...], int]:
    """(shape, classes that networks are told) of a data set that need not be there. Raises BenchError for one's own."""
    known = known_of(study.data[data])
    if known.shape is not None and known.classes is not None:
        return known.shape, known.classes
    if known.shape is not None:
        remedy = "say how many classes the data have"
        raise BenchError(
            "the number of classes is not given", file=study.file, key=f"data.{data}.classes", remedy=remedy
        )
    problem = f"only its own module knows the shape of {data!r}"
    raise BenchError(problem, file=study.file, key=f"data.{data}", remedy="estimate a study of a built-in kind of data")


def counts_of(task: Task, seen: dict[str, list[Counts]] | None = None) -> Counts:
    """What one image takes in an arm; `seen` keeps what was counted for arms that differ in width or numbers alone."""
    width = _width(task)
    if width is None or width <= WIDTHS[-1]:
        return _count(task)
    seen = {} if seen is None else seen
    key = _key(task)
    if key not in seen:
        seen[key] = [_count(_narrowed(task, small)) for small in WIDTHS]
    through = lambda value: quadratic(WIDTHS, [value(counts) for counts in seen[key]], width)  # noqa: E731
    of_all = (lambda c: c.step, lambda c: c.evaluation, lambda c: c.parameters, lambda c: c.trained)
    return Counts(*map(through, of_all))


def quadratic(places: Sequence[float], values: Sequence[float], at: float) -> float:
    """The parabola through three points, at another place.

    >>> quadratic((1, 2, 3), (6.0, 11.0, 18.0), 10)  # x^2 + 2 x + 3
    123.0
    """
    total = 0.0
    for i, (place, value) in enumerate(zip(places, values, strict=True)):
        others = [other for j, other in enumerate(places) if j != i]
        weight = 1.0
        for other in others:
            weight *= (at - other) / (place - other)
        total += weight * value
    return total


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
        measured_rate=None,
        narrowed=False,
        kept_bytes=BYTES * runs * (counts.parameters * (1 + snapshots) + adapter + drawn),
        working_bytes=BYTES * (checkpoints.KEPT * states + drawn),
    )


def _count(task: Task) -> Counts:
    """Counted on a step of two images, on the CPU, where torch has a formula of all that runs."""
    task = replace(task, study=task.study.model_copy(update={"device": "cpu"}))
    step, modules = _prepared(task, COUNTED)
    network = modules.student
    with Operations() as training:
        step(1)
    labels = torch.zeros(COUNTED, dtype=torch.long) if task.data.classes else None
    condition = Condition(labels, **{name: torch.ones(COUNTED) for name in task.arm.told})
    with Operations() as once, torch.no_grad():
        bind(network, condition=condition)(torch.zeros(COUNTED, *task.data.shape), torch.ones(COUNTED))
    parameters, trained = (sum(p.numel() for p in of) for of in (network.parameters(), modules.own().values()))
    return Counts(training.total / COUNTED, once.total / COUNTED, parameters, trained)


def _timed(task: Task, cost: Cost, counts: Counts, rates: dict[str, float]) -> Cost:
    """The cost with its rate; arms that differ in numbers alone are timed once."""
    batch = min(task.arm.batch, task.arm.microbatch or LARGEST_BATCH)
    width = _width(task)
    if not torch.cuda.is_available():
        batch = min(batch, MEASURED)
    dear = not torch.cuda.is_available() and counts.step * batch > LARGEST_MEASURED
    narrowed = dear and width is not None and width > TIMED_WIDTH
    key = f"{_key(task)} {task.arm.precision} {batch} {TIMED_WIDTH if narrowed else width}"
    if key not in rates:
        timed = _narrowed(task, TIMED_WIDTH) if narrowed else task
        operations = _count(timed).step if narrowed else counts.step
        rates[key] = operations * batch / _seconds_of_a_step(timed, batch)
    return replace(cost, measured_rate=rates[key], narrowed=narrowed)


def _seconds_of_a_step(task: Task, batch: int) -> float:
    """Of the second of two steps."""
    step, _ = _prepared(task, batch)
    seconds = 0.0
    for number in (1, 2):  # the first warms up
        started = time.monotonic()
        with products(task.device, task.arm.tf32):
            step(number)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds = time.monotonic() - started
    return seconds


def _prepared(task: Task, batch: int) -> tuple[Callable[[int], Any], Modules]:
    """(a step's gradient by its number, what is trained) of a task at another batch, without weights."""
    task = replace(task, arm=task.arm.model_copy(update={"batch": batch}))
    modules = make_modules(task, start=None)
    taught, weak = (
        None if run is None else kept_of(make_network(task.of_arm(run.arm)))  # any weights cost the same
        for run in (task.study.teacher_run(task.run), task.study.weak_run(task.run))
    )
    task = replace(task, teacher=open_teacher(task) if taught is None else taught, weak=weak)
    objective, weights = step_function(task, modules), list(modules.parameters().values())

    def step(number: int) -> Any:
        with modules.adapted():
            return torch.autograd.grad(objective(number, {}).loss, weights, materialize_grads=True)

    return step, modules


def _width(task: Task) -> int | None:
    size = task.study.sizes[task.arm.size]
    found = size.settings.get("width") if size.network else size.width
    return found if isinstance(found, int) else None


def _narrowed(task: Task, width: int) -> Task:
    """The task with its network, and that of its teacher, at another width."""
    study, names = task.study, [task.arm.size]
    taught = map(str, (task.arm.teacher, task.arm.weak_teacher))
    names += [study.arms[arm].size for arm in taught if arm in study.arms]
    sizes = {name: _at_width(study.sizes[name], width) for name in names}
    return replace(task, study=study.model_copy(update={"sizes": {**study.sizes, **sizes}}))


def _at_width(size: Size, width: int) -> Size:
    if size.network is None:
        return size.model_copy(update={"width": width})
    return size.model_copy(update={"settings": {**size.settings, "width": width}})


def _key(task: Task) -> str:
    """What operations depend on beside the width."""
    study, settings = task.study, task.arm

    def network(of: Arm) -> Mapping[str, Any]:
        size = _at_width(study.sizes[of.size], 0)
        plain = {key: value for key, value in size.settings.items() if key != "dropout"}
        return size.model_copy(update={"settings": plain}).model_dump()

    taught = [study.arms.get(str(arm)) for arm in (settings.teacher, settings.weak_teacher)]
    kept = ("objective", "told", "adaptive_weight", "solver", "tangent_method", "control", "adapter")
    about = {key: getattr(settings, key) for key in kept} | {"guided": settings.guidance_max is not None}
    about |= {"file": study.teacher_file(task.run.arm), "own": settings.settings}  # any of them may add evaluations
    networks = [network(settings), *(network(teacher) if teacher else None for teacher in taught)]
    return json.dumps([about, networks, task.data.shape, task.data.classes], default=str)
