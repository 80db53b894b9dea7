"""How a run differentiates a part of a batch: eagerly or compiled (core.compiled), and what is said where it cannot be.

The one place that chooses. What is compiled is `gradients.differentiated` itself. Its inputs are the tensors of all
that is trained, buffers, the targets' weights, the settings, the rows, and the factor of the loss; sums over parts and
processes, Adam and averages stay outside.
"""

import os
import sys
from collections.abc import Hashable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor

from trigbench.core.compiled import Graph, in_one, kind_of, traced, traced_twice
from trigbench.core.constants import MOST_GRAPHS
from trigbench.core.trigflow import ProposalGrid
from trigbench.workflow.machine.live import phase
from trigbench.workflow.machine.progress import sign_of_life
from trigbench.workflow.run.assembly import Modules, StepFunction
from trigbench.workflow.run.batches import Batch
from trigbench.workflow.run.distributed import World
from trigbench.workflow.run.gradients import Differentiate, differentiated
from trigbench.workflow.run.journal import Journal
from trigbench.workflow.run.settings import points_at
from trigbench.workflow.run.task import Task
from trigbench.workflow.run.weights import Tensors, copied, put, replaced
from trigbench.workflow.study.places import COMPILED
from trigbench.workflow.study.schema import Arm

TOLERANCE = {"fp32": 1e-5, "fp16": 2e-2, "bf16": 0.15}
"""Of a compiled gradient's error over its norm: about 100 roundings of float32, and 20 of the others, which a compiled
step makes at other places."""
BACKEND = "inductor"


def differentiation(task: Task, modules: Modules, objective: StepFunction, journal: Journal) -> Differentiate:
    """How the run differentiates; what fell back before goes on eagerly."""
    asked = is_compiled(task.arm, task.device)
    if journal.compiled not in (None, asked):
        journal.fell_back = journal.fell_back or "some of its steps ran on another device"
    journal.compiled = asked
    if not asked or journal.fell_back:
        return differentiated
    # inductor's files, for all runs of one shape, wherever the user has no other place
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(COMPILED.absolute()))
    if task.device.type == "cpu":  # a process of its own that compiles would import torch, and take a core
        os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", str(torch.get_num_threads()))
    return Compiled(task, modules, objective, journal)


def is_compiled(arm: Arm, device: torch.device) -> bool:
    """Whether an arm's steps are compiled: as it says, else on a GPU."""
    many = (arm.stages or 1) > MOST_GRAPHS
    return device.type == "cuda" and not many if arm.compile is None else arm.compile


def ran(arm: Arm, world: World, journal: Journal) -> dict[str, Any]:
    """How the steps so far ran, of all processes, by the names of TrainingRecord; every process calls it."""
    asked = is_compiled(arm, world.device)
    if asked and world.agreed(journal.fell_back) and not journal.fell_back:
        journal.fell_back = "another process cannot compile its steps"
    return {"compiled": asked and not journal.fell_back, "fell_back": journal.fell_back}


@dataclass(frozen=True)
class Compiled:
    """`differentiated` with a graph for each kind of inputs, which is held against an eager step when it is made.

    Where one cannot be made, or gives other gradients, all that follows is eager; it is said once, and in the journal.
    """

    task: Task
    modules: Modules
    objective: StepFunction
    journal: Journal
    graphs: dict[Hashable, Graph] = field(default_factory=dict)

    def __call__(
        self, _: Any, step: int, part: Batch, target: Tensors, parameters: Sequence[Tensor], factor: float, __: Modules
    ) -> tuple[Tensor, Sequence[Tensor]]:
        """As `differentiated`."""
        eager = (self.objective, step, part, target, parameters, factor, self.modules)
        if self.journal.fell_back:
            return differentiated(*eager)
        try:
            inputs = self._inputs(step, part, target, parameters, factor)
            kind = kind_of(inputs)
            graph = self.graphs.get(kind) or self.graphs.setdefault(kind, self._made(step, part, eager, inputs))
        except Exception as error:  # whatever it is, an eager step is right
            self._fall_back(step, error)
            return differentiated(*eager)
        self.objective.seed(step, part)
        watched, gradients, buffers = graph(*inputs)
        put(_buffers(self.modules), buffers)
        return watched, gradients

    def _inputs(self, step: int, part: Batch, target: Tensors, parameters: Sequence[Tensor], factor: float) -> Any:
        """All that moves, as tensors."""
        named = dict(zip(self.modules.parameters(), parameters, strict=True))
        arm, device = self.task.arm, part.x0.device
        settings = moving(self.objective.settings_at(step), points_at(arm, arm.iterations), device)
        scale = torch.tensor(factor, dtype=torch.float64, device=device)
        return named, _buffers(self.modules), target, settings, replace(part, first=0), scale

    def _made(self, step: int, part: Batch, eager: Any, inputs: Any) -> Graph:
        """The graph, compiled; raises ValueError where its gradients are not those of an eager step."""
        self._say()
        buffers = copied(_buffers(self.modules))
        wanted = differentiated(*eager)[1]
        put(_buffers(self.modules), buffers)
        self.objective.seed(step, part)
        trace = traced_twice if own_modules(self.task) else traced
        graph = in_one(trace(self._differentiated, *inputs), BACKEND)
        put(_buffers(self.modules), buffers)
        self.objective.seed(step, part)
        found = graph(*inputs)[1]
        error, most = distance(found, wanted), tolerance(self.task.arm)
        if not error <= most:
            raise ValueError(f"its gradient is {error:.2g} of its norm from an eager step's, more than {most:g}")
        phase("training")
        return graph

    def _differentiated(
        self, parameters: Tensors, buffers: Tensors, target: Tensors, settings: Any, part: Batch, factor: Tensor
    ) -> tuple[Tensor, Sequence[Tensor], Tensors]:
        """What is compiled: (watched, gradients, the buffers that it leaves)."""
        leaves = {name: p.requires_grad_() for name, p in parameters.items()}
        kept = {name: buffer.clone() for name, buffer in buffers.items()}
        with torch.enable_grad(), _holding(self.modules, leaves, kept) as modules:
            on = lambda step, target, part: self.objective.on(settings, target, part)  # noqa: E731
            watched, found = differentiated(on, 0, part, target, list(leaves.values()), factor, modules)
            return watched, [gradient.detach() for gradient in found], _buffers(modules)

    def _say(self) -> None:
        sign_of_life()
        phase("compiling")
        print(f"{self.task.label}: compiling", file=sys.stderr, flush=True)

    def _fall_back(self, step: int, error: Exception) -> None:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        self.journal.fell_back = f"{reason} (at step {step})"
        phase("training")
        print(f"warning: {self.task.label}: eager, as it cannot be compiled: {reason}", file=sys.stderr, flush=True)


def distance(found: Sequence[Tensor], wanted: Sequence[Tensor]) -> float:
    """The norm of all differences over that of all that is wanted; 0 where both are 0."""
    norms = [torch.stack([a.double().norm() for a in each]).norm() for each in (wanted, _differences(found, wanted))]
    whole, apart = torch.stack(norms).tolist()
    return apart / whole if whole else apart


def tolerance(arm: Arm) -> float:
    """Of `distance`, by the coarsest precision of the arm's network."""
    return max(TOLERANCE[precision] for precision in (arm.precision, arm.tangent_precision) if precision)


def own_modules(task: Task) -> list[str]:
    """Objectives and networks of the step that are not the project's."""
    named = [task.arm.objective, *(size.network or "" for size in task.study.sizes.values())]
    return [path for path in named if ":" in path and not path.startswith("trigbench.")]


def moving(settings: Any, points: int | None, device: torch.device) -> Any:
    """Settings whose warm-up is a tensor, and whose grid, of a curriculum, has room for its most points.

    Edges that are added lie at the last one, with no probability between: no draw falls there.
    """
    changed: dict[str, Any] = {}
    for part in fields(settings):
        value = getattr(settings, part.name)
        if part.name == "warmup" and isinstance(value, int | float):
            changed[part.name] = torch.tensor(value, dtype=torch.float64, device=device)
        elif isinstance(value, ProposalGrid):
            changed[part.name] = value if points is None else _with_room(value, points)
        elif is_dataclass(value) and not isinstance(value, type):
            changed[part.name] = moving(value, points, device)
    return replace(settings, **changed)


def _differences(found: Sequence[Tensor], wanted: Sequence[Tensor]) -> list[Tensor]:
    return [a.double() - b.double() for a, b in zip(found, wanted, strict=True)]


def _with_room(grid: ProposalGrid, points: int) -> ProposalGrid:
    more = points - len(grid.angles)
    edges = torch.cat([grid.angles, grid.angles[-1:].expand(more)])
    return ProposalGrid(edges, torch.cat([grid.cumulative, grid.cumulative[-1:].expand(more)]))


def _buffers(modules: Modules) -> Tensors:
    """All buffers, those that are not kept too, named as parameters are."""
    found = dict(modules.student.named_buffers())
    for name, module in modules.extras.items():
        found |= {f"{name}.{key}": buffer for key, buffer in module.named_buffers()}
    return found


@contextmanager
def _holding(modules: Modules, parameters: Tensors, buffers: Tensors) -> Iterator[Modules]:
    """Inside, the networks have these in place of their own; the adapter, if there is one, is of these too."""
    given, beside = {**parameters, **buffers}, modules.extras.items()
    own = {name: value for name, value in given.items() if name.split(".")[0] not in modules.extras}
    adapter = {name: own.pop(name) for name in modules.adapter}
    with ExitStack() as stack:
        stack.enter_context(replaced(modules.student, own))
        for prefix, module in beside:
            names = [name for name in given if name.startswith(f"{prefix}.")]
            stack.enter_context(replaced(module, {name[len(prefix) + 1 :]: given[name] for name in names}))
        yield replace(modules, adapter=adapter)
