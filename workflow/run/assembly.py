"""What an arm is made of: its networks, the fields they are bound to, its settings and its draws.

The one place where a study's words become the core's values.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn

from trigbench.core.condition import UNTOLD, Condition, takes_condition
from trigbench.core.constants import SIGMA_MIN
from trigbench.core.conversions import field_with_boundary
from trigbench.core.fields import Fields, bind
from trigbench.core.guidance import guided
from trigbench.core.layouts import difference, shapes_of
from trigbench.core.low_rank import adapted_weights, merged, new_adapter
from trigbench.core.networks.dropout import masks, number_layers
from trigbench.core.networks.log_weight import LogWeight
from trigbench.core.networks.mlp import ResidualMLP
from trigbench.core.objectives.regression import Regression
from trigbench.core.tangents import Apart
from trigbench.core.trigflow import Field
from trigbench.workflow.data.randomness import generator, seed_globals, seeded
from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine.named import named, takes
from trigbench.workflow.run.batches import Batch, draw_batch, mapped
from trigbench.workflow.run.settings import settings_of
from trigbench.workflow.run.task import Task, weights_of
from trigbench.workflow.run.told import guided_field, jump_of, own_guidance, to_data
from trigbench.workflow.run.weights import Tensors, buffers_of, kept_of, put, replaced, unkept
from trigbench.workflow.study.schema import Arm, ConvertedTeacher

PRECISIONS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


@dataclasses.dataclass(frozen=True)
class Modules:
    """What is trained in a run."""

    student: nn.Module
    extras: dict[str, nn.Module]
    """By the name of core.fields.Fields that each becomes: log weights, and the fake."""
    adapter: Tensors = dataclasses.field(default_factory=dict)
    """Of the student's own parameters, which then stay as they are; empty where these are trained."""
    frozen: Tensors = dataclasses.field(default_factory=dict)
    """These parameters, where there is an adapter: inside `adapted` the network has others."""

    def own(self) -> Tensors:
        """What is trained of the student: its parameters by name, or the parts of its adapter (core.low_rank)."""
        return dict(self.adapter or self.student.named_parameters())

    def parameters(self) -> Tensors:
        """The student's under their own names, the others' under `<extra>.`."""
        named = self.own()
        for name, module in self.extras.items():
            named |= {f"{name}.{key}": p for key, p in module.named_parameters()}
        return named

    def buffers(self) -> Tensors:
        """Their persistent buffers, named as `parameters` are."""
        named = buffers_of(self.student)
        for name, module in self.extras.items():
            named |= {f"{name}.{key}": buffer for key, buffer in buffers_of(module).items()}
        return named

    @torch.no_grad()
    def weights(self, own: Tensors) -> Tensors:
        """The student's weights where `own` is of these values: these, or what an adapter of them makes of its own."""
        return merged(self.frozen, (own, 1.0)) if self.adapter else own

    def kept(self) -> Tensors:
        """The student's weights as they are, with its buffers."""
        return self.weights({name: p.detach() for name, p in self.own().items()}) | buffers_of(self.student)

    @contextmanager
    def adapted(self) -> Iterator[None]:
        """Inside, the student's network has the weights that its adapter makes of its own.

        An objective and its gradient are evaluated inside: what computes again in the backward pass finds them there.
        """
        changed = merged(self.frozen, (self.adapter, 1.0)) if self.adapter else {}
        with replaced(self.student, changed):
            yield

    def normalised(self) -> Tensors:
        """Of `parameters` those that their networks want normalised before every step (EDM2), made so."""
        found: Tensors = {}
        student = () if self.adapter else (("", self.student),)
        for prefix, module in (*student, *((f"{name}.", module) for name, module in self.extras.items())):
            normalised_weights = getattr(module, "normalised_weights", None)
            if normalised_weights is not None:
                found |= {prefix + key: p for key, p in normalised_weights(dict(module.named_parameters())).items()}
        return found


def make_network(task: Task, seed: int = 0) -> nn.Module:
    """The task's network on its device, not in training; its initial parameters a function of the seed.

    One that is named by its path is called with its settings and what it takes of shape, classes, sigma_d, told, the
    names of numbers that it is told beside labels, and observed, the shape of an observation. Raises BenchError where
    it has state that would not be kept.
    """
    with seeded(seed, "initial parameters"):  # drawn on the CPU for every device
        network = _make_network(task)
    arm = task.arm
    if lost := unkept(network):
        problem = f"the network's state holds what is no dense parameter or buffer: {', '.join(lost)}"
        remedy = "keep state in dense, persistent buffers, or register them with persistent=False (docs/networks.md)"
        raise BenchError(problem, file=task.study.file, key=task.network_key, remedy=remedy)
    if arm.told and not takes_condition(network):
        problem = f"the network takes labels alone, and the arm tells it its {' and '.join(arm.told)}"
        remedy = "annotate the third parameter of its forward: condition: trigbench.Condition (docs/networks.md)"
        raise BenchError(problem, file=task.study.file, key=task.network_key, remedy=remedy)
    number_layers(network)
    return network.to(task.device).eval()


def _make_network(task: Task) -> nn.Module:
    study, arm, dataset = task.study, task.arm, task.data
    size = study.sizes[arm.size]
    about: dict[str, Any] = {
        "shape": dataset.shape, "classes": dataset.classes, "sigma_d": study.sigma_d, "told": arm.told,
    }  # fmt: skip
    if dataset.observed_shape is not None:
        about["observed"] = dataset.observed_shape
    if size.network is not None:
        make = named(size.network)
        return make(**{key: value for key, value in about.items() if takes(make, key)}, **size.settings)
    own = {key: getattr(size, key) for key in ("embedding", "coordinate", "conditioning")}
    return ResidualMLP(**about, width=size.width or 0, blocks=size.blocks or 0, **own)


def make_modules(task: Task, start: Tensors | None) -> Modules:
    """Everything that a run trains; network and fake start from `start` where given."""
    method = task.arm.method
    networks = [make_network(task, task.seed).train() for _ in range(1 + method.fake)]
    for network in networks:
        _check_width(task, network)
        if start is not None:
            _start_from(task, network, start)
    extras: dict[str, nn.Module] = {"fake": networks[1]} if method.fake else {}
    if task.arm.adaptive_weight:
        extras |= {name: LogWeight().to(task.device) for name in method.log_weights}
    if taken := extras.keys() & {name.split(".")[0] for name in kept_of(networks[0])}:
        problem = f"the network has a part called {min(taken)!r}, as what is trained beside it is called"
        remedy = "give that part another name"
        raise BenchError(problem, file=task.study.file, key=task.network_key, remedy=remedy)
    check_adapted(task, networks[0])
    adapter = _new_adapter(task, networks[0])
    frozen = {name: p.detach() for name, p in networks[0].named_parameters()} if adapter else {}
    return Modules(networks[0], extras, adapter, frozen)


def _new_adapter(task: Task, network: nn.Module) -> Tensors:
    """The arm's, as its run starts: it changes nothing, and what it is drawn from is a function of the seed."""
    if task.arm.adapter is None:
        return {}
    made = new_adapter(adapted_weights(network), task.arm.adapter.rank, generator(task.seed, "adapter"))
    return {name: part.detach().requires_grad_() for name, part in made.items()}


def check_adapted(task: Task, network: nn.Module) -> None:
    """Raise BenchError for a network that some arm of the study would adapt, and that cannot be; asked of every run
    with it, so that none is trained for an adapter that will be refused."""
    asking = [name for name, arm in task.study.arms.items() if arm.adapter and arm.size == task.arm.size]
    if not asking:
        return
    try:
        adapted_weights(network)
    except ValueError as error:
        problem, _, _ = str(error).partition("; ")
        remedy = "make it of linear and convolution layers (docs/networks.md), or train all of it: remove 'adapter'"
        raise BenchError(problem, file=task.study.file, key=f"arms.{asking[0]}.adapter", remedy=remedy) from error


def _check_width(task: Task, network: nn.Module) -> None:
    """Raise BenchError for parameters in which a step of Adam, and one of an average, is mostly rounded away."""
    for name, parameter in network.named_parameters():
        if parameter.dtype not in (torch.float32, torch.float64):
            problem = f"{name} is {parameter.dtype}, in which most steps of training are rounded away"
            remedy = "keep parameters in float32; the arm's precision: bf16 computes in bfloat16"
            raise BenchError(problem, file=task.study.file, key=task.network_key, remedy=remedy)


def _start_from(task: Task, network: nn.Module, start: Tensors) -> None:
    """Give the network other weights; parameters of numbers that only the student is told stay as they are."""
    own, arm = kept_of(network), task.arm
    new = {name for name, _ in network.named_parameters() if name not in start} if arm.told else set()
    own = {name: tensor for name, tensor in own.items() if name not in new}
    if wrong := difference(shapes_of(own), start):
        whose = "the teacher's weights" if arm.start == "teacher" else f"the weights of {arm.start!r}"
        problem = f"{whose} do not fit the student's network: {wrong}"
        remedy = f"give both the same 'size', or remove 'start: {arm.start}'"
        raise BenchError(problem, file=task.study.file, key=f"sizes.{arm.size}", remedy=remedy)
    put(own, start)


def check_weights(task: Task, network: nn.Module, weights: Tensors) -> None:
    """Raise BenchError where saved weights are not all that is kept of the task's network."""
    if wrong := difference(shapes_of(kept_of(network)), weights):
        problem = f"the saved weights are not of the arm's network as it is now made: {wrong}"
        remedy = "delete the run's folder; the workflow makes it again"
        raise BenchError(problem, file=task.study.file, key=f"sizes.{task.arm.size}", remedy=remedy)


def started_modules(task: Task) -> Modules:
    """What the run trains, as it starts: drawn from its seed, or from the weights of its teacher, or of another run.

    Raises BenchError where these do not fit, or make another function of the student's network than of the teacher's.
    """
    study, arm, make = task.study, task.arm, partial(make_modules, task)
    if (start := study.start_run(task.run)) is not None:
        return make(weights_of(task, start))
    if arm.start != "teacher" or not isinstance(arm.teacher, ConvertedTeacher):
        return make(task.teacher if arm.start == "teacher" else None)
    modules = make(task.teacher.weights())
    if not task.teacher.is_start_of(modules.student, arm.told):
        problem = f"with the weights of {arm.teacher.file} the student's network computes something else"
        remedy = "give the size the teacher's settings, `coordinate: log_noise_level` among them (docs/teachers.md)"
        raise BenchError(problem, file=study.file, key=f"sizes.{arm.size}.settings", remedy=remedy)
    return modules


def student_field(
    task: Task,
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
    bounded = task.arm.method.boundary
    return field_with_boundary(field, SIGMA_MIN, task.study.sigma_d) if bounded else field


def boundary_of(arm: Arm, sigma_d: float) -> float:
    """The angle at which the arm's map is the identity."""
    return math.atan(SIGMA_MIN / sigma_d) if arm.method.boundary else 0.0


@dataclasses.dataclass(frozen=True)
class StepFunction:
    """(step, weights of the target or none, rows of the step's batch or None for all) -> the objective's value on them.

    Draws are a function of (seed, step, purpose) and of the sample's place in the batch (workflow.run.batches).
    """

    task: Task
    settings_at: Callable[[int], Any]
    """On the task's device."""
    on: Callable[[Any, Tensors, Batch], Regression]
    """(settings, weights of the target, rows) -> the objective's value; nothing else moves but weights."""
    own_code: bool
    """Whether an objective or a network of one's own is called, which may draw from global generators."""

    def __call__(self, step: int, target: Tensors, rows: Batch | None = None) -> Regression:
        batch = draw_batch(self.task, step).to(self.task.device) if rows is None else rows
        self.seed(step, batch)
        return self.on(self.settings_at(step), target, batch)

    def seed(self, step: int, rows: Batch) -> None:
        """What is drawn from global generators must not depend on what came before."""
        if self.own_code:
            seed_globals(self.task.seed, step, "dropout", rows.first)


def step_function(task: Task, modules: Modules) -> StepFunction:
    """All of the task's step that an objective computes."""
    study, arm, device = task.study, task.arm, task.device
    objective, taught_by, settings_at = named(arm.method.path), teacher_of(task), settings_of(task)
    taught = [study.arms[name] for name in map(str, (arm.teacher, arm.weak_teacher)) if name in study.arms]
    own_code = arm.method.own or any(study.sizes[of.size].network is not None for of in (arm, *taught))

    def evaluate(settings: Any, target: Tensors, batch: Batch) -> Regression:
        bound = partial(student_field, task, precision=arm.precision, tangent_precision=arm.tangent_precision)
        fields = _fields(arm, modules, bound, batch.condition, target)
        beside = own_guidance(arm, task.data.classes, partial(bound, modules.student, None), batch.condition)
        fields = dataclasses.replace(fields, teacher=taught_by(batch.condition), own_guidance=beside)
        with masks(batch.keys):
            return objective(fields, batch.x0, batch.draws, settings)

    return StepFunction(task, lambda step: mapped(lambda a: a.to(device), settings_at(step)), evaluate, own_code)


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


def teacher_of(task: Task) -> Callable[[Condition], Field | None]:
    """The student's condition -> the teacher as a field: exact, trained, guided by itself or by a weak one, or none."""
    alone, name = _teacher_of(task), task.arm.weak_teacher
    if name is None:
        return alone
    weak = _trained(task, name, task.weak)

    def autoguided(condition: Condition) -> Field:
        told = dataclasses.replace(condition, scale=None, target_time=None)
        teacher = alone(told)
        assert teacher is not None and condition.scale is not None  # reading asks for both
        return guided(teacher, weak(told), condition.scale)

    return autoguided


def _teacher_of(task: Task) -> Callable[[Condition], Field | None]:
    said, taught = task.arm.teacher, task.teacher
    if said is None or said == "exact":
        return lambda condition: task.data.velocity if said else None
    if taught is not None and isinstance(said, ConvertedTeacher):
        return lambda condition: taught.field(condition.label)
    return _trained(task, str(said), taught)


def _trained(task: Task, name: str, weights: Tensors | None) -> Callable[[Condition], Field]:
    """The student's condition -> the diffusion model, or the stage before, that the run of another arm has left."""
    if weights is None:
        remedy = f"train {name} first"
        raise BenchError("the teacher has no weights", file=task.study.file, key="teacher", remedy=remedy)
    teacher = task.of_arm(name)
    network = make_network(teacher)
    check_weights(teacher, network, weights)
    return partial(guided_field, network, weights, told=teacher.arm.told)
