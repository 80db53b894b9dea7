"""Variational score distillation in TrigFlow, alone and beside sCD (arXiv 2410.11081, App. C)."""

from dataclasses import dataclass, field, replace
from typing import Literal

import torch

from trigbench.core.constants import SIGMA_D
from trigbench.core.fields import Draws, Fields
from trigbench.core.objectives.continuous import ContinuousSettings, scd
from trigbench.core.objectives.diffusion import DiffusionSettings, diffusion
from trigbench.core.objectives.regression import Regression, regress
from trigbench.core.schedules import largest_angle
from trigbench.core.tangents import Direction
from trigbench.core.trigflow import Batch, consistency_map, interpolate, lognormal_angle, rotate


@dataclass(frozen=True)
class ScoreSettings:
    """Of `vsd`, in unit variance."""

    sigma_d: float = SIGMA_D
    """Standard deviation of the data in data units, above 0."""
    score_proposal: tuple[float, float] = (0.4, 2.0)
    """Mean and standard deviation of ln sigma at which scores are compared (Table 5)."""
    fake_proposal: tuple[float, float] = (-0.8, 1.6)
    """The same, at which the fake learns (Table 5)."""
    score_scale: Literal["adaptive", "dmd"] = "adaptive"
    """What scales the difference of scores: the learned e^w, or DMD's mean distance to the teacher's estimate."""
    score_weight: float = SIGMA_D
    """lambda_VSD: the paper's 1.0 times sigma_d = 0.5, since its residual mixes data units and F."""
    log_weight_max: float | None = None
    """Upper bound of the adaptive log weight; None leaves it free."""


@dataclass(frozen=True)
class ScdVsdSettings:
    """Of `scd_vsd`: those of both."""

    consistency: ContinuousSettings = field(default_factory=ContinuousSettings)
    """Of its part that is sCD."""
    score: ScoreSettings = field(default_factory=ScoreSettings)
    """Of its part that is VSD."""


def vsd(fields: Fields, x0: Batch, draws: Draws, settings: ScoreSettings) -> Regression:
    """aVSD: the student's one-step samples move along F_fake - F_teacher, while the fake learns their diffusion.

    x0 is not used: the data enter through the teacher. The two losses share no parameters, so their
    sum trains both in one step. Raises ValueError without a teacher, a fake, or their draws.
    """
    if (
        fields.teacher is None
        or fields.fake is None
        or draws.start is None
        or draws.score is None
        or draws.fake is None
    ):
        raise ValueError("vsd needs fields.teacher, fields.fake and draws.start, .score and .fake")
    t_max = torch.full_like(draws.uniform, largest_angle(settings.sigma_d))
    generated = consistency_map(fields.student, interpolate(torch.zeros_like(draws.start), draws.start, t_max), t_max)
    moved = _score_regression(fields, generated, draws.score, settings)
    mean, std = settings.fake_proposal
    learned = diffusion(
        Fields(fields.fake, log_weight=fields.fake_log_weight),
        generated.detach(),
        draws.fake,
        DiffusionSettings(settings.sigma_d, mean, std, settings.log_weight_max),
    )
    return replace(moved, loss=moved.loss + learned.loss)


def scd_vsd(fields: Fields, x0: Batch, draws: Draws, settings: ScdVsdSettings) -> Regression:
    """L_sCD + lambda L_VSD (Sec. 5.2), and the fake's loss; norms watched are sCD's.

    Raises ValueError as scd and vsd do.
    """
    consistency = scd(fields, x0, draws, settings.consistency)
    return replace(consistency, loss=consistency.loss + vsd(fields, x0, draws, settings.score).loss)


def _score_regression(fields: Fields, generated: Batch, draws: Draws, settings: ScoreSettings) -> Regression:
    """lambda times e^w / D ||x - sg(x) - (F_fake - F_teacher)||^2 - w, x the generated samples (App. C.2)."""
    assert fields.teacher is not None and fields.fake is not None
    t = lognormal_angle(draws.uniform, *settings.score_proposal, settings.sigma_d)
    with torch.no_grad():
        x = interpolate(generated, draws.noise, t)
        teacher, fake = fields.teacher(x, t), fields.fake(x, t)
        g = fake - teacher
        if settings.score_scale == "dmd":
            # (D_teacher - D_fake) / mean|x0 - D_teacher|, since D = cos(t) x - sin(t) F (arXiv 2311.18828)
            zero = torch.zeros_like(t)
            real = rotate(x, teacher, t, zero)
            size = (generated - real).abs().flatten(1).mean(1)
            g = (real - rotate(x, fake, t, zero)) / size.reshape(-1, *[1] * (g.ndim - 1))
    weight = fields.score_log_weight if settings.score_scale == "adaptive" else None
    found = regress(Direction(generated, g), t, weight, settings.log_weight_max)
    return replace(found, loss=settings.score_weight * found.loss)
