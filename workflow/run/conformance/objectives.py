"""Whether an objective is what training takes it for: (fields, x0, draws, settings) -> Regression.

Training computes a step's gradient in parts, by several processes and again after a kill: so an objective is a function
of what it is given, its loss a mean over rows, and a row's part of it that row's alone.
"""

import dataclasses
import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from trigbench.core.condition import Condition
from trigbench.core.constants import PROPOSAL_MEAN, PROPOSAL_STD, SIGMA_D
from trigbench.core.fields import Draws, Fields, bind
from trigbench.core.networks.mlp import ResidualMLP
from trigbench.core.objectives import OWN_GROUP
from trigbench.core.objectives.regression import Regression, settings_for
from trigbench.core.pairs import FallbackWarning
from trigbench.core.schedules import cm_angles, karras_angles, largest_angle, uniform_angles
from trigbench.core.trigflow import Field, even_grid, proposal_grid
from trigbench.workflow.data.randomness import generator, seeded
from trigbench.workflow.errors import BenchError
from trigbench.workflow.run.conformance.finding import Check, Fault, Finding, by_chance, findings, same_bits
from trigbench.workflow.run.conformance.stationarity import draw, rests, to_data

SHAPES = ((2,), (1, 4, 4))
ROWS = 8
INTERVALS = 1024
"""Of the grid of an objective in discrete time."""
STAGE = 8
CALLED = "is called"


@dataclass(frozen=True)
class TriedObjective:
    """An objective and what it is told."""

    function: Callable[..., Any]
    settings: Any
    together: int = 1
    """Rows in a row that it compares with each other."""
    made: dict[Any, dict[str, nn.Module]] = field(default_factory=dict)

    def networks(self, shape: tuple[int, ...], dtype: torch.dtype) -> dict[str, nn.Module]:
        """`networks`, made once."""
        if (shape, dtype) not in self.made:
            self.made[shape, dtype] = networks(shape, dtype)
        return self.made[shape, dtype]

    def __call__(self, fields: Fields, x0: Tensor, draws: Draws) -> Regression:
        found = self.function(fields, x0, draws, self.settings)
        if not isinstance(found, Regression):
            remedy = "let it return trigbench.Regression, as trigbench.regress makes one of a direction"
            raise Fault(f"it returns a {type(found).__name__}", remedy)
        return found


def check_objective(
    function: Callable[..., Any],
    settings: Mapping[str, Any] | None = None,
    even: bool = False,
    halves: bool = False,
    group: str = OWN_GROUP.setting,
) -> list[Finding]:
    """All that holds of an objective, on points and images, and whether it rests at a Gaussian's exact solution.

    `settings` are its own, by name; what a study makes (a grid, segments, the control) it is given here, unless they
    say otherwise. `even` says that its grid is CM's, `halves` that its segments are steps of a solver, which are made
    fine. `group` names the setting that counts the rows in a row which it compares, if it has any. Raises ValueError
    for a setting of its dataclass that nothing gives, and BenchError for groups that a check's rows are not made of.
    """
    told = settings_for(function, **(_made(even, halves) | dict(settings or {})))
    tried = TriedObjective(function, told, _together(told, group))
    checks = {
        CALLED: _called, "keeps float64": _double, "is a function of its draws": _draws,
        "leaves nothing to chance": _chance, "leaves its inputs alone": _inputs, "rows do not mix": _rows,
        "gradients reach the student": _gradients, "rests at the exact solution": rests,
    }  # fmt: skip
    return findings({name: _of(check, tried) for name, check in checks.items()}, first=CALLED)


def _together(settings: Any, group: str) -> int:
    """Rows of a group, of which both halves of a check's rows are whole ones."""
    count = getattr(settings, group, 1)
    if not isinstance(count, int) or count < 1 or (ROWS // 2) % count:
        fitting = [str(n) for n in range(1, ROWS // 2 + 1) if (ROWS // 2) % n == 0]
        problem = f"its parts are checked on {ROWS // 2} rows, which are no whole groups of {count!r}"
        raise BenchError(
            problem, key=group, remedy=f"check it with {group}: {', '.join(fitting[:-1])} or {fitting[-1]}"
        )
    return count


def _of(check: Callable[[TriedObjective], str], tried: TriedObjective) -> Check:
    def quietly() -> str:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FallbackWarning)
            return check(tried)

    return quietly


def _made(even: bool, halves: bool) -> dict[str, Any]:
    """What a study would make of an arm's words, by the names of settings' fields."""
    proposal = (PROPOSAL_MEAN, PROPOSAL_STD)
    fine = karras_angles(INTERVALS, SIGMA_D)
    grid = even_grid(cm_angles(INTERVALS + 1, SIGMA_D)) if even else proposal_grid(fine, *proposal, SIGMA_D)
    steps = uniform_angles(INTERVALS, largest_angle(SIGMA_D))[:-1]
    segments = steps if halves else fine[torch.searchsorted(fine, fine.new_tensor([0.0, 0.5, 1.0]))]
    return {"sigma_d": SIGMA_D, "grid": grid, "segments": segments, "stage": STAGE}


def networks(shape: tuple[int, ...], dtype: torch.dtype) -> dict[str, nn.Module]:
    """Student, teacher and fake, whose last layers do not start at zero."""
    found: dict[str, nn.Module] = {}
    for name in ("student", "teacher", "fake"):
        told = ("target_time",) if name == "student" else ()
        with seeded("conformance", name):
            network = ResidualMLP(shape, width=16, blocks=1, told=told)
            for parameter in network.parameters():
                parameter.data += 0.1 * torch.randn(parameter.shape)
        found[name] = network.to(dtype)
    return found


def fields_of(found: Mapping[str, nn.Module]) -> Fields:
    """All that an objective may ask for."""

    def student_to(u: Tensor) -> Field:
        return bind(found["student"], condition=Condition(target_time=u))

    return Fields(to_data(student_to), bind(found["teacher"]), fake=bind(found["fake"]), student_to=student_to)


def _value(tried: TriedObjective, dtype: torch.dtype, shape: tuple[int, ...], seed: int = 0) -> Regression:
    return tried(fields_of(tried.networks(shape, dtype)), *draw(shape, ROWS, dtype, seed))


def _checked(tried: TriedObjective, dtype: torch.dtype) -> list[Regression]:
    every = [_value(tried, dtype, shape) for shape in SHAPES]
    for found in every:
        if found.loss.shape != () or found.direction_norm.shape != (ROWS,):
            said = f"a loss of {tuple(found.loss.shape)} and norms of {tuple(found.direction_norm.shape)}"
            raise Fault(f"it gives {said} for {ROWS} rows", "give the mean loss as a number, and one norm a row")
        if not bool(found.loss.isfinite()) or not bool(found.direction_norm.isfinite().all()):
            raise Fault("its loss or norms are not finite", "look for a division by sin(t) or by a norm that may be 0")
        if found.loss.dtype != dtype:
            remedy = "bring angles to the dtype of x0 where they meet it: trigbench.core.trigflow.cos_sin does"
            raise Fault(f"its loss is {found.loss.dtype} for data of {dtype}", remedy)
    return every


def _called(tried: TriedObjective) -> str:
    _checked(tried, torch.float32)
    return f"points of {' and '.join(map(str, SHAPES))}: a finite loss, and a norm a row, in float32"


def _double(tried: TriedObjective) -> str:
    pairs = zip(_checked(tried, torch.float64), _checked(tried, torch.float32), strict=True)
    error = max(float((a.direction_norm - b.direction_norm).norm() / a.direction_norm.norm()) for a, b in pairs)
    return f"and float32 agrees to {error:.1g}"


def _draws(tried: TriedObjective) -> str:
    first, again, other = (_value(tried, torch.float32, SHAPES[0], seed) for seed in (0, 0, 1))
    if not same_bits(first.loss, again.loss) or not same_bits(first.direction_norm, again.direction_norm):
        raise Fault("called twice with the same draws it differs", "keep no state between calls")
    if same_bits(first.loss, other.loss):
        raise Fault("other draws give the same loss", "use x0, draws.uniform and draws.noise")
    return "same draws, same bits; other draws, others"


def _chance(tried: TriedObjective) -> str:
    one, other = (by_chance(lambda: _value(tried, torch.float32, SHAPES[0]), seed) for seed in (0, 1))
    if not same_bits(one.loss, other.loss):
        remedy = "take all randomness from `draws` (uniform, noise; lower and middle where two_times), or ask for more"
        raise Fault("it draws from a global generator", remedy)
    return "global generators change nothing"


def _inputs(tried: TriedObjective) -> str:
    found = tried.networks(SHAPES[0], torch.float32)
    x0, draws = draw(SHAPES[0], ROWS, torch.float32)
    same_x0, same = draw(SHAPES[0], ROWS, torch.float32)
    before = {name: [p.clone() for p in network.parameters()] for name, network in found.items()}
    tried(fields_of(found), x0, draws)
    if not torch.equal(x0, same_x0) or not _equal(draws, same):
        raise Fault("it changes x0 or draws", "write to copies: no `+=` and no method that ends in _ on what is given")
    for name, network in found.items():
        if any(not torch.equal(p, old) for p, old in zip(network.parameters(), before[name], strict=True)):
            raise Fault(f"it changes the {name}'s parameters", "leave steps to the optimiser")
    return "x0, draws and parameters"


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return torch.equal(one, other)
    names = [part.name for part in dataclasses.fields(one)] if dataclasses.is_dataclass(one) else []
    return all(_equal(getattr(one, name), getattr(other, name)) for name in names)


def _taken(value: Any, rows: Tensor) -> Any:
    """The draws of some rows."""
    if isinstance(value, Tensor):
        return value[rows]
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return value
    parts = {part.name: _taken(getattr(value, part.name), rows) for part in dataclasses.fields(value)}
    return dataclasses.replace(value, **parts)


def _rows(tried: TriedObjective) -> str:
    fields = fields_of(tried.networks(SHAPES[0], torch.float64))
    x0, draws = draw(SHAPES[0], ROWS, torch.float64)
    whole = tried(fields, x0, draws)
    together = tried.together
    groups = torch.randperm(ROWS // together, generator=generator("conformance", "order"))
    order = (groups[:, None] * together + torch.arange(together)).flatten()
    halves = [order[: ROWS // 2], order[ROWS // 2 :]]
    parts = [tried(fields, x0[rows], _taken(draws, rows)) for rows in halves]
    norms = torch.cat([part.direction_norm for part in parts])
    loss = torch.stack([part.loss for part in parts]).mean()
    remedy = "let nothing go over the first axis but the mean of the loss: a step's gradient is computed in parts"
    scale = whole.direction_norm.norm().clamp(min=1e-12)
    if float((norms - whole.direction_norm[order]).norm() / scale) > 1e-8:
        raise Fault("a row's norm depends on other rows, or on its place", remedy)
    if not math.isclose(loss.item(), whole.loss.item(), rel_tol=1e-8, abs_tol=1e-12):
        raise Fault("the loss of a batch is not the mean of its halves' losses", remedy)
    return (
        f"the loss is a mean over {'rows' if together == 1 else f'groups of {together} rows'}, in any order and parts"
    )


def _gradients(tried: TriedObjective) -> str:
    found = tried.networks(SHAPES[0], torch.float32)
    for network in found.values():
        network.zero_grad()
    tried(fields_of(found), *draw(SHAPES[0], ROWS, torch.float32)).loss.backward()
    every = {name: [p.grad for p in net.parameters() if p.grad is not None] for name, net in found.items()}
    reached = {name: [gradient for gradient in some if gradient.any()] for name, some in every.items()}
    bad = [name for name, some in reached.items() if not all(bool(gradient.isfinite().all()) for gradient in some)]
    if bad:
        raise Fault(f"gradients of the {bad[0]} are not finite", "look for a root or norm at 0")
    if not reached["student"]:
        raise Fault("no gradient reaches the student", "keep fields.student's output out of no_grad and detach")
    if reached["teacher"]:
        remedy = "call it under torch.no_grad(), which also spares its memory"
        raise Fault("a gradient reaches the teacher, which is not trained", remedy)
    return "and none the teacher" + (", but the fake too" if reached["fake"] else "")
