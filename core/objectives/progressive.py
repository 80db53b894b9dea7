"""Progressive distillation (arXiv 2202.00512): a student whose one DDIM step is two of its teacher's."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from trigbench.core.constants import SIGMA_D
from trigbench.core.fields import Draws, Fields
from trigbench.core.flow_maps import semigroup_target
from trigbench.core.objectives.regression import Regression, regress
from trigbench.core.schedules import largest_angle
from trigbench.core.tangents import Direction
from trigbench.core.trigflow import Batch, Field, Times, cos_sin, interpolate, rotate

SnrWeight = Literal["truncated", "plus_one"]


@dataclass(frozen=True)
class PDSettings:
    """Of `pd`, in unit variance."""

    segments: Float[Tensor, " edges"]
    """Lower ends of the student's steps, ascending from 0; the last step starts at t_max."""
    sigma_d: float = SIGMA_D
    """Standard deviation of the data in data units, above 0."""
    snr_weight: SnrWeight = "truncated"
    """Of the squared error of the predicted data: max(SNR, 1), or SNR + 1, SNR = (cos t / sin t)^2."""
    teacher_steps: int = 2
    """Of the teacher that are one of the student's; with 1 it is what the teacher is, guided (arXiv 2210.03142)."""


def pd(fields: Fields, x0: Batch, draws: Draws, settings: PDSettings) -> Regression:
    """Progressive distillation: the output at t whose DDIM step to the step's end is two of the teacher's (Alg. 2).

    The student is told no end: its steps are its grid's, even in the angle, which is the paper's cosine schedule, and
    drawn evenly. The teacher is asked at their starts and middles alone, so that it may itself be the student of a
    stage before, of twice as many steps. With x^ = cos(t) x - sin(t) F, SNR + 1 is no weight on F, and max(SNR, 1) is
    max(cos^2 t, sin^2 t).

    A guided teacher makes a student that is told the scale s = 1 + w (arXiv 2210.03142): in the first stage, of
    `teacher_steps` 1, x^ onto (1 + w) x^_c - w x^_none, and from there on in halves, each teacher told the scale.

    All of it is of unit variance; the paper's images have a standard deviation of about 0.5 beside noise of 1, so that
    its SNR at the same noise level is about four times ours. Raises ValueError without a teacher, and for other
    numbers of its steps than 1 and 2.
    """
    if fields.teacher is None:
        raise ValueError("pd needs fields.teacher")
    t, u = step_of(draws.uniform, settings.segments, settings.sigma_d)
    x = interpolate(x0, draws.noise, t)
    target = steps_in_one(fields.teacher, x, t, u, settings.teacher_steps)
    F = fields.student(x, t)
    return regress(Direction(F, error_weight(t, x, settings.snr_weight) * (target - F.detach())), t)


def step_of(uniform: Times, segments: Float[Tensor, " edges"], sigma_d: float) -> tuple[Times, Times]:
    """The student's step (t, u), u < t, that each draw in (0, 1) falls into; each is equally likely."""
    edges = torch.cat([segments.to(uniform), uniform.new_tensor([largest_angle(sigma_d)])])
    lower = (uniform * len(segments)).long().clamp(max=len(segments) - 1)
    return edges[lower + 1], edges[lower]


@torch.no_grad()
def steps_in_one(teacher: Field, x: Batch, t: Times, u: Times, steps: int = 2) -> Batch:
    """The F whose rotation from t to u ends where DDIM steps of the teacher do: one, or two, the second from the
    middle.

    Raises ValueError for another number.
    """
    if steps not in (1, 2):
        raise ValueError(f"a student's step is 1 of its teacher's or 2, got {steps}")
    m, first = (t + u) / 2, teacher(x, t)
    if steps == 1:
        return first
    second = teacher(rotate(x, first, t, m), m)
    return semigroup_target(x, first, second, t, m, u)


def error_weight(t: Times, like: Batch, snr_weight: SnrWeight) -> Float[Tensor, "batch ..."]:
    """What a weight on |x^ - x~|^2 is on |F - F~|^2: sin^2 t of it.

    Raises ValueError for an unknown weight.
    """
    c, s = cos_sin(t, like)
    weights = {"truncated": torch.maximum(c.square(), s.square()), "plus_one": torch.ones_like(c)}
    if snr_weight not in weights:
        raise ValueError(f"unknown weight {snr_weight!r}; choose {' or '.join(weights)}")
    return weights[snr_weight]
