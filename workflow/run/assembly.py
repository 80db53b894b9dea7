"""What an arm is made of: its networks, the fields they are bound to, its settings and its draws.

The one place where a study's words become the core's values.
"""

import dataclasses
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from trigbench.core.condition import UNTOLD, Condition, takes_condition
from trigbench.core.constants import SIGMA_MIN
from trigbench.core.conversions import field_with_boundary
from trigbench.core.fields import Fields, Jump, bind
from trigbench.core.guidance import guided
from trigbench.core.networks.dropout import masks, number_layers
from trigbench.core.networks.log_weight import LogWeight
from trigbench.core.networks.mlp import ResidualMLP
from trigbench.core.objectives.regression import Regression
from trigbench.core.tangents import Apart
from trigbench.core.trigflow import Field
from trigbench.workflow.data.dataset import Dataset, checked
from trigbench.workflow.data.randomness import seed_globals, seeded
from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine.devices import device_of, on
from trigbench.workflow.machine.files import read_arrays
from trigbench.workflow.machine.named import named, takes
from trigbench.workflow.machine.tensors import read_tensors
from trigbench.workflow.run.batches import Batch, draw_batch, mapped
from trigbench.workflow.run.settings import settings_of
from trigbench.workflow.run.task import Task
from trigbench.workflow.run.weights import Tensors, buffers_of, difference, kept_of, put, unkept
from trigbench.workflow.study.converted import OPENED_BY
from trigbench.workflow.study.kinds import draws_module, is_own
from trigbench.workflow.study.schema import Arm, ConvertedTeacher
from trigbench.workflow.study.study import Run, Study

PRECISIONS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


@dataclasses.dataclass(frozen=True)
class Modules:
    """What is trained in a run."""

    student: nn.Module
    extras: dict[str, nn.Module]
    """By the name of core.fields.Fields that each becomes: log weights, and the fake."""

    def parameters(self) -> Tensors:
        """The student's under their own names, the others' under `<extra>.`."""
        named: Tensors = dict(self.student.named_parameters())
        for name, module in self.extras.items():
            named |= {f"{name}.{key}": p for key, p in module.named_parameters()}
        return named

    def buffers(self) -> Tensors:
        """Their persistent buffers, named as `parameters` are."""
        named = buffers_of(self.student)
        for name, module in self.extras.items():
            named |= {f"{name}.{key}": buffer for key, buffer in buffers_of(module).items()}
        return named

    def normalised(self) -> Tensors:
        """Of `parameters` those that their networks want normalised before every step (EDM2), made so."""
        found: Tensors = {}
        for prefix, module in (("", self.student), *((f"{name}.", module) for name, module in self.extras.items())):
            normalised_weights = getattr(module, "normalised_weights", None)
            if normalised_weights is not None:
                found |= {prefix + key: p for key, p in normalised_weights(dict(module.named_parameters())).items()}
        return found


def open_data(study: Study, arm: Arm) -> Dataset:
    """The prepared data set of an arm, whose draws are checked."""
    path = study.data_file(arm.data)
    made_by = (
        f"python -m trigbench.workflow.steps.prepare --study {study.file} --budget {study.budget} --data {arm.data}"
    )
    arrays = read_arrays(path, f"delete the file if it is there, and make it with: {made_by}")
    opened = draws_module(study.data[arm.data]).open_dataset(arrays, study.sigma_d)
    dataset = checked(opened, f"data.{arm.data}", study.file)
    if is_own(study.data[arm.data]):
        return dataclasses.replace(dataset, draw=_from_its_generator(study, arm, dataset.draw))
    return dataset


def _from_its_generator(study: Study, arm: Arm, draw: Callable[..., Any]) -> Callable[..., Any]:
    """The draw; the first one is made twice, and raises BenchError unless one state of the generator makes one draw."""
    unseen = [True]

    def drawn(g: torch.Generator, batch: int) -> Any:
        other = draw(g.clone_state(), batch) if unseen else None
        found = draw(g, batch)
        if other and not all(map(torch.equal, tree_leaves(found), tree_leaves(other))):
            problem = "the data are drawn from another generator than the one that `draw` is given: no draw comes again"
            remedy = "draw from that one, or from one that is seeded by it; hold nothing from draw to draw"
            raise BenchError(problem, file=study.file, key=f"data.{arm.data}.module", remedy=remedy)
        unseen.clear()
        return found

    return drawn


def make_network(study: Study, arm: Arm, dataset: Dataset, seed: int = 0) -> nn.Module:
    """The arm's network on the study's device, not in training; its initial parameters a function of the seed.

    One that is named by its path is called with its settings and what it takes of shape, classes, sigma_d and
    told, the names of what it is told beside labels. Raises BenchError where it has state that would not be kept.
    """
    with seeded(seed, "initial parameters"):  # drawn on the CPU for every device
        network = _make_network(study, arm, dataset)
    if lost := unkept(network):
        problem = f"the network's state holds what is no dense parameter or buffer: {', '.join(lost)}"
        remedy = "keep state in dense, persistent buffers, or register them with persistent=False (docs/networks.md)"
        raise BenchError(problem, file=study.file, key=f"sizes.{arm.size}.network", remedy=remedy)
    if arm.told and not takes_condition(network):
        problem = f"the network takes labels alone, and the arm tells it its {' and '.join(arm.told)}"
        remedy = "annotate the third parameter of its forward: condition: core.condition.Condition (docs/networks.md)"
        raise BenchError(problem, file=study.file, key=f"sizes.{arm.size}.network", remedy=remedy)
    number_layers(network)
    return network.to(device_of(study.device, study.file)).eval()


def _make_network(study: Study, arm: Arm, dataset: Dataset) -> nn.Module:
    size = study.sizes[arm.size]
    if size.network is not None:
        about = {"shape": dataset.shape, "classes": dataset.classes, "sigma_d": study.sigma_d, "told": arm.told}
        make = named(size.network)
        return make(**{key: value for key, value in about.items() if takes(make, key)}, **size.settings)
    return ResidualMLP(
        dataset.shape,
        size.width or 0,
        size.blocks or 0,
        embedding=size.embedding,
        coordinate=size.coordinate,
        conditioning=size.conditioning,
        classes=dataset.classes,
        sigma_d=study.sigma_d,
        told=arm.told,
    )


def make_modules(study: Study, arm: Arm, dataset: Dataset, seed: int, start: Tensors | None) -> Modules:
    """Everything that a run trains; network and fake start from `start` where given."""
    method = arm.method
    networks = [make_network(study, arm, dataset, seed).train() for _ in range(1 + method.fake)]
    for network in networks:
        _check_width(study, arm, network)
        if start is not None:
            _start_from(study, arm, network, start)
    extras: dict[str, nn.Module] = {"fake": networks[1]} if method.fake else {}
    if arm.adaptive_weight:
        extras |= {name: LogWeight().to(device_of(study.device, study.file)) for name in method.log_weights}
    if taken := extras.keys() & {name.split(".")[0] for name in kept_of(networks[0])}:
        problem = f"the network has a part called {min(taken)!r}, as what is trained beside it is called"
        remedy = "give that part another name"
        raise BenchError(problem, file=study.file, key=f"sizes.{arm.size}.network", remedy=remedy)
    return Modules(networks[0], extras)


def _check_width(study: Study, arm: Arm, network: nn.Module) -> None:
    """Raise BenchError for parameters in which a step of Adam, and one of an average, is mostly rounded away."""
    for name, parameter in network.named_parameters():
        if parameter.dtype not in (torch.float32, torch.float64):
            problem = f"{name} is {parameter.dtype}, in which most steps of training are rounded away"
            remedy = "keep parameters in float32; the arm's precision: bf16 computes in bfloat16"
            raise BenchError(problem, file=study.file, key=f"sizes.{arm.size}.network", remedy=remedy)


def _start_from(study: Study, arm: Arm, network: nn.Module, start: Tensors) -> None:
    """Give the network other weights; parameters of numbers that only the student is told stay as they are."""
    own = kept_of(network)
    new = {name for name, _ in network.named_parameters() if name not in start} if arm.told else set()
    own = {name: tensor for name, tensor in own.items() if name not in new}
    if wrong := difference(own, start):
        whose = "the teacher's weights" if arm.start == "teacher" else f"the weights of {arm.start!r}"
        problem = f"{whose} do not fit the student's network: {wrong}"
        remedy = f"give both the same 'size', or remove 'start: {arm.start}'"
        raise BenchError(problem, file=study.file, key=f"sizes.{arm.size}", remedy=remedy)
    put(own, start)


def check_weights(study: Study, arm: Arm, network: nn.Module, weights: Tensors) -> None:
    """Raise BenchError where saved weights are not all that is kept of the arm's network."""
    if wrong := difference(kept_of(network), weights):
        problem = f"the saved weights are not of the arm's network as it is now made: {wrong}"
        remedy = "delete the run's folder; the workflow makes it again"
        raise BenchError(problem, file=study.file, key=f"sizes.{arm.size}", remedy=remedy)


def started_modules(task: Task) -> Modules:
    """What the run trains, as it starts: drawn from its seed, or from the weights of its teacher, or of another run.

    Raises BenchError where these do not fit, or make another function of the student's network than of the teacher's.
    """
    study, arm, make = task.study, task.arm, partial(make_modules, task.study, task.arm, task.data, task.seed)
    if (start := study.start_run(task.run)) is not None:
        return make(_weights_of(study, start))
    if arm.start != "teacher" or not isinstance(arm.teacher, ConvertedTeacher):
        return make(task.teacher if arm.start == "teacher" else None)
    modules = make(task.teacher.weights())
    if not task.teacher.is_start_of(modules.student, arm.told):
        problem = f"with the weights of {arm.teacher.file} the student's network computes something else"
        remedy = "give the size the teacher's settings, `coordinate: log_noise_level` among them (docs/teachers.md)"
        raise BenchError(problem, file=study.file, key=f"sizes.{arm.size}.settings", remedy=remedy)
    return modules


def open_teacher(study: Study, run: Run, arm: Arm, dataset: Dataset) -> Any:
    """The averaged weights of the run's teacher, if it has a trained one; one of a file as OPENED_BY says; else None.

    Raises BenchError where a file's is of other data than the arm's.
    """
    if isinstance(arm.teacher, ConvertedTeacher):
        return _open_converted(study, arm, arm.teacher, dataset)
    teacher = study.teacher_run(run)
    if teacher is None:
        return None
    return _weights_of(study, teacher)


def _weights_of(study: Study, run: Run) -> Tensors:
    """The averaged weights of a run that is there."""
    remedy = f"delete its folder; the workflow trains {run.arm} seed {run.seed} again"
    weights = read_tensors(study.files(run).weights, remedy)
    return on(device_of(study.device, study.file), weights)


def student_field(
    study: Study,
    arm: Arm,
    network: nn.Module,
    weights: Tensors | None = None,
    condition: Condition = UNTOLD,
    precision: str = "fp32",
    tangent_precision: str | None = None,
) -> Field:
    """The network as a field, told its condition, with its method's boundary.

    `tangent_precision` is that in which its tangent is computed, if not in that of its value.
    """
    bound = partial(bind, network, weights, condition)
    field = bound(PRECISIONS[precision])
    if tangent_precision not in (None, precision):
        field = Apart(field, bound(PRECISIONS[tangent_precision]))
    bounded = arm.method.boundary
    return field_with_boundary(field, SIGMA_MIN, study.sigma_d) if bounded else field


def jump_of(field: Callable[[Condition], Field], condition: Condition) -> Jump:
    """u -> the field that is told the condition with the target time u."""
    return lambda u: field(dataclasses.replace(condition, target_time=u))


def to_data(jump: Jump) -> Field:
    """The jump's field to 0, where data are."""
    return lambda x, t: jump(torch.zeros_like(t))(x, t)


def boundary_of(arm: Arm, sigma_d: float) -> float:
    """The angle at which the arm's map is the identity."""
    return math.atan(SIGMA_MIN / sigma_d) if arm.method.boundary else 0.0


def step_function(task: Task, modules: Modules) -> Callable[..., Regression]:
    """(step, weights of the target or none, rows of the step's batch or None for all) -> the objective's value on them.

    Draws are a function of (seed, step, purpose) and of the sample's place in the batch (workflow.run.batches).
    """
    study, run, arm, device = task.study, task.run, task.arm, device_of(task.study.device, task.study.file)
    objective = named(arm.method.path)
    settings_at = settings_of(objective, study, run, arm)
    taught_by = teacher_of(study, arm, task.data, task.teacher)
    teacher = study.arms.get(str(arm.teacher))
    sizes = [arm.size, *([teacher.size] if teacher else [])]
    own_code = arm.method.own or any(study.sizes[size].network is not None for size in sizes)

    def evaluate(step: int, target: Tensors, rows: Batch | None = None) -> Regression:
        batch = draw_batch(run, arm, task.data, step).to(device) if rows is None else rows
        bound = partial(student_field, study, arm, precision=arm.precision, tangent_precision=arm.tangent_precision)
        fields = _fields(arm, modules, bound, batch.condition, target)
        fields = dataclasses.replace(fields, teacher=taught_by(batch.condition))
        if own_code:  # it may draw from global generators, which must not depend on what came before
            seed_globals(run.seed, step, "dropout", batch.first)
        with masks(batch.keys):
            return objective(fields, batch.x0, batch.draws, mapped(lambda value: value.to(device), settings_at(step)))

    return evaluate


def _fields(arm: Arm, modules: Modules, bound: Callable[..., Field], condition: Condition, target: Tensors) -> Fields:
    """What is trained, as fields told their condition, and the targets' average where there is one."""
    averaged = partial(bound, modules.student, target)
    student = partial(bound, modules.student, None)
    fake = modules.extras.get("fake")
    weights = {name: module for name, module in modules.extras.items() if name != "fake"}
    beside: dict[str, Any] = weights | {"fake": bound(fake, None, condition) if fake else None}
    if "target_time" not in arm.told:
        return Fields(student(condition), target=averaged(condition) if target else None, **beside)
    student_to, target_to = jump_of(student, condition), jump_of(averaged, condition) if target else None
    beside |= {"student_to": student_to, "target_to": target_to}
    return Fields(to_data(student_to), target=to_data(target_to) if target_to else None, **beside)


def teacher_of(study: Study, arm: Arm, dataset: Dataset, taught: Any) -> Callable[[Condition], Field | None]:
    """The student's condition -> the teacher as a field: exact, trained, guided, or none."""
    if arm.teacher is None or arm.teacher == "exact":
        return lambda condition: dataset.velocity if arm.teacher else None
    if taught is None:
        raise BenchError("the teacher has no weights", file=study.file, key="teacher", remedy="train the teacher first")
    if isinstance(arm.teacher, ConvertedTeacher):
        return lambda condition: taught.field(condition.label)
    network = make_network(study, study.arms[arm.teacher], dataset)
    check_weights(study, study.arms[arm.teacher], network, taught)
    return partial(guided_field, network, taught)


def _open_converted(study: Study, arm: Arm, teacher: ConvertedTeacher, dataset: Dataset) -> Any:
    opened = named(OPENED_BY[teacher.kind])(Path(teacher.file), study.sigma_d, device_of(study.device, study.file))
    about, data = ((network.shape, network.classes) for network in (opened.network, dataset))
    if about != data:
        problem = f"the teacher is a network of (shape, classes) {about}, the data {arm.data!r} are of {data}"
        remedy = "name a network of the data's own shape and classes"
        raise BenchError(problem, file=Path(teacher.file), key=f"data.{arm.data}", remedy=remedy)
    return opened


def guided_field(network: nn.Module, weights: Tensors, condition: Condition) -> Field:
    """A diffusion model, guided by its own branch without labels where a scale is given."""
    conditional = bind(network, weights, Condition(label=condition.label))
    if condition.scale is None:
        return conditional
    return guided(conditional, bind(network, weights, UNTOLD), condition.scale)
