"""The TrigFlow process in unit variance: x_t = cos(t) x0 + sin(t) z with x0 and z of unit variance.

Data enter the core divided by sigma_d, so sigma_d appears only where noise levels do
(Lu & Song, arXiv 2410.11081, Sec. 3 and App. B). Angles keep their own dtype (float64 where they
are drawn), so that differences of neighbouring angles survive; trigonometric factors are cast to
the dtype of the points they multiply.

Points are of floating point; integers are refused. Angles that a training step draws are not looked at,
since that would wait for the device: samplers, grids and numbers on the CPU are.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Float64
from torch import Tensor

Batch = Float[Tensor, "batch *shape"]
"""Points: samples, of any shape."""
Times = Float[Tensor, " batch"]
"""An angle of each, or a time of another family's."""
Field = Callable[[Tensor, Tensor], Tensor]
"""A network bound to parameters and condition: (x of (batch, *shape), t of (batch,)) -> F of (batch, *shape)."""
TimeFunction = Callable[[Tensor], Tensor]
"""t of (batch,) -> a number per sample, (batch,)."""
HALF_PI = 1.57080
"""The largest angle that is taken for pi/2: as it is rounded in published samplers (Sana's), 4e-6 above it."""
BELOW_HALF_PI = {torch.float32: 1.5707962512969971}
"""The largest angle below pi/2 where rounding would go beyond it; tan is negative there."""
HINT = "angle_from_noise_level makes angles of noise levels such as 80"
SHOWN = 6
"""Angles that an error shows."""


def check_floating(points: Tensor) -> None:
    """Raise ValueError for points of integers, which no network or process can move (uint8 images, say)."""
    if not (points.dtype.is_floating_point or points.dtype.is_complex):
        remedy = "make them float and of unit variance first: (x.float() / 127.5 - 1) / sigma_d for uint8 images"
        raise ValueError(f"points must be of floating point, got {points.dtype}; {remedy}")


def time_dtype(points: Tensor) -> torch.dtype:
    """Of the angles beside these points in a network: theirs, but float32 at least, as bfloat16 moves 1.1 by 0.002."""
    return torch.promote_types(points.dtype, torch.float32)


def below_half_pi(t: Tensor) -> Tensor:
    """t where cos and tan are positive: the bits of every t below pi/2, and beyond it the nearest such number."""
    return t.clamp(max=BELOW_HALF_PI.get(t.dtype, math.pi / 2))


def inside(t: Float[Tensor, " batch"]) -> Float[Tensor, " batch"]:
    """t where ln tan t is finite: the bits of every t in (0, pi/2), and for its ends the nearest such number."""
    return below_half_pi(t).clamp(min=torch.finfo(t.dtype).tiny)


def cos_sin(
    t: Float[Tensor, " batch"], like: Float[Tensor, "batch *shape"]
) -> tuple[Float[Tensor, "batch ..."], Float[Tensor, "batch ..."]]:
    """cos t and sin t, computed in t's dtype, cast to `like`'s and shaped to multiply it.

    Raises ValueError when t is not one angle per sample, or `like` holds integers.
    """
    check_floating(like)
    if t.ndim != 1 or t.shape[0] != like.shape[0]:
        raise ValueError(f"t must hold one angle per sample: t {tuple(t.shape)}, points {tuple(like.shape)}")
    column = t.reshape(-1, *[1] * (like.ndim - 1))
    return torch.cos(column).to(like.dtype), torch.sin(column).to(like.dtype)


def interpolate(
    x0: Float[Tensor, "batch *shape"], z: Float[Tensor, "batch *shape"], t: Float[Tensor, " batch"]
) -> Float[Tensor, "batch *shape"]:
    """x_t = cos(t) x0 + sin(t) z (Sec. 3)."""
    c, s = cos_sin(t, x0)
    check_floating(z)
    return c * x0 + s * z


def velocity(
    x0: Float[Tensor, "batch *shape"], z: Float[Tensor, "batch *shape"], t: Float[Tensor, " batch"]
) -> Float[Tensor, "batch *shape"]:
    """v_t = d x_t / dt = cos(t) z - sin(t) x0 for fixed (x0, z) (Sec. 3)."""
    c, s = cos_sin(t, x0)
    check_floating(z)
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
    check_floating(F)
    return c * x - s * F


def consistency_map(
    field: Field, x: Float[Tensor, "batch *shape"], t: Float[Tensor, " batch"]
) -> Float[Tensor, "batch *shape"]:
    """f(x, t) = cos(t) x - sin(t) F(x, t); also the denoiser (Eqs. 5, 23). f(x, 0) = x for every field."""
    return rotate(x, field(x, t), t, torch.zeros_like(t))


def score(field: Field, x: Float[Tensor, "batch *shape"], t: Float[Tensor, " batch"]) -> Float[Tensor, "batch *shape"]:
    """grad log p_t(x) = -(cos(t) F + sin(t) x) / sin(t) in unit variance (App. C), for t > 0.

    Divide by sigma_d for the score in data units. Raises ValueError unless every t is in (0, pi/2], where it can look
    (see `noise_level_from_angle`): at 0 data have no density.
    """
    c, s = cos_sin(t, x)
    if _can_look(t) and not bool(((t > 0) & (t <= HALF_PI)).all()):
        raise ValueError(f"a score needs angles in (0, pi/2], got {_extremes(t)}")
    return -(c * field(x, t) + s * x) / s


def tan(t: Tensor) -> Tensor:
    """tan t for t in [0, pi/2], finite and positive at pi/2 too, however that is rounded. Values are not looked at."""
    return torch.tan(below_half_pi(t))


def angle_from_noise_level(sigma: Tensor | float, sigma_d: float) -> Tensor:
    """t = arctan(sigma / sigma_d) in [0, pi/2] for EDM's noise level sigma >= 0 (Eq. 30).

    Raises ValueError unless sigma_d is positive, and for levels that are negative or NaN where it can look, which is on
    the CPU and outside of torch.func's transforms and torch.compile: it waits for no device.
    """
    sigma = _as_tensor(sigma)
    if not 0 < sigma_d < math.inf or (_can_look(sigma) and not bool((sigma >= 0).all())):
        raise ValueError(f"noise levels start at 0 and sigma_d is positive, got {_extremes(sigma)} and {sigma_d}")
    return torch.atan(sigma / sigma_d)


def noise_level_from_angle(t: Tensor | float, sigma_d: float) -> Tensor:
    """sigma = sigma_d tan(t), EDM's noise level of the angle t in [0, pi/2] (Eq. 30); finite at pi/2 too.

    Raises ValueError unless sigma_d is positive, and for other angles where it can look, which is on the CPU and
    outside of torch.func's transforms and torch.compile: it waits for no device.
    """
    t = _as_tensor(t)
    if not 0 < sigma_d < math.inf or (_can_look(t) and not bool(((t >= 0) & (t <= HALF_PI)).all())):
        raise ValueError(f"angles are in [0, pi/2] and sigma_d is positive, got {_extremes(t)} and {sigma_d}; {HINT}")
    return sigma_d * tan(t)


def lognormal_angle(
    uniform: Float[Tensor, " batch"], mean: float, std: float, sigma_d: float
) -> Float[Tensor, " batch"]:
    """Angles with ln(sigma_d tan t) ~ N(mean, std^2) (Alg. 1; the line under Eq. 8 is a misprint).

    By inversion of uniform draws, so that the continuous and the categorical proposal see (nearly) the same angle for
    the same draw. Draws of exactly 0 or 1, which rounding makes, count as the numbers next to them on torch.rand's
    grid: angles are in (0, pi/2).
    """
    step = torch.finfo(uniform.dtype).eps / 2
    within = torch.where(uniform == 0, step, torch.where(uniform == 1, 1 - step, uniform))
    return inside(torch.atan(torch.exp(mean + std * torch.special.ndtri(within)) / sigma_d))


@dataclass(frozen=True)
class ProposalGrid:
    """A time grid 0 = t_0 < ... < t_N with the log-normal proposal split over its intervals (App. E.2)."""

    angles: Float64[Tensor, " edges"]
    cumulative: Float64[Tensor, " edges"]
    """Probability of the intervals up to each edge; 0 first, 1 last."""


def proposal_grid(angles: Float64[Tensor, " edges"], mean: float, std: float, sigma_d: float) -> ProposalGrid:
    """Split ln(sigma) ~ N(mean, std^2), truncated to the grid, over the intervals of ascending `angles`.

    Raises ValueError for fewer than two edges, edges that do not ascend within [0, pi/2], a std that is not positive,
    and a proposal without probability on the grid.
    """
    check_angles(angles, "ascending", at_least=2)
    if not (std > 0 and math.isfinite(mean)):
        raise ValueError(f"a proposal needs a finite mean and a positive std, got {mean} and {std}")
    mass = torch.special.ndtr((noise_level_from_angle(angles, sigma_d).log() - mean) / std)
    if not bool(mass[-1] > mass[0]):
        raise ValueError(f"ln sigma ~ N({mean}, {std}^2) has no probability between angles {_extremes(angles)}")
    return ProposalGrid(angles, (mass - mass[0]) / (mass[-1] - mass[0]))


def even_grid(angles: Float64[Tensor, " edges"]) -> ProposalGrid:
    """Every interval of ascending `angles` equally likely (CM, arXiv 2303.01469, Alg. 2).

    Raises ValueError for fewer than two edges, or edges that do not ascend within [0, pi/2].
    """
    check_angles(angles, "ascending", at_least=2)
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


def check_angles(
    angles: Sequence[float] | Float[Tensor, " times"], order: Literal["ascending", "descending"], at_least: int = 1
) -> None:
    """Raise ValueError unless these are a row of angles in [0, pi/2], strictly in this order, `at_least` as many.

    1.57080 counts as pi/2. It waits for the device where they are on one: for what is called once, not once a step.
    """
    held = torch.as_tensor(angles, dtype=torch.float64)
    if held.ndim != 1:
        raise ValueError(f"need a row of {order} angles, got a tensor of {tuple(held.shape)}")
    if held.is_meta:  # no values to look at
        return
    steps = held.diff() if order == "ascending" else -held.diff()
    if len(held) < at_least or not bool(((held >= 0) & (held <= HALF_PI)).all() & (steps > 0).all()):
        shown = ", ".join(f"{t:.6g}" for t in held[:SHOWN].tolist()) + (", ..." if len(held) > SHOWN else "")
        raise ValueError(f"need {at_least} or more strictly {order} angles in [0, pi/2], got [{shown}]; {HINT}")


_TRACER = torch._C._TorchDispatchModeKey.PROXY
"""make_fx's (core.compiled)."""


def is_traced() -> bool:
    """Whether a graph is made of what is called, which must not depend on values."""
    return torch._C._get_dispatch_mode(_TRACER) is not None


def any_positive(values: Tensor) -> bool:
    """Whether there is one above 0; True where a graph is made."""
    return is_traced() or bool((values > 0).any())


def _can_look(values: Tensor) -> bool:
    transformed = torch._C._are_functorch_transforms_active() or torch.compiler.is_compiling()
    return values.device.type == "cpu" and not transformed and not is_traced()


def _extremes(values: Tensor) -> str:
    if not (_can_look(values) and values.numel()):
        return f"values of {tuple(values.shape)}"
    return f"from {float(values.min()):.6g} to {float(values.max()):.6g}"


def _as_tensor(value: Tensor | float) -> Tensor:
    return value if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float64)
