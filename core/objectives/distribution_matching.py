"""Matching the law of what a student samples: along the difference of a teacher's and a fake's estimates.

Samples are those of the student's own steps, simulated (DMD2's backward simulation). The fake, a diffusion model of
these samples, learns in the same step; it shares no parameters with the student, so the sum of both losses trains both.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from trigbench.core.constants import SIGMA_D, SIGMA_MAX, SIGMA_MIN
from trigbench.core.fields import Draws, Fields
from trigbench.core.objectives.continuous import ContinuousSettings
from trigbench.core.objectives.regression import Regression, regress
from trigbench.core.schedules import largest_angle
from trigbench.core.tangents import Derivative, Direction, Number
from trigbench.core.trigflow import (
    Batch,
    Field,
    Times,
    consistency_map,
    cos_sin,
    interpolate,
    lognormal_angle,
    rotate,
    velocity,
)

Lower = Callable[[int, Tensor], Tensor]
"""(re-noising, counted from 0; uniform of (batch,)) -> the angle up to which samples are noised again."""
RCM_PROPOSAL = (0.0, 1.6)
"""Of ln tan t, at which rCM compares estimates, its fake learns, and its samples are noised again (sigma_d = 1)."""
DMD2_TIMES = (1.3, 1.0, 0.6)
"""To which dmd2's samples are noised again: the angles of rCM's sampler of four steps."""
DMD2_SHARES = (0.02, 0.98)
"""Of EDM's spacing of noise levels, between which dmd2 compares estimates."""
SMALLEST = 1e-5
"""Of the mean distance that divides, in unit variance: rCM's. DMD2's code has none, and puts 0 for NaN; SiD's has 1e-5
in data units, which is SMALLEST / sigma_d here."""


@dataclass(frozen=True)
class RCMSettings:
    """Of `rcm`."""

    consistency: ContinuousSettings = field(default_factory=ContinuousSettings)
    """Of its part that is sCD."""
    reverse_weight: float = 0.01
    """lambda; at D elements 0.01 sqrt(2e6 / D) is as strong as in the paper (docs/methods/rcm.md)."""
    rollout_steps: int = 4
    """Steps of the student in a simulated sample, at most."""


def rcm(fields: Fields, x0: Batch, draws: Draws, settings: RCMSettings) -> Regression:
    """rCM: sCD, and lambda times DMD's reverse divergence of the student's own samples, by a fake that learns them.

    The samples take 1 to 4 steps, each number as likely, at falling angles of the proposal, and only the last step has
    a gradient (arXiv 2510.08431). During sCD's warm-up, r < 1, there is no second term, and F - v has the factor
    cos t sqrt(1 - r^2 sin^2 t) in place of cos^2 t. Norms watched are sCD's.

    Where we differ: the fake takes one step a student's, at `fake_rate`, and not several; c of the normalised tangent
    is sCM's. Raises ValueError without a teacher, a fake, or their draws.
    """
    check_scores("rcm", fields, draws)
    moved = _consistency(fields, x0, draws, settings.consistency)
    r = settings.consistency.warmup
    if not isinstance(r, Tensor) and r < 1:
        return moved

    def again(_: int, uniform: Tensor) -> Tensor:
        return lognormal_angle(uniform, *RCM_PROPOSAL, sigma_d=1.0)

    samples = simulated(fields.student, draws, settings.rollout_steps, again, settings.consistency.sigma_d)
    assert draws.score is not None and draws.fake is not None
    t = lognormal_angle(draws.score.uniform, *RCM_PROPOSAL, sigma_d=1.0)
    apart = matching(fields, samples, draws.score.noise, t)
    later = lognormal_angle(draws.fake.uniform, *RCM_PROPOSAL, sigma_d=1.0)
    learned = denoising(_fake(fields), samples.detach(), draws.fake.noise, later)
    whole = moved.loss + settings.reverse_weight * apart.loss + learned.loss
    # a compiled step has r as a tensor, and both
    return replace(moved, loss=torch.where(r < 1, moved.loss, whole) if isinstance(r, Tensor) else whole)


@dataclass(frozen=True)
class DMD2Settings:
    """Of `dmd2`."""

    sigma_d: float = SIGMA_D
    """Standard deviation of the data in data units, above 0."""
    rollout_steps: int = 1
    """Steps of the student in a simulated sample, at most: up to 4."""


def dmd2(fields: Fields, x0: Batch, draws: Draws, settings: DMD2Settings) -> Regression:
    """DMD2 without its GAN: the student's samples move along the teacher's estimate less the fake's.

    x against sg(x - (D_fake - D_teacher) / mean|x - D_teacher|), half a mean square in data units, at noise levels of
    EDM's spacing, each as likely (arXiv 2405.14867). The fake learns the samples at all of them, of unit weight in F:
    1/sigma^2 + 1/sigma_d^2 of the estimate. With `rollout_steps` samples are simulated in 1 to so many steps. x0 is
    not used: data enter through the teacher.

    Where we differ: no GAN, by which the paper's numbers are; the fake takes one step a student's, at `fake_rate`, and
    not five. Raises ValueError without a teacher, a fake, or their draws, and for more steps than angles.
    """
    check_scores("dmd2", fields, draws)
    if not 1 <= settings.rollout_steps <= len(DMD2_TIMES) + 1:
        raise ValueError(f"dmd2 has angles for 1 to {len(DMD2_TIMES) + 1} steps, got {settings.rollout_steps}")
    assert draws.score is not None and draws.fake is not None

    def again(step: int, uniform: Tensor) -> Tensor:
        return torch.full_like(uniform, DMD2_TIMES[step])

    samples = simulated(fields.student, draws, settings.rollout_steps, again, settings.sigma_d)
    t = karras_angle(draws.score.uniform, settings.sigma_d, *DMD2_SHARES)
    moved = matching(fields, samples, draws.score.noise, t)
    learned = denoising(
        _fake(fields), samples.detach(), draws.fake.noise, karras_angle(draws.fake.uniform, settings.sigma_d)
    )
    return replace(moved, loss=settings.sigma_d / 2 * moved.loss + learned.loss)


def _consistency(fields: Fields, x0: Batch, draws: Draws, told: ContinuousSettings) -> Regression:
    """g = -c sqrt(1 - r^2 s^2) (F - v) - r (c s x + c s dF/dt), which is sCM's at r = 1."""
    assert fields.teacher is not None
    t, derivative = lognormal_angle(draws.uniform, told.proposal_mean, told.proposal_std, told.sigma_d), told.derivative
    x = interpolate(x0, draws.noise, t)
    with torch.no_grad():
        v = fields.teacher(x, t)
    direction = warmed_direction(fields.student, x, t, v, told.warmup, derivative)
    return regress(direction, t, fields.log_weight, told.log_weight_max, told.control)


def warmed_direction(field: Field, x: Batch, t: Times, v: Batch, r: Number, derivative: Derivative) -> Direction:
    """rCM's direction: sCM's (core.tangents.segment_direction to 0) but for the factor of F - v where r < 1."""
    F, scaled_dF = derivative(field, x, t, v, torch.cos(t) * torch.sin(t))
    with torch.no_grad():
        c, s = cos_sin(t, x)
        factor = c * (c.square() + (1 - r**2) * s.square()).sqrt()  # no 1 - sin^2, which rounds where cos is small
        return Direction(F, -factor * (F - v) - r * (c * s * x + scaled_dF))


def simulated(student: Field, draws: Draws, steps: int, lower: Lower, sigma_d: float) -> Batch:
    """Samples of the student in 1 to `steps` steps, each number as likely; the last step alone has a gradient.

    The first step is from pure noise at t_max. A further one noises what the one before has made, up to the lower of
    the angle there and `lower`. All rows are evaluated in all of the `steps`, and a batch's cost is that of the most.
    """
    assert draws.start is not None
    t = torch.full_like(draws.uniform, largest_angle(sigma_d))
    x = interpolate(torch.zeros_like(draws.start), draws.start, t)
    again = (further_uniform(draws.uniform, 0, 1)[:, 0] * steps).long()
    for step in range(steps - 1):
        uniform = further_uniform(draws.uniform, 2 * step + 1, 1)[:, 0].to(t)
        noise = torch.special.ndtri(further_uniform(draws.uniform, 2 * step + 2, x[0].numel())).to(x.dtype)
        with torch.no_grad():
            ending, then = consistency_map(student, x, t), torch.minimum(t, lower(step, uniform))
            goes_on = step < again
            x = torch.where(
                goes_on.reshape(-1, *[1] * (x.ndim - 1)), interpolate(ending, noise.reshape(x.shape), then), x
            )
            t = torch.where(goes_on, then, t)
    return consistency_map(student, x, t)


def matching(fields: Fields, samples: Batch, noise: Batch, t: Times) -> Regression:
    """DMD: mean square of x - sg(x - (D_fake - D_teacher) / mean|x - D_teacher|), x samples, D of them noised to t."""
    assert fields.teacher is not None
    with torch.no_grad():
        x, zero = interpolate(samples, noise, t), torch.zeros_like(t)
        real, fake = (rotate(x, F(x, t), t, zero) for F in (fields.teacher, _fake(fields)))
        size = (samples - real).abs().flatten(1).mean(1).clamp(min=SMALLEST)
        g = (real - fake) / size.reshape(-1, *[1] * (x.ndim - 1))
    return regress(Direction(samples, g), t)


def denoising(field: Field, x0: Batch, noise: Batch, t: Times) -> Regression:
    """1 / D ||F(x_t, t) - v_t||^2: diffusion's loss at any angles (core.objectives.diffusion has a proposal's)."""
    F = field(interpolate(x0, noise, t), t)
    return regress(Direction(F, velocity(x0, noise, t) - F.detach()), t)


def karras_angle(uniform: Times, sigma_d: float, first: float = 0.0, last: float = 1.0) -> Times:
    """Angles of EDM's spacing of noise levels (rho 7), even between two shares of the way from the least to the most.

    >>> [round(float(t.tan()) / 2, 3) for t in karras_angle(torch.tensor([0.0, 0.5, 1.0]).double(), 0.5)]
    [0.002, 2.515, 80.0]
    """
    low, high = SIGMA_MIN ** (1 / 7), SIGMA_MAX ** (1 / 7)
    share = first + (last - first) * uniform
    return torch.atan((low + share * (high - low)) ** 7 / sigma_d)


def further_uniform(uniform: Times, number: int, size: int) -> Float64[Tensor, "batch size"]:
    """As many more uniforms in (0, 1) for each row, of its own `uniform` and a number: a hash, on any device the same.

    A step draws one start a sample; the noise of a simulated sample's further steps is this. Another `number` gives
    others.
    """
    keys = (uniform.double() * 2**53).long()
    places = torch.arange(1, size + 1, device=uniform.device) + (number << 40)
    hashed = _mixed(_mixed(places) ^ keys[:, None])
    return of_bits(hashed)


def of_bits(hashed: Int64[Tensor, "*shape"]) -> Float64[Tensor, "*shape"]:
    """The upper 52 bits as a number in (0, 1): a half more than 53 of them is no float64, and the last rounds to 1.

    >>> [float(of_bits(torch.tensor(h))) for h in (0, -1)] == [2**-53, 1 - 2**-53]
    True
    """
    return ((hashed >> 12 & (1 << 52) - 1).double() + 0.5) / 2**52


def _mixed(h: Int64[Tensor, "*shape"]) -> Int64[Tensor, "*shape"]:
    """SplitMix64's finaliser; products wrap around."""
    h = (h ^ (h >> 30 & (1 << 34) - 1)) * -0x40A7B892E31B1A47
    h = (h ^ (h >> 27 & (1 << 37) - 1)) * -0x6B2FB644ECCEEE15
    return h ^ (h >> 31 & (1 << 33) - 1)


def _fake(fields: Fields) -> Field:
    assert fields.fake is not None
    return fields.fake


def check_scores(name: str, fields: Fields, draws: Draws) -> None:
    """Raise ValueError where something is missing of which `matching` and the fake are."""
    parts = {"fields.teacher": fields.teacher, "fields.fake": fields.fake}
    parts |= {"draws.start": draws.start, "draws.score": draws.score, "draws.fake": draws.fake}
    if missing := [part for part, given in parts.items() if given is None]:
        raise ValueError(f"{name} needs {', '.join(missing)}")
