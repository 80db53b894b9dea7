"""Score identity distillation: one-step samples by a divergence of scores that has its gradient through both networks.

The fake, a diffusion model of the samples, learns beside the student, as in core.objectives.distribution_matching.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from trigbench.core.constants import SIGMA_D
from trigbench.core.fields import Draws, Fields
from trigbench.core.objectives.diffusion import DiffusionSettings, diffusion
from trigbench.core.objectives.distribution_matching import SMALLEST, check_scores, karras_angle
from trigbench.core.objectives.regression import Regression, regress
from trigbench.core.schedules import largest_angle
from trigbench.core.tangents import Direction
from trigbench.core.trigflow import Batch, Field, Times, consistency_map, interpolate

LAST_SHARE = 0.8
"""Of EDM's spacing of noise levels, up to which scores are compared."""
FAKE_PROPOSAL = (-1.2, 1.2)
"""Mean and standard deviation of ln sigma, EDM's, at which the fake learns."""


@dataclass(frozen=True)
class SiDSettings:
    """Of `sid`."""

    sigma_d: float = SIGMA_D
    """Standard deviation of the data in data units, above 0."""
    alpha: float = 1.2
    """Of the square of the estimates' difference that is taken off."""


def sid(fields: Fields, x0: Batch, draws: Draws, settings: SiDSettings) -> Regression:
    """SiD: one-step samples x descend on (D - D_fake) (D - x - alpha (D - D_fake)) / mean|x - D|, D the teacher's.

    In data units and a mean over elements, with both estimates of x noised to a level of EDM's spacing, as likely up to
    80 % of it (arXiv 2404.04057, and its code). The gradient passes through both networks to their input, and to no
    parameters of theirs; the divisor has none. The fake learns by EDM's loss. x0 is not used: data enter through the
    teacher.

    Where we differ: samples start at t_max, and not at noise of sigma 2.5; student and fake move in one step. Raises
    ValueError without a teacher, a fake, or their draws.
    """
    check_scores("sid", fields, draws)
    assert fields.teacher and fields.fake and draws.start is not None and draws.score and draws.fake
    t_max = torch.full_like(draws.uniform, largest_angle(settings.sigma_d))
    samples = consistency_map(fields.student, interpolate(torch.zeros_like(draws.start), draws.start, t_max), t_max)
    t = karras_angle(draws.score.uniform, settings.sigma_d, last=LAST_SHARE)
    pulled = _pulled(fields.teacher, fields.fake, samples, draws.score.noise, t, settings.alpha)
    moved = regress(Direction(samples, -settings.sigma_d / 2 * pulled), t)
    learned = diffusion(
        Fields(fields.fake), samples.detach(), draws.fake, DiffusionSettings(settings.sigma_d, *FAKE_PROPOSAL)
    )
    return replace(moved, loss=moved.loss + learned.loss)


def identity_loss(
    teacher: Field, fake: Field, samples: Batch, noise: Batch, t: Times, alpha: float
) -> Float[Tensor, " batch"]:
    """(D - D_fake) . (D - x - alpha (D - D_fake)) / mean|x - D| of each sample x, with a gradient in x."""
    x = interpolate(samples, noise, t)
    real, learned = consistency_map(teacher, x, t), consistency_map(fake, x, t)
    size = (samples - real).detach().abs().flatten(1).mean(1).clamp(min=SMALLEST)
    return ((real - learned) * (real - samples - alpha * (real - learned))).flatten(1).sum(1) / size


def _pulled(teacher: Field, fake: Field, samples: Batch, noise: Batch, t: Times, alpha: float) -> Batch:
    """The gradient of `identity_loss` in the samples, and in nothing else."""
    with torch.enable_grad():
        samples = samples.detach().requires_grad_()
        return torch.autograd.grad(identity_loss(teacher, fake, samples, noise, t, alpha).sum(), samples)[0]
