"""How a run's training ended."""

import math
from dataclasses import dataclass, field, replace

import torch

from trigbench.core.networks.log_weight import LogWeight
from trigbench.core.noise_left import BINS, MIDDLES
from trigbench.core.schedules import largest_angle
from trigbench.workflow.run.assembly import Modules
from trigbench.workflow.run.held import HeldBatch
from trigbench.workflow.run.journal import Journal
from trigbench.workflow.run.log import looks_of
from trigbench.workflow.run.task import Task

WEIGHT_ANGLES = 32
"""Angles at which the learned log weights are written down."""


@dataclass(frozen=True)
class Outcome:
    """Of workflow.study.records.TrainingRecord, which says what each is, all that training itself knows."""

    step: int
    reason: str | None = None
    last_good_checkpoint: int | None = None
    last_direction_norm: float | None = None
    seconds: float = 0.0
    processes: int = 1
    images_per_second: float = 0.0
    waiting_for_data: float = 0.0
    device_utilisation: float | None = None
    rate: float = 0.0
    tf32: bool = False
    compiled: bool = False
    fell_back: str | None = None
    log_weight: list[list[float]] = field(default_factory=list)
    noise_left: list[list[float | None]] = field(default_factory=list)


def completed(outcome: Outcome, journal: Journal, held: HeldBatch | None, task: Task, modules: Modules) -> Outcome:
    """With what is known at the end."""
    seconds = outcome.seconds or math.inf
    return replace(
        outcome,
        images_per_second=outcome.step * task.arm.batch / seconds,
        waiting_for_data=journal.data_seconds / seconds,
        device_utilisation=None if journal.busy_seconds is None else journal.busy_seconds / seconds,
        log_weight=[] if outcome.reason else _learned_weight(modules, task.study.sigma_d),
        noise_left=_noise_left(held, journal),
    )


def _noise_left(held: HeldBatch | None, journal: Journal) -> list[list[float | None]]:
    """Of the last look."""
    looks = looks_of(journal.rows)
    if held is None or not looks:
        return []
    left, taught = looks[-1], held.taught or [None] * BINS
    return [list(row) for row in zip(MIDDLES, held.elapsed, left, taught, strict=True)]


def _learned_weight(modules: Modules, sigma_d: float) -> list[list[float]]:
    log_weight = modules.extras.get("log_weight")
    if not isinstance(log_weight, LogWeight):
        return []
    angles = torch.linspace(0.01, largest_angle(sigma_d), WEIGHT_ANGLES)
    with torch.no_grad():
        weights = log_weight(angles.to(log_weight.head.weight.device))
    return [[t, w] for t, w in zip(angles.tolist(), weights.tolist(), strict=True)]
