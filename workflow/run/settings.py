"""An arm's settings as the core takes them: its words, in the paper's units, made values in unit variance."""

import math
from collections.abc import Callable
from functools import cache, partial
from typing import Any

from torch import Tensor

from trigbench.core import ema
from trigbench.core.objectives.regression import settings_for
from trigbench.core.schedules import (
    cm_angles,
    cm_target_decay,
    constant_rate,
    inverse_sqrt_rate,
    karras_angles,
    largest_angle,
    tangent_warmup,
    uniform_angles,
)
from trigbench.core.solvers import SOLVERS
from trigbench.core.tangents import Clip, Control, derivative_along, normalise, raw
from trigbench.core.trigflow import ProposalGrid, even_grid, proposal_grid
from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine.named import named
from trigbench.workflow.run.task import Task
from trigbench.workflow.study.schema import METHOD_SETTINGS, Arm

MADE = (
    *METHOD_SETTINGS, "sigma_d", "derivative", "log_weight_max", "score_weight", "stage",
)  # fmt: skip
"""Names of fields of settings that are filled with what the arm's words, or the study's, are made into."""


def settings_of(task: Task) -> Callable[[int], Any]:
    """`settings_at` of the task's arm. Raises BenchError for a setting that has neither value nor default."""
    at = settings_at(task.arm, task.study.sigma_d)

    def settings(step: int) -> Any:
        try:
            return at(step)
        except ValueError as error:
            key = f"arms.{task.run.arm}"
            raise BenchError(str(error), file=task.study.file, key=key, remedy="add it there") from error

    return settings


def settings_at(arm: Arm, sigma_d: float) -> Callable[[int], Any]:
    """step -> what the arm's objective is told then, by the names of its settings' fields (settings_for).

    Each is what the arm's words, in the paper's units, are in unit variance, or the arm's own setting of that name.
    Raises ValueError for one that has neither, nor a default.
    """
    objective, fixed = named(arm.method.path), _in_unit_variance(arm, sigma_d)
    return lambda step: settings_for(objective, **fixed | _of_step(arm, sigma_d, step))


def _in_unit_variance(arm: Arm, sigma_d: float) -> dict[str, Any]:
    """By the names of fields of settings: the arm's, in the paper's units, as the core's; None leaves their default."""
    values = {name: getattr(arm, name) for name in METHOD_SETTINGS} | arm.settings
    values |= {
        "sigma_d": sigma_d,
        "control": _control(arm, sigma_d),
        "derivative": partial(derivative_along, method=arm.tangent_method),
        "grid": _fixed_grid(arm, sigma_d),
        "solver": named(SOLVERS[arm.solver].path) if arm.solver else None,
        "log_weight_max": math.log(arm.weight_max) if arm.weight_max else None,
        "segments": segment_edges(arm, sigma_d)[:-1] if arm.segments else None,
        "score_weight": sigma_d,  # the paper's lambda = 1 in its mixed units
    }
    return {name: value for name, value in values.items() if value is not None}


def _of_step(arm: Arm, sigma_d: float, step: int) -> dict[str, Any]:
    """The same, of what changes along training."""
    values = {"warmup": tangent_warmup(step - 1, arm.warmup), "stage": (arm.stages or 1) * (step - 1) // arm.iterations}
    points = points_at(arm, step)
    if points is None:
        return values
    return values | {"grid": _grid_of_points(points, arm.proposal_mean, arm.proposal_std, arm.method.even, sigma_d)}


def learning_rate(arm: Arm, step: int, rate: float | None = None) -> float:
    """The arm's rate at optimiser step >= 1, or that of another `rate` on the same schedule."""
    rate = rate or arm.rate
    if arm.rate_reference is None:
        return constant_rate(step, rate, arm.rampup)
    return inverse_sqrt_rate(step, rate, arm.rate_reference, arm.rampup)


def points_at(arm: Arm, step: int) -> int | None:
    """N(k) of the method's curriculum; None where it has none."""
    curriculum = arm.method.points
    if curriculum is None or arm.points is None:
        return None
    return named(curriculum.path)(step - 1, arm.iterations, *arm.points)


def snapshot_steps(arm: Arm) -> list[int]:
    """Steps after which the average is kept: evenly spaced, the last one at the end."""
    return [round(arm.iterations * (i + 1) / arm.snapshots) for i in range(arm.snapshots)] if arm.snapshots else []


def average_decay(arm: Arm, step: int) -> float:
    """beta of the student's average at optimiser step >= 1: of a half-life in images, or of a power of the step."""
    if arm.ema_std is not None:
        return ema.power_function_beta(step, ema.gamma_from_relative_width(arm.ema_std))
    return ema.half_life_beta(arm.batch, float(arm.ema_half_life or 0), step * arm.batch, arm.ema_rampup)


def target_decay(arm: Arm, step: int) -> float:
    """mu of the targets' average: CT's schedule where there is a curriculum, else a constant."""
    points = points_at(arm, step)
    initial = arm.target_decay or 0.0
    return initial if points is None or arm.points is None else cm_target_decay(points, arm.points[0], initial)


def segment_edges(arm: Arm, sigma_d: float) -> Tensor:
    """The edges of multi-step sCD's segments, 0 and t_max among them: even in the angle."""
    return uniform_angles(arm.segments or 1, largest_angle(sigma_d))


def _control(arm: Arm, sigma_d: float) -> Control:
    constant = arm.control_constant / sigma_d
    return {
        "normalise": partial(normalise, constant=constant),
        "normalise_rms": partial(normalise, constant=constant, norm="rms"),
        "clip": Clip(sigma_d),
        "raw": partial(raw, sigma_d=sigma_d),
    }[arm.control]


def _fixed_grid(arm: Arm, sigma_d: float) -> ProposalGrid | None:
    if arm.intervals is None:
        return None
    if arm.method.even:
        return even_grid(cm_angles(arm.intervals + 1, sigma_d))
    if arm.grid == "karras":
        angles = karras_angles(arm.intervals, sigma_d)
    else:
        angles = uniform_angles(arm.intervals, largest_angle(sigma_d))
    return proposal_grid(angles, arm.proposal_mean, arm.proposal_std, sigma_d)


@cache
def _grid_of_points(points: int, mean: float, std: float, even: bool, sigma_d: float) -> ProposalGrid:
    """CT draws its intervals evenly, iCT from the log-normal proposal."""
    angles = cm_angles(points, sigma_d)
    return even_grid(angles) if even else proposal_grid(angles, mean, std, sigma_d)
