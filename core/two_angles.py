"""The laws of the two angles between which a map is trained: t, where it starts, and u <= t, where it ends.

Methods of one time import nothing of this, so that it may grow and their finished runs stay fresh.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from trigbench.core.constants import PROPOSAL_MEAN, PROPOSAL_STD, SIGMA_D
from trigbench.core.fields import Draws
from trigbench.core.trigflow import Times, inside, lognormal_angle, lower_edge

Law = Literal["same", "uniform", "lognormal", "edges", "gap"]
SAME = 1e-9
"""Angles that are closer are one."""
GAP = (-0.8, 1.0)
"""Mean and standard deviation of the gap's logit, of Align Your Flow's and terminal velocity matching's law."""


@dataclass(frozen=True)
class TwoAngles:
    """What an arm says of its two angles, in unit variance; None is as the method has it."""

    sigma_d: float = SIGMA_D
    """Standard deviation of the data in data units, above 0; noise level sigma is at tan t = sigma / sigma_d."""
    proposal_mean: float = PROPOSAL_MEAN
    """P_mean: the mean of ln sigma of the drawn t."""
    proposal_std: float = PROPOSAL_STD
    """P_std: its standard deviation, greater than 0."""
    law: Law | None = None
    """How u, and with some laws t, is drawn (two_angles)."""
    second_mean: float | None = None
    """Of the second draw of `lognormal`, as `proposal_mean`, which it is unless told; or of the gap's logit."""
    second_std: float | None = None
    """Its standard deviation, greater than 0."""
    share_same: float | None = None
    """Of samples in which u = t: there the map's field is the velocity."""
    share_zero: float | None = None
    """Of samples in which u = 0: there the map is a consistency map."""
    segments: Float[Tensor, " edges"] | None = None
    """Lower edges of `edges`, ascending from 0."""

    def __post_init__(self) -> None:
        _check_shares(self.share_same or 0.0, self.share_zero or 0.0)


def two_angles(
    draws: Draws, settings: TwoAngles, *, law: Law = "uniform", same: float = 0.0, zero: float = 0.0
) -> tuple[Times, Times]:
    """(t, u) of a step, 0 <= u <= t < pi/2; `law`, `same` and `zero` are the method's, where settings say nothing.

    same       u = t, with t of the proposal (diffusion)
    uniform    u even in the angle from 0 to t (as CTM and IMM in their own times)
    lognormal  the larger of two draws of ln sigma is t's, the other u's (MeanFlow's logit-normal flow times)
    edges      u is the lower edge of t's segment (multi-step sCD, PCM); t is ms_scd's, bit for bit
    gap        the flow time tau = sin / (cos + sin) of t is that of u plus d, d logistic-normal, u even in what is left
               (Align Your Flow)

    Shares are taken of draws.lower, which is then spread out again: no law depends on them. In them t of `lognormal`
    is the larger of two draws as well, u being replaced after both are drawn, as MeanFlow has it; `gap` has t even in
    flow time. A share that an arm tells leaves the method's other what is left. Raises ValueError for `edges` without
    segments, and where draws.lower is needed and is not there (TwoAngles does for shares beyond 1).
    """
    law = settings.law or law
    told_same, told_zero = settings.share_same, settings.share_zero
    same = min(same, 1 - (told_zero or 0.0)) if told_same is None else told_same
    zero = min(zero, 1 - same) if told_zero is None else told_zero
    if law not in ("same", "edges") or same or zero:
        lower, is_same, is_zero = _shares(draws, same, zero, each=law == "lognormal")
        t, u = _of_law(law, draws.uniform, lower, settings)
        return t, torch.where(is_same, t, torch.where(is_zero, 0.0, u))
    return _of_law(law, draws.uniform, draws.uniform, settings)


def _check_shares(same: float, zero: float) -> None:
    if min(same, zero) < 0 or same + zero > 1:
        raise ValueError(f"shares of u = t and u = 0 are from 0, and 1 at most together; got {same:g} and {zero:g}")


def _shares(draws: Draws, same: float, zero: float, each: bool) -> tuple[Times, Tensor, Tensor]:
    """draws.lower of the samples that follow the law spread over (0, 1), and which are of u = t, and of u = 0.

    With `each` those of either share are spread over (0, 1), too; without, they are 0.
    """
    if draws.lower is None:
        raise ValueError("two angles need draws.lower")
    lower, rest = draws.lower, 1 - same - zero
    is_same, is_zero = lower < same, (lower >= same) & (lower < same + zero)
    spread = ((lower - same - zero) / rest).clamp(min=0) if rest > 0 else torch.zeros_like(lower)
    if each:
        in_zero = ((lower - same) / (zero or 1)).clamp(max=1)
        spread = torch.where(is_same, lower / (same or 1), torch.where(is_zero, in_zero, spread))
    return spread, is_same, is_zero


def _of_law(law: Law, uniform: Times, lower: Times, settings: TwoAngles) -> tuple[Times, Times]:
    if law == "gap":
        return _gap(uniform, lower, settings)
    t = lognormal_angle(uniform, settings.proposal_mean, settings.proposal_std, settings.sigma_d)
    if law == "same":
        return t, t
    if law == "uniform":
        return t, lower * t
    if law == "lognormal":
        mean = settings.proposal_mean if settings.second_mean is None else settings.second_mean
        std = settings.proposal_std if settings.second_std is None else settings.second_std
        other = lognormal_angle(lower, mean, std, settings.sigma_d)
        return torch.maximum(t, other), torch.minimum(t, other)
    if law == "edges":
        if settings.segments is None:
            raise ValueError("the law 'edges' needs settings.segments")
        return t, lower_edge(settings.segments, t)
    raise ValueError(f"unknown law {law!r}; choose same, uniform, lognormal, edges or gap")


def _gap(uniform: Times, lower: Times, settings: TwoAngles) -> tuple[Times, Times]:
    mean = GAP[0] if settings.second_mean is None else settings.second_mean
    std = GAP[1] if settings.second_std is None else settings.second_std
    gap = torch.sigmoid(mean + std * torch.special.ndtri(lower))
    end = uniform * (1 - gap)
    return inside(angle_of_flow_time(end + gap)), angle_of_flow_time(end)


def edge_below(edges: Float[Tensor, " edges"], t: Times) -> Times:
    """core.trigflow.lower_edge of a t of another grid, which may be an edge but for rounding: then the one below."""
    return lower_edge(edges, t - SAME)


def angle_of_flow_time(tau: Times) -> Times:
    """t with tan t = tau / (1 - tau): of x' = (1 - tau) x0 + tau z, which is x_t / (cos t + sin t)."""
    return torch.atan2(tau, 1 - tau)
