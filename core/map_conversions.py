"""Networks of two times of EDM, flow matching and VP diffusion <-> the house's maps (core.fields.Jump).

A map of two times is f(x, t, u) = cos(t-u) x - sin(t-u) F(x, t; u) here. The families write it otherwise, but what
their networks give is the same affine function of F as in one time, with no u in it. So each conversion is the one-time
one of core.conversions with the end of the map told in the family's own time, nothing is divided by t - u, and at u = t
the field is the network's velocity.

Points, times and sigma_d are as in core.conversions. A ValueError says where ends are not one per sample, and where a
network's output is not shaped as its points.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from trigbench.core import conversions
from trigbench.core.constants import BOUNDARY_STD, SIGMA_MIN
from trigbench.core.conversions import TimedNetwork
from trigbench.core.fields import Jump
from trigbench.core.trigflow import Field, TimeFunction, Times, cos_sin, inside, tan

MapNetwork = Callable[[Tensor, Tensor, Tensor], Tensor]
"""A network of another family: (points of (batch, *shape), its own time of these, and of where the map goes, (batch,)
each) -> its own output, shaped as the points."""


# --- EDM: CTM (arXiv 2310.02279) --------------------------------------------------------------------------


def jump_from_ctm(inner: MapNetwork, sigma_d: float) -> Jump:
    """CTM's g(x_sigma, sigma, sigma_u) in data units, whose map is `ctm_map`, for t in (0, pi/2).

    F = (cos(t) x - g / sigma_d) / sin(t): g is the denoiser of one time where u = t.
    """
    return _jump(inner, conversions.field_from_edm_denoiser, lambda u: sigma_d * tan(u), sigma_d)


def ctm_from_jump(jump: Jump, sigma_d: float) -> MapNetwork:
    """A map as CTM's g(x_sigma, sigma, sigma_u), in data units."""
    return _network(jump, conversions.edm_denoiser_from_field, lambda sigma: torch.atan(sigma / sigma_d), sigma_d)


def ctm_map(inner: MapNetwork) -> MapNetwork:
    """CTM's G(x, sigma, sigma_u) = (sigma_u / sigma) x + (1 - sigma_u / sigma) g(x, sigma, sigma_u), for sigma > 0."""

    def mapped(x: Tensor, sigma: Tensor, end: Tensor) -> Tensor:
        kept = (end / sigma).reshape(-1, *[1] * (x.ndim - 1)).to(x.dtype)
        return kept * x + (1 - kept) * inner(x, sigma, end)

    return mapped


CTM_LEAST = SIGMA_MIN
"""The noise level at which CTM's training ends in its paper; its later public code trains to 0, told as 1e-44."""


def jump_from_ctm_network(network: MapNetwork, sigma_d: float, smallest: float = CTM_LEAST) -> Jump:
    """CTM's raw network F_CTM(c_in x, c_noise, c_noise of the end), EDM's preconditioning around it making g of it.

    F = -F_CTM. c_noise is ln(sigma) / 4 of both; of an end below the noise level `smallest`, the least that the
    network knows, that of `smallest` is told, and at 0 the least number. Raises ValueError for less than 0.
    """
    if not smallest >= 0:
        raise ValueError(f"the least noise level that a network knows is 0 or more, got {smallest:g}")

    def end_of(u: Tensor) -> Tensor:
        return (sigma_d * torch.tan(inside(u))).clamp(min=smallest).log() / 4

    return _jump(network, conversions.field_from_edm_network, end_of, sigma_d)


def ctm_network_from_jump(jump: Jump, sigma_d: float) -> MapNetwork:
    """A map as CTM's raw network (c_in x_sigma, ln(sigma) / 4, ln(sigma_u) / 4) -> F_CTM."""
    angle = lambda c: torch.atan((4 * c).exp() / sigma_d)  # noqa: E731
    return _network(jump, conversions.edm_network_from_field, angle, sigma_d)


# --- flow matching: MeanFlow (arXiv 2505.13447), iMF, Align Your Flow (2506.14603), shortcut models (2410.12557) ---


def jump_from_flow(network: MapNetwork, sigma_d: float) -> Jump:
    """An average velocity v(z, tau, rho) in data units, whose map is z - (tau - rho) v, as a map.

    MeanFlow's u(z, r, t) and Align Your Flow's F(x, t, s) with tau = t and rho = r or s.
    """
    return _jump(network, conversions.field_from_flow, lambda u: _flow_time(u, sigma_d), sigma_d)


def flow_from_jump(jump: Jump, sigma_d: float) -> MapNetwork:
    """A map as an average velocity v(z, tau, rho) in data units; finite at tau = rho."""
    angle = lambda tau: torch.atan2(tau, sigma_d * (1 - tau))  # noqa: E731
    return _network(jump, conversions.flow_from_field, angle, sigma_d)


def flow_from_shortcut(network: MapNetwork) -> MapNetwork:
    """A shortcut model s(x, time, d), whose map is x + d s and whose time is 1 at data, as v(z, tau, rho).

    The published network is told -log2 d in place of d, the number of halvings, which its caller makes of d.
    """

    def average(z: Tensor, tau: Tensor, rho: Tensor) -> Tensor:
        _check_end(tau, rho)
        return -network(z, 1 - tau, tau - rho)

    return average


def shortcut_from_flow(network: MapNetwork) -> MapNetwork:
    """An average velocity v(z, tau, rho) as a shortcut model s(x, time, d)."""

    def shortcut(x: Tensor, time: Tensor, d: Tensor) -> Tensor:
        _check_end(time, d)
        return -network(x, 1 - time, 1 - time - d)

    return shortcut


# --- variance preserving: PCM, TCD and multi-step CM predict the noise of a DDIM step; LCM's boundary -----------------


def jump_from_vp(network: MapNetwork, sigma_d: float) -> Jump:
    """A prediction e(x', alpha, alpha_u) of the noise, whose map is DDIM's step, as a map, for t < pi/2.

    The step is alpha_u (x' - sigma e) / alpha + sigma_u e: PCM's (arXiv 2405.18407) and TCD's (2402.19159). A network
    that is told no end, as LCM's, is one whose third argument is not used.
    """
    return _jump(network, conversions.field_from_vp, lambda u: _signal(u, sigma_d), sigma_d)


def vp_from_jump(jump: Jump, sigma_d: float) -> MapNetwork:
    """A map as a prediction e(x', alpha, alpha_u) of the noise of its DDIM step."""
    angle = lambda alpha: torch.atan2(((1 - alpha) * (1 + alpha)).sqrt(), sigma_d * alpha)  # noqa: E731
    return _network(jump, conversions.vp_from_field, angle, sigma_d)


def field_from_lcm(network: TimedNetwork, scaled: TimeFunction, sigma_d: float) -> Field:
    """LCM's map to data (arXiv 2310.04378, Eq. 9) of a prediction e(x', alpha) of the noise, for t in (0, pi/2).

    f = c_skip x' + c_out (x' - sigma e) / alpha, c_skip = 1/4 / (n^2 + 1/4) and c_out = n / sqrt(n^2 + 1/4). `scaled`
    makes n of alpha, in the published code ten times the timestep. It is a Jump's field at u = 0: LCM has no other end,
    and its deterministic steps between others are `jump_from_vp`'s.
    """

    def field(x: Tensor, t: Tensor) -> Tensor:
        through, out, own = _boundary(x, t, scaled, sigma_d)
        return out * conversions.field_from_vp(network, sigma_d)(x, t) + through * own

    return field


def lcm_from_field(field: Field, scaled: TimeFunction, sigma_d: float) -> TimedNetwork:
    """A field as the noise e(x', alpha) that gives its map inside LCM's boundary, where n is not 0."""

    def inner(x: Tensor, t: Tensor) -> Tensor:
        through, out, own = _boundary(x, t, scaled, sigma_d)
        return (field(x, t) - through * own) / out

    return conversions.vp_from_field(inner, sigma_d)


def _boundary(x: Tensor, t: Tensor, scaled: TimeFunction, sigma_d: float) -> tuple[Tensor, Tensor, Tensor]:
    """(a, c_out, x / sin t), with which F = c_out F_inside + a x / sin t has LCM's map."""
    c, s = cos_sin(t, x)
    n = scaled(_signal(t, sigma_d)).to(t.dtype).reshape(c.shape)
    square = n.square() + BOUNDARY_STD**2
    skip, out = (BOUNDARY_STD**2 / square).to(x.dtype), (n / square.sqrt()).to(x.dtype)
    return (1 - out) * c - skip / torch.hypot(c, sigma_d * s), out, x / s


# --- what they share -----------------------------------------------------------------------------------


def _jump(
    network: MapNetwork, field_from: Callable[[TimedNetwork, float], Field], end_of: TimeFunction, sigma_d: float
) -> Jump:
    """Of a network of two times, the end told in its own time; F in x's dtype."""

    def to(u: Tensor) -> Field:
        def told(points: Tensor, time: Tensor) -> Tensor:
            output = network(points, time, end_of(u))
            if output.shape != points.shape:
                raise ValueError(f"of points {tuple(points.shape)} the network gave {tuple(output.shape)}")
            return output.to(points.dtype)

        def field(x: Tensor, t: Tensor) -> Tensor:
            _check_end(t, u)
            return field_from(told, sigma_d)(x, t)

        return field

    return to


def _network(
    jump: Jump, network_from: Callable[[Field, float], TimedNetwork], angle_of: TimeFunction, sigma_d: float
) -> MapNetwork:
    """Of a map, which is told the angle of the end's own time."""

    def network(points: Tensor, time: Tensor, end: Tensor) -> Tensor:
        _check_end(time, end)
        return network_from(jump(angle_of(end)), sigma_d)(points, time)

    return network


def _check_end(time: Tensor, end: Tensor) -> None:
    if end.shape != time.shape:
        raise ValueError(f"the end must be one per sample: {tuple(end.shape)}, times {tuple(time.shape)}")


def _flow_time(t: Times, sigma_d: float) -> Times:
    return sigma_d * torch.sin(t) / (torch.cos(t) + sigma_d * torch.sin(t))


def _signal(t: Times, sigma_d: float) -> Times:
    """alpha of a VP point."""
    return torch.cos(t) / torch.hypot(torch.cos(t), sigma_d * torch.sin(t))
