"""An audit of a loss by its name: an objective of the project, or somebody's own function."""

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from trigbench._nearest import choice
from trigbench.core.audit import AuditReport, audit_loss
from trigbench.core.audit.objectives import loss_of, uses_teacher
from trigbench.core.audit.probe import Loss
from trigbench.core.audit.remedies import remedy_of
from trigbench.core.fields import bind
from trigbench.core.networks.mlp import ResidualMLP
from trigbench.core.objectives import OBJECTIVES
from trigbench.core.trigflow import Field
from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine.named import named, named_here, problem_of

TIMES = (0.1, 0.5, 1.0, 1.4)
SAMPLES = 5
"""Of each time."""
SHAPE = (3, 8, 8)
LOSS, OBJECTIVE = "field, teacher, x0, z, t, r", "fields, x0, draws, settings"
NAMES = [name for name, method in OBJECTIVES.items() if not (method.fake or method.two_times or method.own_times)]
"""The project's objectives that train one field, at one time that an audit may choose."""


@dataclass(frozen=True)
class Audited:
    """A report, and what it is of."""

    path: str
    distils: bool
    sigma_d: float
    r: tuple[float, ...]
    report: AuditReport

    def __str__(self) -> str:
        """Every finding, with a remedy below what is wrong."""
        kind = "with a teacher" if self.distils else "without a teacher"
        at_r = " and ".join(f"{value:g}" for value in self.r)
        lines = [f"{self.path}, {kind}, at sigma_d = {self.sigma_d:g}, r = {at_r}"]
        for line in str(self.report).splitlines():
            start, _, problem = line.partition("wrong: ")
            lines += [line] if start or not problem else [line, f"  remedy: {remedy_of(problem)}"]
        return "\n".join(lines)

    def content(self) -> dict[str, Any]:
        """The same for other programs; what is no number is None."""
        about = {"loss": self.path, "teacher": self.distils, "sigma_d": self.sigma_d, "r": list(self.r)}
        problems = [{"problem": problem, "remedy": remedy_of(problem)} for problem in self.report.problems]
        remainder = self.report.remainder if math.isfinite(self.report.remainder) else None
        found = {"right": self.report.right, "problems": problems, "notes": list(self.report.notes)}
        return {**about, **found, "ratios": self.report.ratios, "remainder": remainder}


def audit(path: str, sigma_d: float, r: Sequence[float]) -> Audited:
    """Audit what `path` names, on small random networks. Raises BenchError for what cannot be audited.

    It is an objective of the project, `module:function` or `file.py:function`: a loss (field, teacher, x0, z, t, r),
    or an objective of the contract (fields, x0, draws, settings).
    """
    for key, value in (("--sigma-d", sigma_d), *(("--r", value) for value in r)):
        if not (math.isfinite(value) and value > 0):
            raise BenchError(f"nothing can be audited at {value:g}", key=key, remedy="give a number above 0")
    loss = _loss(path, sigma_d)
    if above := [value for value in r if value > 1]:
        raise BenchError(f"a warm-up does not pass 1, got {above[0]:g}", key="--r", remedy="give numbers from 0 to 1")
    draw = torch.Generator().manual_seed(0)
    t = torch.tensor(TIMES, dtype=torch.float64).repeat_interleave(SAMPLES)
    x0, z = (_normal(draw, len(t), sigma_d) for _ in range(2))
    field, teacher = (_random_field(seed) for seed in range(2))
    try:
        distils = uses_teacher(loss, x0, z, t)
        report = audit_loss(loss, field, x0, z, t, sigma_d, teacher if distils else None, r)
    except BenchError:
        raise
    except Exception as error:
        remedy = "mend it, or write it as a loss (field, teacher, x0, z, t, r): docs/audit.md"
        raise BenchError(f"it cannot be audited: {problem_of(error)}", key=path, remedy=remedy) from error
    return Audited(path, distils, sigma_d, tuple(r), report)


def _loss(path: str, sigma_d: float) -> Loss:
    if ":" not in path:
        if path not in NAMES:
            more = "trains more than one field, tells it a second time, or trains at times of its own"
            what = more if path in OBJECTIVES else "is no objective"
            remedy = f"name a function, module:function or file.py:function, or an objective: {choice(path, NAMES)}"
            raise BenchError(f"{path!r} {what}", key="LOSS", remedy=remedy)
        return loss_of(named(OBJECTIVES[path].path), sigma_d)
    function = named_here(path)
    if _takes(function, LOSS):
        return function
    if _takes(function, OBJECTIVE):
        return loss_of(function, sigma_d)
    remedy = f"let it take ({LOSS}), or be an objective ({OBJECTIVE})"
    raise BenchError("it is no loss that can be audited", key=path, remedy=remedy)


def _takes(function: Callable[..., Any], given: str) -> bool:
    """Whether it can be called with so many arguments."""
    try:
        inspect.signature(function).bind(*given.split(", "))
    except (TypeError, ValueError):
        return False
    return True


def _normal(draw: torch.Generator, count: int, std: float) -> Tensor:
    return std * torch.randn(count, *SHAPE, generator=draw, dtype=torch.float64)


def _random_field(seed: int) -> Field:
    """Any network will do, as long as its output is not zero."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = ResidualMLP(SHAPE, width=32, blocks=2).double()
        nn.init.normal_(network.project.weight, std=0.3)
    return bind(network)
