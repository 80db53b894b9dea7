"""What a run carries from step to step, as one process holds it, and how it goes to a checkpoint and comes back."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor
from torch.nn.utils import get_total_norm

from trigbench.core.layouts import difference
from trigbench.core.optimiser import AdamState, initial_state
from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine import checkpoints
from trigbench.workflow.run.assembly import Modules, Tensors
from trigbench.workflow.run.distributed import Layout, World
from trigbench.workflow.run.journal import Journal
from trigbench.workflow.run.weights import buffers_of, copied, put
from trigbench.workflow.study.schema import Arm

WHOLE = ("steps/", "buffers/")
"""Adam's counts and the buffers, which no layout shares out."""


@dataclass(frozen=True)
class State:
    """Tensors as the layout holds parameters, updated in place."""

    parameters: Tensors
    """The student's own or its adapter's, and those of what is trained beside it (Modules.parameters)."""
    average: Tensors
    """Of the student's alone (Modules.own)."""
    target: Tensors
    """The average that gives the targets, for methods that keep one; else empty."""
    snapshots: Tensors
    """Averages along training with the student's buffers, as `<step>/<name>`; with an adapter, whole weights."""
    optimiser: AdamState
    buffers: Tensors
    """The modules' own persistent ones, whole on every process. Averages have no others than the student's."""


def initial(modules: Modules, layout: Layout, arm: Arm) -> State:
    """The state before the first step; its parameters are the layout's own."""
    student = {name: layout.parameters[name].detach().clone() for name in modules.own()}
    target = {name: p.clone() for name, p in student.items()} if arm.target_decay else {}
    return State(layout.parameters, student, target, {}, initial_state(layout.parameters), modules.buffers())


def snapshot(step: int, state: State, modules: Modules, layout: Layout) -> Tensors:
    """The average so far, as `snapshots` has it: of an adapter with the weights that it is of, which all have whole."""
    average = modules.weights(layout.whole(state.average)) if modules.adapter else state.average
    kept = average | buffers_of(modules.student)
    return {f"{step}/{name}": value for name, value in copied(kept).items()}


def target_weights(state: State, modules: Modules, layout: Layout) -> Tensors:
    """The average that gives the targets, if there is one, with the student's buffers as the step finds them."""
    if not state.target:
        return {}
    return modules.weights(layout.whole(state.target)) | copied(buffers_of(modules.student))


def is_finite(state: State, world: World) -> bool:
    """Whether every number is, on every process; of a buffer, such as a mask, infinity may be the right value."""
    tensors = {name: t for name, t in _to_tensors(state).items() if _owner(name) not in state.buffers}
    held = [tensor for tensor in tensors.values() if tensor.numel()]  # a small one has no row for everybody
    largest = get_total_norm(held, math.inf)  # a device is waited for once
    return not world.total((~largest.isfinite()).int().to(world.device)).item()


def save(folder: Path, mark: str, step: int, state: State, journal: Journal, layout: Layout) -> None:
    """Write a checkpoint; every process calls it."""
    tensors = _to_tensors(dataclasses.replace(state, buffers=copied(state.buffers)))  # files share no memory
    part = layout.part(name for name in tensors if not name.startswith(WHOLE))
    if part is not None:
        checkpoints.save(folder, mark, step, tensors, dataclasses.asdict(journal), part)


def resume(folder: Path, mark: str, state: State, layout: Layout) -> tuple[Journal, int]:
    """Fill the state from the newest checkpoint, if there is one: (what was written down until then, its step or 0).

    All processes take the one that the first one finds whole, so that they go on from the same step.
    """
    world = layout.world
    found = checkpoints.newest(folder, mark) if world.first else None
    step = world.from_first(found.step if found else 0)
    if not step:
        return Journal(), 0
    saved = found or checkpoints.at(folder, step)
    _restore(state, saved.tensors, layout, folder)
    return Journal(**saved.journal), step


def _restore(state: State, saved: Mapping[str, Tensor], layout: Layout, folder: Path) -> None:
    """This process's parts of saved tensors, whoever wrote those. Raises BenchError where they are not the state's."""
    own, there = _to_tensors(state), list(saved)
    kept = [name for name in there if name.startswith("snapshots/")]

    def piece(name: str) -> Tensor:
        shared_out = not name.startswith(WHOLE) and _owner(name) in state.parameters
        return layout.piece(saved[name]) if shared_out else saved[name]

    others = {name: saved[name] for name in there if name not in own and name not in kept}
    for name, tensor in own.items():
        found = {name: piece(name)} if name in there else {}
        if wrong := difference({name: tensor.shape}, found | others):
            problem = f"the checkpoint is of other networks than the arm's: {wrong}"
            raise BenchError(problem, file=folder, remedy="delete the folder: the run starts from its first step")
        put({name: tensor}, found)
    pieces = {name: piece(name).clone().to(layout.world.device) for name in kept}
    state.snapshots.update({name.removeprefix("snapshots/"): piece for name, piece in pieces.items()})


def _owner(name: str) -> str:
    """The parameter or buffer that a tensor of the state is named after."""
    return name.rsplit("/", 1)[-1]


def _to_tensors(state: State) -> Tensors:
    """The state's own tensors, named by group."""
    groups: Mapping[str, Mapping[str, Tensor]] = {
        "parameters": state.parameters,
        "average": state.average,
        "target": state.target,
        "snapshots": state.snapshots,
        "first": state.optimiser.first,
        "second": state.optimiser.second,
        "steps": state.optimiser.steps,
        "buffers": state.buffers,
    }
    return {f"{group}/{name}": tensor for group, values in groups.items() for name, tensor in values.items()}
