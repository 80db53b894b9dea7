"""What one image takes in an arm: operations of a step and of the network, and parameters.

Neither data nor weights need be there: images may be noise of the right shape. Operations of a large network are
counted at three small widths; they, and parameters, are polynomials of second degree in the width, so that
what follows for the full width is exact.
"""

import json
import math
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
from trigbench.workflow.run.assembly import Modules, make_modules, make_network, step_function
from trigbench.workflow.run.operations import Operations
from trigbench.workflow.run.task import Task, open_teacher
from trigbench.workflow.run.weights import kept_of
from trigbench.workflow.study.kinds import known_of
from trigbench.workflow.study.schema import Arm, Size
from trigbench.workflow.study.study import Run, Sampling, Study

WIDTHS = (16, 32, 64)
"""At which operations are counted; a network that is no wider is counted as it is. All suit groups and heads."""
COUNTED = 2
"""Images in a counted step; more where an objective compares more rows with each other."""


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
    """A data set of the right shape and classes whose images, and what is observed, are noise."""
    (shape, classes), seen = shape_of(study, data), known_of(study.data[data]).observed

    def draw(g: torch.Generator, batch: int) -> tuple[Tensor, Condition]:
        labels = torch.randint(classes, (batch,), generator=g) if classes else None
        observed = None if seen is None else torch.randn(batch, *seen, generator=g)
        return torch.randn(batch, *shape, generator=g), Condition(labels, observation=observed)

    return Dataset(shape, classes, draw, lambda x, t: x, {}, observed=None if seen is None else torch.zeros(1, *seen))


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
    width, seen = width_of(task), {} if seen is None else seen
    key = key_of(task)
    if width is None or width <= WIDTHS[-1]:
        key += f" {width}"
        seen[key] = seen.get(key) or [count(task)]
        return seen[key][0]
    if key not in seen:
        seen[key] = [count(in_width(task, small)) for small in WIDTHS]
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


def count(task: Task) -> Counts:
    """Counted on a step of two images, or of as many as are compared, on the CPU, where torch has a formula of all that
    runs."""
    task = replace(task, study=task.study.model_copy(update={"device": "cpu"}))
    rows = math.ceil(COUNTED / task.arm.compared) * task.arm.compared
    step, modules = prepared(task, rows)
    with Operations() as training:
        step(1)
    with Operations() as once:
        evaluation_of(task, modules, COUNTED)()
    parameters, trained = (sum(p.numel() for p in of) for of in (modules.student.parameters(), modules.own().values()))
    return Counts(training.total / rows, once.total / COUNTED, parameters, trained)


def evaluation_of(task: Task, modules: Modules, rows: int) -> Callable[[], Any]:
    """The network once, of so many images."""
    device, told = task.device, task.arm.told
    labels = torch.zeros(rows, dtype=torch.long, device=device) if task.data.classes else None
    seen = task.data.observed_shape
    observed = None if seen is None else torch.zeros(rows, *seen, device=device)
    condition = Condition(labels, observation=observed, **{name: torch.ones(rows, device=device) for name in told})
    field = bind(modules.student, condition=condition)
    x, t = torch.zeros(rows, *task.data.shape, device=device), torch.ones(rows, device=device)
    return lambda: torch.no_grad()(field)(x, t)


def prepared(task: Task, batch: int) -> tuple[Callable[[int], Any], Modules]:
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


def width_of(task: Task) -> int | None:
    """Of the arm's network; None where it has no such setting."""
    size = task.study.sizes[task.arm.size]
    found = size.settings.get("width") if size.network else size.width
    return found if isinstance(found, int) else None


def in_width(task: Task, width: int) -> Task:
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


def key_of(task: Task) -> str:
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
    return json.dumps([about, networks, task.data.shape, task.data.classes, task.data.observed_shape], default=str)
