"""EDM, flow matching and variance-preserving diffusion <-> TrigFlow: points, times and networks.

TrigFlow points are in unit variance (see core.trigflow); EDM, flow and VP points are in data units
with noise of unit variance, as their papers write them. Every process x' = a x0 + b e becomes
TrigFlow by t = arctan(b / (sigma_d a)) and a rescaling (arXiv 2410.11081, Eq. 29).
"""

from collections.abc import Callable

import torch
from torch import Tensor

from trigbench.core.trigflow import Batch, Field, Times, below_half_pi, consistency_map, cos_sin, inside, tan

TimedNetwork = Callable[[Tensor, Tensor], Tensor]
"""A network of another family: (points of (batch, *shape), its own time of (batch,)) -> its own output."""


# --- EDM: x_sigma = x0 + sigma e (Karras et al. 2022) --------------------------------------------


def edm_from_trig(x: Batch, t: Times, sigma_d: float) -> tuple[Batch, Times]:
    """(x_sigma, sigma) of a TrigFlow point: x_sigma = sigma_d x_t / cos t, sigma = sigma_d tan t (Eq. 30)."""
    c, _ = cos_sin(below_half_pi(t), x)
    return sigma_d * x / c, sigma_d * tan(t)


def trig_from_edm(x_sigma: Batch, sigma: Times, sigma_d: float) -> tuple[Batch, Times]:
    """(x_t, t) of an EDM point; x_t is EDM's c_in(sigma) x_sigma, number for number."""
    t = torch.atan(sigma / sigma_d)
    c, _ = cos_sin(t, x_sigma)
    return c * x_sigma / sigma_d, t


def field_from_edm_network(network: TimedNetwork, sigma_d: float) -> Field:
    """EDM's raw network F_EDM(c_in x, c_noise = ln(sigma)/4) as a field.

    F_trig = -F_EDM: TrigFlow's c_out is negative (papers differ by this sign only).
    """
    return lambda x, t: -network(x, (sigma_d * torch.tan(inside(t))).log() / 4)


def edm_network_from_field(field: Field, sigma_d: float) -> TimedNetwork:
    """A field as EDM's raw network (c_in x_sigma, ln(sigma)/4) -> F_EDM."""
    return lambda x, c_noise: -field(x, torch.atan((4 * c_noise).exp() / sigma_d))


def field_from_edm_denoiser(denoiser: TimedNetwork, sigma_d: float) -> Field:
    """EDM's denoiser D(x_sigma, sigma) as a field, for t in (0, pi/2): F = (cos(t) x - D / sigma_d) / sin(t)."""

    def field(x: Tensor, t: Tensor) -> Tensor:
        c, s = cos_sin(t, x)
        return (c * x - denoiser(*edm_from_trig(x, t, sigma_d)) / sigma_d) / s

    return field


def edm_denoiser_from_field(field: Field, sigma_d: float) -> TimedNetwork:
    """A field as EDM's denoiser D(x_sigma, sigma), in data units."""
    return lambda x_sigma, sigma: sigma_d * consistency_map(field, *trig_from_edm(x_sigma, sigma, sigma_d))


def field_with_boundary(field: Field, sigma_min: float, sigma_d: float) -> Field:
    """The field whose TrigFlow map is CM's: the identity of EDM's points at sigma_min, not at 0.

    CM's f(x, sigma) = c_skip x + c_out F_EDM with c_skip = sigma_d^2 / ((sigma - sigma_min)^2 + sigma_d^2)
    and c_out = sigma_d (sigma - sigma_min) / sqrt(sigma_d^2 + sigma^2) (arXiv 2303.01469, App. C), written
    as cos(t) x - sin(t) F for angles from arctan(sigma_min / sigma_d) up. Affine in the network's output.
    """

    def bounded(x: Tensor, t: Tensor) -> Tensor:
        sigma = sigma_d * tan(t)
        skip = (sigma_d**2 / ((sigma - sigma_min).square() + sigma_d**2)).to(x.dtype)
        out = ((sigma - sigma_min) / torch.hypot(sigma, torch.full_like(sigma, sigma_d))).to(x.dtype)
        column = (-1, *[1] * (x.ndim - 1))
        c, s = cos_sin(t, x)
        mapped = skip.reshape(column) * x / c - out.reshape(column) * field(x, t)
        return (c * x - mapped) / s

    return bounded


# --- flow matching: x_tau = (1 - tau) x0 + tau e, v = e - x0 (Lipman et al.; Liu et al.) ------------


def flow_from_trig(x: Batch, t: Times, sigma_d: float) -> tuple[Batch, Times]:
    """(x_tau, tau) of a TrigFlow point: tau = sigma_d sin t / (cos t + sigma_d sin t)."""
    c, s = cos_sin(t, x)
    tau = sigma_d * torch.sin(t) / (torch.cos(t) + sigma_d * torch.sin(t))
    return sigma_d * x / (c + sigma_d * s), tau


def trig_from_flow(x_tau: Batch, tau: Times, sigma_d: float) -> tuple[Batch, Times]:
    """(x_t, t) of a flow-matching point, tau in [0, 1]; t = arctan(tau / (sigma_d (1 - tau)))."""
    t = torch.atan2(tau, sigma_d * (1 - tau))
    c, s = cos_sin(t, x_tau)
    return (c + sigma_d * s) * x_tau / sigma_d, t


def field_from_flow(network: TimedNetwork, sigma_d: float) -> Field:
    """A velocity network v(x_tau, tau) in data units as a field.

    F = ((sigma_d c - s) x_t + v) / (c + sigma_d s) with c = cos t, s = sin t and x_t in unit variance.
    """

    def field(x: Tensor, t: Tensor) -> Tensor:
        c, s = cos_sin(t, x)
        return ((sigma_d * c - s) * x + network(*flow_from_trig(x, t, sigma_d))) / (c + sigma_d * s)

    return field


def flow_from_field(field: Field, sigma_d: float) -> TimedNetwork:
    """A field as a velocity network v(x_tau, tau) in data units: v = (c + sigma_d s) F - (sigma_d c - s) x_t."""

    def network(x_tau: Tensor, tau: Tensor) -> Tensor:
        x, t = trig_from_flow(x_tau, tau, sigma_d)
        c, s = cos_sin(t, x)
        return (c + sigma_d * s) * field(x, t) - (sigma_d * c - s) * x

    return network


# --- variance preserving: x' = alpha x0 + sqrt(1 - alpha^2) e (Ho et al. 2020) ----------------------


def vp_from_trig(x: Batch, t: Times, sigma_d: float) -> tuple[Batch, Times]:
    """(x', alpha) of a TrigFlow point: alpha = cos t / sqrt(cos^2 t + sigma_d^2 sin^2 t)."""
    c, s = cos_sin(t, x)
    alpha = torch.cos(t) / torch.hypot(torch.cos(t), sigma_d * torch.sin(t))
    return sigma_d * x / torch.hypot(c, sigma_d * s), alpha


def trig_from_vp(x_vp: Batch, alpha: Times, sigma_d: float) -> tuple[Batch, Times]:
    """(x_t, t) of a VP point, alpha in [0, 1]: t = arctan(sqrt(1 - alpha^2) / (sigma_d alpha))."""
    t = torch.atan2(((1 - alpha) * (1 + alpha)).sqrt(), sigma_d * alpha)
    c, s = cos_sin(t, x_vp)
    return torch.hypot(c, sigma_d * s) * x_vp / sigma_d, t


def field_from_vp(network: TimedNetwork, sigma_d: float) -> Field:
    """A noise-prediction network e(x', alpha) as a field, for t < pi/2.

    From x_t = c x0 + s z with z = e in unit variance: F = c z - s x0 = (e - s x_t) / c.
    """

    def field(x: Tensor, t: Tensor) -> Tensor:
        c, s = cos_sin(t, x)
        return (network(*vp_from_trig(x, t, sigma_d)) - s * x) / c

    return field


def vp_from_field(field: Field, sigma_d: float) -> TimedNetwork:
    """A field as a noise-prediction network: e = s x_t + c F."""

    def network(x_vp: Tensor, alpha: Tensor) -> Tensor:
        x, t = trig_from_vp(x_vp, alpha, sigma_d)
        c, s = cos_sin(t, x)
        return s * x + c * field(x, t)

    return network
