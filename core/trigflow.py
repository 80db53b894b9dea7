"""The TrigFlow process in unit variance: x_t = cos(t) x0 + sin(t) z with x0 and z of unit variance.

Data enter the core divided by sigma_d, so sigma_d appears only where noise levels do
(Lu & Song, arXiv 2410.11081, Sec. 3 and App. B). Angles keep their own dtype (float64 where they
are drawn), so that differences of neighbouring angles survive; trigonometric factors are cast to
the dtype of the points they multiply.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

Field = Callable[[Tensor, Tensor], Tensor]
"""A network bound to parameters and condition: (x of (batch, *shape), t of (batch,)) -> F of (batch, *shape)."""
TimeFunction = Callable[[Tensor], Tensor]
"""t of (batch,) -> a number per sample, (batch,)."""


def cos_sin(
    t: Float[Tensor, " batch"], like: Float[Tensor, "batch *shape"]
) -> tuple[Float[Tensor, "batch ..."], Float[Tensor, "batch ..."]]:
    """cos t and sin t, computed in t's dtype, cast to `like`'s and shaped to multiply it.

    Raises ValueError when t is not one angle per sample.
    """
    if t.ndim != 1 or t.shape[0] != like.shape[0]:
        raise ValueError(f"t must hold one angle per sample: t {tuple(t.shape)}, points {tuple(like.shape)}")
    column = t.reshape(-1, *[1] * (like.ndim - 1))
    return torch.cos(column).to(like.dtype), torch.sin(column).to(like.dtype)


def interpolate(
    x0: Float[Tensor, "batch *shape"], z: Float[Tensor, "batch *shape"], t: Float[Tensor, " batch"]
) -> Float[Tensor, "batch *shape"]:
    """x_t = cos(t) x0 + sin(t) z (Sec. 3)."""
    c, s = cos_sin(t, x0)
    return c * x0 + s * z


def velocity(
    x0: Float[Tensor, "batch *shape"], z: Float[Tensor, "batch *shape"], t: Float[Tensor, " batch"]
) -> Float[Tensor, "batch *shape"]:
    """v_t = d x_t / dt = cos(t) z - sin(t) x0 for fixed (x0, z) (Sec. 3)."""
    c, s = cos_sin(t, x0)
    return c * z - s * x0


def rotate(
    x: Float[Tensor, "batch *shape"],
    F: Float[Tensor, "batch *shape"],
    t: Float[Tensor, " batch"],
    u: Float[Tensor, " batch"],
) -> Float[Tensor, "batch *shape"]:
    """cos(t-u) x - sin(t-u) F: the DDIM step from t to u (Eq. 26, whose right side must read x_s).

    The identity at u = t, and exact for F = velocity(x0, z, t).
    """
    c, s = cos_sin(t - u, x)
    return c * x - s * F


def consistency_map(
    field: Field, x: Float[Tensor, "batch *shape"], t: Float[Tensor, " batch"]
) -> Float[Tensor, "batch *shape"]:
    """f(x, t) = cos(t) x - sin(t) F(x, t); also the denoiser (Eqs. 5, 23). f(x, 0) = x for every field."""
    return rotate(x, field(x, t), t, torch.zeros_like(t))


def score(field: Field, x: Float[Tensor, "batch *shape"], t: Float[Tensor, " batch"]) -> Float[Tensor, "batch *shape"]:
    """grad log p_t(x) = -(cos(t) F + sin(t) x) / sin(t) in unit variance (App. C), for t > 0.

    Divide by sigma_d for the score in data units.
    """
    c, s = cos_sin(t, x)
    return -(c * field(x, t) + s * x) / s


def angle_from_noise_level(sigma: Tensor | float, sigma_d: float) -> Tensor:
    """t = arctan(sigma / sigma_d) in [0, pi/2) for EDM's noise level sigma >= 0 (Eq. 30)."""
    return torch.atan(_as_tensor(sigma) / sigma_d)


def noise_level_from_angle(t: Tensor | float, sigma_d: float) -> Tensor:
    """sigma = sigma_d tan(t), EDM's noise level of the angle t in [0, pi/2) (Eq. 30)."""
    return sigma_d * torch.tan(_as_tensor(t))


def lognormal_angle(
    uniform: Float[Tensor, " batch"], mean: float, std: float, sigma_d: float
) -> Float[Tensor, " batch"]:
    """Angles with ln(sigma_d tan t) ~ N(mean, std^2) (Alg. 1; the line under Eq. 8 is a misprint).

    By inversion of uniform draws in (0, 1), so that the continuous and the categorical proposal
    see (nearly) the same angle for the same draw.
    """
    return angle_from_noise_level(torch.exp(mean + std * torch.special.ndtri(uniform)), sigma_d)


@dataclass(frozen=True)
class ProposalGrid:
    """A time grid 0 = t_0 < ... < t_N with the log-normal proposal split over its intervals (App. E.2)."""

    angles: Float64[Tensor, " edges"]
    cumulative: Float64[Tensor, " edges"]
    """Probability of the intervals up to each edge; 0 first, 1 last."""


def proposal_grid(angles: Float64[Tensor, " edges"], mean: float, std: float, sigma_d: float) -> ProposalGrid:
    """Split ln(sigma) ~ N(mean, std^2), truncated to the grid, over the intervals of ascending `angles`.

    Raises ValueError for fewer than two edges or edges that do not ascend.
    """
    if angles.numel() < 2 or not bool((angles.diff() > 0).all()):
        raise ValueError(f"a grid needs at least two strictly ascending angles, got {angles.numel()}")
    mass = torch.special.ndtr((noise_level_from_angle(angles, sigma_d).log() - mean) / std)
    return ProposalGrid(angles, (mass - mass[0]) / (mass[-1] - mass[0]))


def even_grid(angles: Float64[Tensor, " edges"]) -> ProposalGrid:
    """Every interval of ascending `angles` equally likely (CM, arXiv 2303.01469, Alg. 2)."""
    return ProposalGrid(angles, torch.linspace(0, 1, angles.numel(), dtype=torch.float64))


def draw_interval(
    grid: ProposalGrid, uniform: Float[Tensor, " batch"]
) -> tuple[Float64[Tensor, " batch"], Float64[Tensor, " batch"]]:
    """The interval (t, u), u < t, that each uniform draw in (0, 1) falls into, by inversion."""
    upper = torch.searchsorted(grid.cumulative, uniform.to(grid.cumulative), right=True)
    upper = upper.clamp(1, grid.angles.numel() - 1)
    return grid.angles[upper], grid.angles[upper - 1]


def lower_edge(edges: Float[Tensor, " edges"], t: Float[Tensor, " batch"]) -> Float[Tensor, " batch"]:
    """The largest edge below each t: its segment is (edge, next edge]; ascending `edges` start at 0."""
    return edges.to(t)[(torch.searchsorted(edges.to(t), t) - 1).clamp(min=0)]


def _as_tensor(value: Tensor | float) -> Tensor:
    return value if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float64)
