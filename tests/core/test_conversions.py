"""EDM, flow matching and VP <-> TrigFlow (papers.md sec. 10, rows 5 and 6)."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from trigbench.core import conversions as conv
from trigbench.core import oracle
from trigbench.core.trigflow import consistency_map, interpolate, velocity

SIGMA_D = st.sampled_from([0.3, 0.5, 1.0])
SEEDS = st.integers(0, 2**31)
SHAPES = st.lists(st.integers(1, 3), min_size=1, max_size=3).map(tuple)
BATCH = 4

POINTS = {
    "edm": (conv.edm_from_trig, conv.trig_from_edm),
    "flow": (conv.flow_from_trig, conv.trig_from_flow),
    "vp": (conv.vp_from_trig, conv.trig_from_vp),
}
NETWORKS = {
    "edm": (conv.edm_network_from_field, conv.field_from_edm_network),
    "edm denoiser": (conv.edm_denoiser_from_field, conv.field_from_edm_denoiser),
    "flow": (conv.flow_from_field, conv.field_from_flow),
    "vp": (conv.vp_from_field, conv.field_from_vp),
}


def draw(seed: int, shape: tuple[int, ...], low: float = 0.03, high: float = 1.54) -> tuple[Tensor, Tensor, Tensor]:
    """Two standard normal tensors and angles."""
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.randn(2, BATCH, *shape, generator=generator, dtype=torch.float64)
    return x, y, low + (high - low) * torch.rand(BATCH, generator=generator, dtype=torch.float64)


def own_time(family: str, t: Tensor, sigma_d: float) -> Tensor:
    """The family's time of the angle t, from a0 / b0 of x' = a0 x0 + b0 e with b0 / (sigma_d a0) = tan t."""
    sigma = sigma_d * torch.tan(t)
    return {
        "edm": sigma.log() / 4,
        "edm denoiser": sigma,
        "flow": sigma / (1 + sigma),
        "vp": (1 + sigma.square()).rsqrt(),
    }[family]


def column(t: Tensor, like: Tensor) -> Tensor:
    return t.reshape(-1, *[1] * (like.ndim - 1))


def close(ours: Tensor, exact: Tensor, tolerance: float = 1e-12) -> None:
    torch.testing.assert_close(ours, exact, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("family", POINTS)
@given(seed=SEEDS, shape=SHAPES, sigma_d=SIGMA_D)
def test_points_and_times_survive_the_round_trip(family, seed, shape, sigma_d):
    there, back = POINTS[family]
    x, _, t = draw(seed, shape)
    x_again, t_again = back(*there(x, t, sigma_d), sigma_d)
    close(x_again, x)
    close(t_again, t)
    other, time = there(x, t, sigma_d)
    other_again, time_again = there(*back(other, time, sigma_d), sigma_d)
    close(other_again, other)
    close(time_again, time)


@pytest.mark.parametrize("family", POINTS)
@given(seed=SEEDS, shape=SHAPES, sigma_d=SIGMA_D)
def test_points_are_the_familys_own_mixture_of_data_and_noise(family, seed, shape, sigma_d):
    """x' = a x0 + b e in data units, with the family's own a and b at its own time."""
    x0, e, t = draw(seed, shape)
    x, time = POINTS[family][0](interpolate(x0, e, t), t, sigma_d)
    time_ = column(time, x)
    a, b = {
        "edm": (torch.ones_like(time_), time_),
        "flow": (1 - time_, time_),
        "vp": (time_, (1 - time_.square()).sqrt()),
    }[family]
    close(x, a * sigma_d * x0 + b * e, 1e-11)


@pytest.mark.one_in(3)
@pytest.mark.parametrize("family", NETWORKS)
@given(seed=SEEDS, shape=SHAPES, sigma_d=SIGMA_D)
def test_networks_survive_the_round_trip_both_ways(family, tanh_net, seed, shape, sigma_d):
    there, back = NETWORKS[family]
    network = tanh_net(math.prod(shape), seed % 100)
    x, _, t = draw(seed, shape)
    close(back(there(network, sigma_d), sigma_d)(x, t), network(x, t), 1e-9)
    time = own_time(family, t, sigma_d)
    close(there(back(network, sigma_d), sigma_d)(x, time), network(x, time), 1e-9)


def edm_by_hand(network: Callable, x: Tensor, sigma: Tensor, sigma_d: float) -> Tensor:
    """D = c_skip x + c_out F(c_in x, c_noise) as Karras et al. 2022, Table 1 write it."""
    s = column(sigma, x)
    total = s.square() + sigma_d**2
    c_skip, c_out, c_in = sigma_d**2 / total, s * sigma_d / total.sqrt(), 1 / total.sqrt()
    return c_skip * x + c_out * network(c_in * x, sigma.log() / 4)


@given(seed=SEEDS, shape=SHAPES, sigma_d=SIGMA_D)
def test_edm_and_trigflow_denoise_to_the_same_image_with_opposite_network_sign(tanh_net, seed, shape, sigma_d):
    """Row 5: equal D, F_trig = -F_EDM, and the raw network sees the same input in both families."""
    network = tanh_net(math.prod(shape), seed % 100)
    x, _, t = draw(seed, shape)
    x_sigma, sigma = conv.edm_from_trig(x, t, sigma_d)
    exact = edm_by_hand(network, x_sigma, sigma, sigma_d)
    field = conv.field_from_edm_network(network, sigma_d)
    close(sigma_d * consistency_map(field, x, t), exact)
    close(conv.edm_denoiser_from_field(field, sigma_d)(x_sigma, sigma), exact)
    close(field(x, t), -network(x, sigma.log() / 4))
    flipped = sigma_d * consistency_map(lambda x, t: -field(x, t), x, t)
    assert (flipped - exact).abs().max() > 1e-4  # the wrong sign is another image


@given(seed=SEEDS, shape=SHAPES, sigma_d=SIGMA_D)
def test_the_table_of_edm_scalings_holds(seed, shape, sigma_d):
    """Row 5, the rest of papers.md 1.4: c_in x_sigma = x_t, c_skip = cos^2 t, c_out = sigma_d sin t."""
    x, _, t = draw(seed, shape)
    x_sigma, sigma = conv.edm_from_trig(x, t, sigma_d)
    close(sigma, sigma_d * torch.tan(t))
    close(x_sigma / column((sigma.square() + sigma_d**2).sqrt(), x), x)
    close(edm_by_hand(lambda x, _: torch.zeros_like(x), x_sigma, sigma, sigma_d), sigma_d * column(torch.cos(t), x) * x)
    gain = edm_by_hand(lambda x, _: torch.ones_like(x), 0 * x_sigma, sigma, sigma_d)
    close(gain, column(sigma_d * torch.sin(t), x).expand_as(x))


@given(seed=SEEDS, shape=SHAPES, sigma_d=SIGMA_D)
def test_flow_velocity_and_field_of_a_pair_are_each_other(seed, shape, sigma_d):
    """Row 6: of x_tau = (1 - tau) x0 + tau e the velocity e - x0 is the field cos t z - sin t x0, both ways."""
    x0, e, t = draw(seed, shape)
    x, F = interpolate(x0, e, t), velocity(x0, e, t)
    v = e - sigma_d * x0
    close(conv.field_from_flow(lambda *_: v, sigma_d)(x, t), F)
    x_tau, tau = conv.flow_from_trig(x, t, sigma_d)
    close(conv.flow_from_field(lambda *_: F, sigma_d)(x_tau, tau), v)
    denoised = x_tau - column(tau, x) * v
    close(sigma_d * consistency_map(lambda *_: F, x, t), denoised)


@given(seed=SEEDS, shape=SHAPES)
def test_flow_conversion_equals_the_papers_formula_in_data_units(tanh_net, seed, shape):
    """Row 6 as printed: F = [(c - s / sigma_d) X + v] / (c + sigma_d s) with X = sigma_d x."""
    sigma_d = 0.5
    network = tanh_net(math.prod(shape), seed % 100)
    x, _, t = draw(seed, shape)
    X, c, s = sigma_d * x, column(torch.cos(t), x), column(torch.sin(t), x)
    v = network(X / (c + sigma_d * s), sigma_d * torch.sin(t) / (torch.cos(t) + sigma_d * torch.sin(t)))
    close(conv.field_from_flow(network, sigma_d)(x, t), ((c - s / sigma_d) * X + v) / (c + sigma_d * s))


@given(seed=SEEDS, sigma_d=SIGMA_D, std=st.sampled_from([0.2, 0.5, 1.3]))
def test_exact_predictions_of_a_gaussian_become_the_exact_field(seed, sigma_d, std):
    """E[e | x'] (VP), E[e - x0 | x'] (flow) and E[x0 | x'] (EDM) of data N(0, std^2), by hand in data units."""
    x, _, t = draw(seed, (2,))
    exact = oracle.gaussian_velocity(x, t, std / sigma_d)

    def noise(x: Tensor, alpha: Tensor) -> Tensor:
        a = column(alpha, x)
        return (1 - a.square()).sqrt() * x / (a.square() * std**2 + 1 - a.square())

    def flow(x: Tensor, tau: Tensor) -> Tensor:
        b = column(tau, x)
        return (b - (1 - b) * std**2) * x / ((1 - b).square() * std**2 + b.square())

    def denoiser(x: Tensor, sigma: Tensor) -> Tensor:
        return std**2 * x / (std**2 + column(sigma, x).square())

    close(conv.field_from_vp(noise, sigma_d)(x, t), exact, 1e-10)
    close(conv.field_from_flow(flow, sigma_d)(x, t), exact, 1e-10)
    close(conv.field_from_edm_denoiser(denoiser, sigma_d)(x, t), exact, 1e-10)


@given(seed=SEEDS, shape=SHAPES, sigma_d=SIGMA_D)
def test_vp_noise_is_the_papers_conversion(tanh_net, seed, shape, sigma_d):
    """F = (X / tan t - x0 / sin t) / sigma_d with x0 = (x' - sigma e) / alpha (papers.md 1.4)."""
    network: nn.Module = tanh_net(math.prod(shape), seed % 100)
    x, _, t = draw(seed, shape, low=0.1, high=1.4)
    x_vp, alpha = conv.vp_from_trig(x, t, sigma_d)
    a = column(alpha, x)
    x0 = (x_vp - (1 - a.square()).sqrt() * network(x_vp, alpha)) / a
    exact = (sigma_d * x / column(torch.tan(t), x) - x0 / column(torch.sin(t), x)) / sigma_d
    close(conv.field_from_vp(network, sigma_d)(x, t), exact, 1e-10)


@pytest.mark.parametrize("family", POINTS)
@given(seed=SEEDS, sigma_d=SIGMA_D, std=st.sampled_from([0.2, 0.5, 1.3]))
def test_conversions_commute_with_the_exact_map_of_a_gaussian(family, seed, sigma_d, std):
    """Convert then map equals map in the family's own variables: x0 = std x' / sqrt(a^2 std^2 + b^2)."""
    x, _, t = draw(seed, (2,))
    exact = sigma_d * oracle.gaussian_consistency_map(x, t, std / sigma_d)
    other, time = POINTS[family][0](x, t, sigma_d)
    b = column(time, x)
    spread = {
        "edm": std**2 + b.square(),
        "flow": (1 - b).square() * std**2 + b.square(),
        "vp": b.square() * std**2 + 1 - b.square(),
    }[family]
    close(std * other / spread.sqrt(), exact)
    back, angle = POINTS[family][1](other, time, sigma_d)
    close(sigma_d * oracle.gaussian_consistency_map(back, angle, std / sigma_d), exact)


@pytest.mark.parametrize("sigma_d", [0.3, 0.5, 1.0])
def test_the_ends_of_flow_and_vp_time_are_the_ends_of_the_angle(sigma_d):
    x = torch.ones(2, 1, dtype=torch.float64)
    ends = torch.tensor([0.0, 1.0], dtype=torch.float64)
    x_flow, t_flow = conv.trig_from_flow(x, ends, sigma_d)
    assert t_flow.tolist() == [0.0, math.pi / 2]
    close(x_flow, torch.tensor([[1 / sigma_d], [1.0]], dtype=torch.float64))
    x_vp, t_vp = conv.trig_from_vp(x, 1 - ends, sigma_d)
    assert t_vp.tolist() == [0.0, math.pi / 2]
    close(x_vp, torch.tensor([[1 / sigma_d], [1.0]], dtype=torch.float64))
