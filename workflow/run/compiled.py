"""How a run differentiates a part of a batch: eagerly or compiled (core.compiled), and what is said where it cannot be.

The one place that chooses. What is compiled is `gradients.differentiated` itself. Its inputs are the tensors of all
that is trained, buffers, the targets' weights, the settings, the rows, and the factor of the loss; sums over parts and
processes, Adam and averages stay outside.
"""

import errno
import math
import os
import sys
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trigbench.core.compiled import Graph, in_one, kind_of, traced, traced_twice
from trigbench.core.constants import MOST_GRAPHS
from trigbench.core.trigflow import ProposalGrid
from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine.devices import OUT_OF_MEMORY
from trigbench.workflow.machine.files import REMEDIES, writing
from trigbench.workflow.machine.live import phase
from trigbench.workflow.machine.progress import sign_of_life
from trigbench.workflow.run.assembly import Modules, StepFunction
from trigbench.workflow.run.batches import Batch
from trigbench.workflow.run.distributed import World
from trigbench.workflow.run.gradients import Differentiate, differentiated
from trigbench.workflow.run.journal import Journal
from trigbench.workflow.run.settings import points_at
from trigbench.workflow.run.task import Task
from trigbench.workflow.run.weights import Tensors, as_bytes, copied, put, replaced
from trigbench.workflow.study.places import COMPILED
from trigbench.workflow.study.schema import Arm

TOLERANCE = {"fp32": 1e-5, "tf32": 1e-3, "fp16": 2e-2, "bf16": 0.15}
"""Of a compiled step's error over the norm of what is compared: about 100 roundings of float32, which a compiled step
makes at other places, 20 of float16 and bfloat16, and 2 of tf32, to which a GPU rounds what products multiply where an
arm says so, in an eager step too: there, float32's roundings decide which way some of these go."""
BACKEND = "inductor"
NOISE = 0.2
"""Of the weights at which a graph is compared, too; of a new network's own."""
SHARES = slice(2, 4)
"""Of gradients.watched_of: what is clipped and clamped, where a rounding may move a whole sample."""


def differentiation(task: Task, modules: Modules, objective: StepFunction, journal: Journal) -> Differentiate:
    """How the run differentiates; what fell back before goes on eagerly."""
    device = device_of(modules)
    asked = is_compiled(task.arm, device)
    if journal.compiled not in (None, asked):
        journal.fell_back = journal.fell_back or "some of its steps ran on another device"
    journal.compiled = asked
    if not asked or journal.fell_back:
        return differentiated
    # inductor's files, for all runs of one shape, wherever the user has no other place
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(COMPILED.absolute()))
    if device.type == "cpu":  # a process of its own that compiles would import torch, and take a core
        os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", str(torch.get_num_threads()))
    return Compiled(task, modules, objective, journal)


def device_of(modules: Modules) -> torch.device:
    """Where the weights are; asked of the task, the answer would end the arm's own precision of products."""
    return next(modules.student.parameters()).device


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
    What may pass (memory, a disk) is raised, as it would be of an eager step.
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
        given = part, target, parameters, factor
        if self.journal.fell_back:
            return differentiated(self.objective, step, *given, self.modules)
        try:
            inputs = self._inputs(self.objective.settings_at(step), *given)
            kind = kind_of(inputs)
            graph = self.graphs.get(kind) or self.graphs.setdefault(kind, self._made(step, given, inputs))
        except Exception as error:  # whatever else it is, an eager step is right
            raise_what_may_pass(error)
            self._fall_back(step, error)
            return differentiated(self.objective, step, *given, self.modules)
        self.objective.seed(step, part)
        watched, gradients, buffers = graph(*inputs)
        put(_buffers(self.modules), buffers)
        return watched, gradients

    def _inputs(
        self, settings: Any, part: Batch, target: Tensors, parameters: Sequence[Tensor], factor: float
    ) -> tuple[Any, ...]:
        """All that moves, as tensors."""
        named = dict(zip(self.modules.parameters(), parameters, strict=True))
        arm, device = self.task.arm, part.x0.device
        told = moving(settings, points_at(arm, arm.iterations), device)
        scale = torch.tensor(factor, dtype=torch.float64, device=device)
        return named, _buffers(self.modules), target, told, replace(part, first=0), scale

    def _made(self, step: int, given: Any, inputs: Any) -> Graph:
        """The graph, compiled; raises ValueError where it does not do what an eager step does."""
        most = MOST_GRAPHS * (2 if self.task.arm.microbatch else 1)  # the last part may be smaller
        if len(self.graphs) == most:
            raise ValueError(f"compiled for {most} kinds of inputs, and there comes another: something moves in kind")
        self._say()
        self._eagerly(self.objective.settings_at(step), step, given)  # what is made once and kept is not to be traced
        buffers = copied(_buffers(self.modules))
        self.objective.seed(step, given[0])
        trace = traced_twice if own_modules(self.task) else traced
        graph = in_one(trace(self._differentiated, *inputs), BACKEND)
        put(_buffers(self.modules), buffers)
        self._check(graph, step, given)
        phase("training")
        return graph

    def _check(self, graph: Graph, step: int, given: Any) -> None:
        """Raises ValueError where the graph is no eager step, now and as later steps may be.

        At the first step the warm-up, which multiplies the tangent, is 0, and outputs that start at 0 leave most
        weights without a gradient: it is compared at other weights and another warm-up, too.
        """
        now, parameters = self.objective.settings_at(step), given[2]
        for settings, size in ((now, 0.0), (warmed(now, 0.5), NOISE)):
            with _disturbed(parameters, size):
                wanted = self._eagerly(settings, step, given)
                self.objective.seed(step, given[0])
                found = graph(*self._inputs(settings, *given))
                refuse_other(found, wanted, tolerance(self.task.arm, device_of(self.modules)))

    def _eagerly(self, settings: Any, step: int, given: Any) -> tuple[Tensor, Sequence[Tensor], Tensors]:
        """As `_differentiated`, by the networks themselves, whose buffers stay as they were."""
        buffers = copied(_buffers(self.modules))
        self.objective.seed(step, given[0])
        on = lambda _, target, part: self.objective.on(settings, target, part)  # noqa: E731
        try:
            part, target, parameters, factor = given
            watched, gradients = differentiated(on, step, part, target, parameters, factor, self.modules)
            return watched, gradients, copied(_buffers(self.modules))
        finally:
            put(_buffers(self.modules), buffers)

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


def refuse_other(found: Any, wanted: Any, most: float) -> None:
    """Raises ValueError where (watched, gradients, buffers) are further apart than rounding explains."""
    (watched, gradients, buffers), (seen, eager, left) = found, wanted
    apart = {"gradient": distance(gradients, eager), "watched numbers": _apart(watched, seen, most)}
    if changed := [n for n, value in left.items() if not torch.equal(as_bytes(value), as_bytes(buffers[n]))]:
        ours, eager = ([of[name] for name in changed] for of in (buffers, left))
        rounded = all(value.is_floating_point() for value in eager)  # a count is the same
        apart["buffers"] = distance(ours, eager) if rounded else math.inf
    for what, error in apart.items():
        if not error <= most:
            is_ = "is" if what == "gradient" else "are"
            raise ValueError(f"its {what} {is_} {error:.2g} of the norm from an eager step's, more than {most:g}")


def _apart(watched: Tensor, seen: Tensor, most: float) -> float:
    """`distance` of what gradients.watched_of tells; infinite where shares differ by more than a sample at a border."""
    if not torch.equal(watched.isnan(), seen.isnan()):
        return math.inf
    ours, eager = watched.nan_to_num(), seen.nan_to_num()
    if bool(((ours - eager)[SHARES].abs() > max(most, 0.1)).any()):
        return math.inf
    both = ([torch.cat([of[: SHARES.start], of[SHARES.stop :]])] for of in (ours, eager))
    return distance(*both)


def raise_what_may_pass(error: BaseException) -> None:
    """Raises what no graph is to blame for: memory as it is, for who names a remedy, and a disk's as a BenchError."""
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, BenchError | MemoryError) or any(words in str(cause) for words in OUT_OF_MEMORY):
            raise cause
    for cause in causes:
        number = cause.errno if isinstance(cause, OSError) else _told_of(str(cause))
        if number not in (None, errno.ENOENT):  # there is no compiler, say
            place = getattr(cause, "filename", None) or os.environ.get("TORCHINDUCTOR_CACHE_DIR", COMPILED)
            with writing(Path(place)):
                raise OSError(number, os.strerror(number)) from error


def _told_of(text: str) -> int | None:
    """The number of a disk's error that a compiler told in words."""
    return next((number for number in REMEDIES if os.strerror(number) in text), None)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error, and what it says that led to it."""
    while error is not None:
        yield error
        error = getattr(error, "inner_exception", None) or error.__cause__  # the one is torch.compile's


def tolerance(arm: Arm, device: torch.device) -> float:
    """Of `refuse_other`, by the coarsest precision of the arm's network on a device."""
    rounded = "tf32" if arm.tf32 and device.type == "cuda" else None
    return max(TOLERANCE[precision] for precision in (arm.precision, arm.tangent_precision, rounded) if precision)


def own_modules(task: Task) -> list[str]:
    """Objectives and networks of the step that are not the project's."""
    named = [task.arm.objective, *(size.network or "" for size in task.study.sizes.values())]
    return [path for path in named if ":" in path and not path.startswith("trigbench.")]


def moving(settings: Any, points: int | None, device: torch.device) -> Any:
    """Settings whose warm-up is a tensor, and whose grid, of a curriculum, has room for its most points.

    Edges that are added lie at the last one, with no probability between: no draw falls there.
    """

    def change(name: str, value: Any) -> Any:
        if name == "warmup" and isinstance(value, int | float):
            return torch.tensor(value, dtype=torch.float64, device=device)
        return _with_room(value, points) if isinstance(value, ProposalGrid) and points is not None else value

    return _changed(settings, change)


def warmed(settings: Any, r: float) -> Any:
    """Settings with another warm-up, where they have one."""
    return _changed(settings, lambda name, value: r if name == "warmup" and isinstance(value, int | float) else value)


def _changed(settings: Any, change: Callable[[str, Any], Any]) -> Any:
    """Settings, and those in them, with `change` of each field's name and value in its place."""
    found: dict[str, Any] = {}
    for part in fields(settings):
        value = getattr(settings, part.name)
        inside = is_dataclass(value) and not isinstance(value, type | ProposalGrid)
        found[part.name] = _changed(value, change) if inside else change(part.name, value)
    return replace(settings, **found)


@contextmanager
def _disturbed(parameters: Sequence[Tensor], size: float) -> Iterator[None]:
    """Inside, weights have noise of `size` over the root of what each output sums over: like new ones at size 1."""
    kept, noise = [p.detach().clone() for p in parameters] if size else [], torch.Generator().manual_seed(0)
    try:
        with torch.no_grad():
            for parameter in parameters if size else ():
                drawn = torch.randn(parameter.shape, generator=noise, dtype=torch.float32).to(parameter)
                parameter.add_(drawn, alpha=size / math.sqrt(math.prod(parameter.shape[1:])))
        yield
    finally:
        with torch.no_grad():
            for parameter, value in zip(parameters if size else (), kept, strict=True):
                parameter.copy_(value)


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
