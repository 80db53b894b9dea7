"""Networks of two times of EDM (CTM), flow matching and VP diffusion <-> the house's maps (lineage.md 0.1)."""

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.core.flow_coordinates import exact_to
from tests.core.test_conversions import close, column, draw
from tests.core.test_flow_maps import STD
from trigbench.core import conversions as conv
from trigbench.core import map_conversions as maps
from trigbench.core import oracle
from trigbench.core.map_conversions import MapNetwork
from trigbench.core.trigflow import rotate

SIGMA_D = st.sampled_from([0.3, 0.5, 1.0])
SEEDS = st.integers(0, 2**31)
SIZE = 2


def from_shortcut(network: MapNetwork, sigma_d: float) -> Callable:
    return maps.jump_from_flow(maps.flow_from_shortcut(network), sigma_d)


def to_shortcut(jump: Callable, sigma_d: float) -> MapNetwork:
    return maps.shortcut_from_flow(maps.flow_from_jump(jump, sigma_d))


CONVERSIONS = {
    "ctm": (maps.jump_from_ctm, maps.ctm_from_jump),
    "ctm network": (partial(maps.jump_from_ctm_network, smallest=0.0), maps.ctm_network_from_jump),
    "flow": (maps.jump_from_flow, maps.flow_from_jump),
    "shortcut": (from_shortcut, to_shortcut),
    "vp": (maps.jump_from_vp, maps.vp_from_jump),
}


# --- the families' own words, each written here from its paper ---------------------------------------------


def own(family: str, x: Tensor, t: Tensor, u: Tensor, sigma_d: float) -> tuple[Tensor, Tensor, Tensor]:
    """What a network of the family is given for the point x_t and the end u."""
    if family.startswith("ctm"):
        points, sigma = conv.edm_from_trig(x, t, sigma_d)
        end = sigma_d * torch.tan(u)
        if family == "ctm":
            return points, sigma, end
        return points / column((sigma.square() + sigma_d**2).sqrt(), x), sigma.log() / 4, end.log() / 4
    if family == "vp":
        return *conv.vp_from_trig(x, t, sigma_d), conv.vp_from_trig(x, u, sigma_d)[1]
    points, tau = conv.flow_from_trig(x, t, sigma_d)
    _, rho = conv.flow_from_trig(x, u, sigma_d)
    return (points, tau, rho) if family == "flow" else (points, 1 - tau, tau - rho)


def output_of(family: str, given: tuple[Tensor, ...], ended: Tensor, u: Tensor, sigma_d: float) -> Tensor:
    """What makes the family's map go from these points to where they end, a TrigFlow point at u."""
    points, one, other = given[0], *(column(n, ended) for n in given[1:])
    if family == "ctm network":  # EDM's preconditioning inside CTM's
        sigma = (4 * one).exp()
        total = sigma.square() + sigma_d**2
        inner = output_of("ctm", (points * total.sqrt(), *((4 * n).exp() for n in given[1:])), ended, u, sigma_d)
        c_skip, c_out = sigma_d**2 / total, sigma * sigma_d / total.sqrt()
        return (inner - c_skip * points * total.sqrt()) / c_out
    if family == "ctm":  # G = (end / sigma) x + (1 - end / sigma) g
        G = sigma_d * ended / column(u.cos(), ended)
        return (G - other / one * points) / (1 - other / one)
    if family == "vp":  # the DDIM step alpha_u (x' - sigma e) / alpha + sigma_u e
        sigma, sigma_u = (1 - one.square()).sqrt(), (1 - other.square()).sqrt()
        stepped, _ = conv.vp_from_trig(ended, u, sigma_d)
        return (stepped - other / one * points) / (sigma_u - other * sigma / one)
    stepped, _ = conv.flow_from_trig(ended, u, sigma_d)
    return (points - stepped) / (one - other) if family == "flow" else (stepped - points) / other


def pairs() -> tuple[Tensor, Tensor, Tensor]:
    """Points with times and ends of all kinds: data, close by, and any."""
    x, _, t = draw(0, (SIZE,), low=0.1, high=1.5)
    x, t = x.repeat(3, 1), t.repeat(3)
    share = torch.rand(len(t), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    u = torch.cat([0 * t[:4], t[4:8] - 1e-3, (share * t)[8:]])
    return x, t, u


@pytest.fixture(scope="module")
def exact(mixture) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x, t, u and where the exact map ends."""
    x, t, u = pairs()
    return x, t, u, oracle.segment_map(mixture, x, t, u, steps=128)


@pytest.mark.one_in(2)
@pytest.mark.parametrize("family", CONVERSIONS)
@pytest.mark.parametrize("sigma_d", [0.5, 1.0])
def test_the_exact_map_in_the_familys_words_is_the_exact_map_here(family, sigma_d, exact):
    """From the family's network to F, at data, close by and between."""
    x, t, u, ended = exact
    told: list[tuple[Tensor, ...]] = []

    def network(*given: Tensor) -> Tensor:
        told.append(given)
        return output_of(family, given, ended, u, sigma_d)

    F = CONVERSIONS[family][0](network, sigma_d)(u)(x, t)
    close(rotate(x, F, t, u), ended, 1e-10)
    if family == "ctm network":  # ln 0 is not told: the least number in its place
        u = u.clamp(min=torch.finfo(torch.float64).tiny)
    for ours, theirs in zip(told[0], own(family, x, t, u, sigma_d), strict=True):
        close(ours, theirs, 1e-10)


@pytest.mark.one_in(2)
@pytest.mark.parametrize("family", CONVERSIONS)
@pytest.mark.parametrize("sigma_d", [0.5, 1.0])
def test_the_exact_map_here_is_the_exact_map_in_the_familys_words(family, sigma_d, exact):
    """From F to what the family's network would give."""
    x, t, u, ended = exact
    if family == "ctm network":  # whose ln 0 is no time
        x, t, u, ended = (part[u > 0] for part in exact)
    F = (column((t - u).cos(), x) * x - ended) / column((t - u).sin(), x)
    asked: list[Tensor] = []
    jump = lambda end: lambda x, t: asked.extend((x, t, end)) or F  # noqa: E731
    given = own(family, x, t, u, sigma_d)
    close(CONVERSIONS[family][1](jump, sigma_d)(*given), output_of(family, given, ended, u, sigma_d), 1e-10)
    for ours, theirs in zip(asked, (x, t, u), strict=True):
        close(ours, theirs, 1e-7)  # alpha near 1 holds half the digits of a small angle


@settings(max_examples=6)
@given(seed=SEEDS, sigma_d=SIGMA_D)
def test_ctms_map_is_the_rotation(seed, sigma_d):
    """G, in data units, of g that any F makes: G = sigma_d f / cos u."""
    x, F, t = draw(seed, (SIZE,))
    u = t * torch.rand(len(t), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    G = maps.ctm_map(maps.ctm_from_jump(lambda u: lambda x, t: F, sigma_d))(*own("ctm", x, t, u, sigma_d))
    close(G, sigma_d * rotate(x, F, t, u) / column(u.cos(), x), 1e-11)


# --- both directions, and the ends ---------------------------------------------------------------------


def some_network(seed: int) -> MapNetwork:
    """Smooth in all three, and of no family."""
    a, b = torch.randn(2, SIZE, SIZE, generator=torch.Generator().manual_seed(seed % 1000), dtype=torch.float64)
    return lambda x, t, u: torch.tanh(x @ a + column(torch.sin(t), x)) @ b + torch.cos(column(u.atan(), x))


@pytest.mark.one_in(3)
@pytest.mark.parametrize("family", CONVERSIONS)
@settings(max_examples=6)
@given(seed=SEEDS, sigma_d=SIGMA_D, end=st.sampled_from(["data", "here", "between"]))
def test_networks_of_two_times_survive_the_round_trip_both_ways(family, seed, sigma_d, end):
    there, back = CONVERSIONS[family]
    network = some_network(seed)
    x, _, t = draw(seed, (SIZE,))
    u = {"data": 0 * t, "here": t, "between": t / 3}[end]
    jump = lambda u: lambda x, t: network(x, t, u)  # noqa: E731
    close(there(back(jump, sigma_d), sigma_d)(u)(x, t), network(x, t, u), 1e-9)
    if family == "ctm network":
        u = u.clamp(min=1e-9)
    given = own(family, x, t, u, sigma_d)
    close(back(there(network, sigma_d), sigma_d)(*given), network(*given), 1e-9)


def diffusion_of(family: str, given: tuple[Tensor, Tensor, Tensor], sigma_d: float) -> Tensor:
    """What the family's diffusion model of data N(0, (sigma_d STD)^2) gives, by hand in data units."""
    points, n, std = given[0], column(given[1], given[0]), sigma_d * STD
    if family == "ctm":
        return std**2 * points / (std**2 + n.square())
    if family == "ctm network":
        sigma = (4 * n).exp()
        total = (sigma.square() + sigma_d**2).sqrt()
        return (std**2 / (std**2 + sigma.square()) * total - sigma_d**2 / total) * points / (sigma * sigma_d / total)
    if family == "vp":
        return (1 - n.square()).sqrt() * points / (n.square() * std**2 + 1 - n.square())
    tau = n if family == "flow" else 1 - n
    v = (tau - (1 - tau) * std**2) * points / ((1 - tau).square() * std**2 + tau.square())
    return v if family == "flow" else -v


@pytest.mark.parametrize("family", CONVERSIONS)
def test_where_a_map_ends_as_it_starts_it_is_the_diffusion_model_and_the_limit_of_short_maps(family):
    x, _, t = draw(3, (3,), low=0.2, high=1.4)
    sigma_d, (there, back) = 0.5, CONVERSIONS[family]
    given = own(family, x, t, t, sigma_d)
    exact = diffusion_of(family, given, sigma_d)
    close(back(exact_to, sigma_d)(*given), exact, 1e-10)
    close(there(lambda *given: diffusion_of(family, given, sigma_d), sigma_d)(t)(x, t), exact_to(t)(x, t), 1e-10)
    far = [(back(exact_to, sigma_d)(*own(family, x, t, t - gap, sigma_d)) - exact).abs().max() for gap in (1e-2, 1e-4)]
    assert 0 < far[1] < 2e-2 * far[0] < 2e-3


@pytest.mark.parametrize("family", CONVERSIONS)
def test_where_a_map_ends_in_data_it_is_finite_and_the_limit(family):
    x, _, t = draw(4, (3,), low=0.2, high=1.4)
    sigma_d, (there, back) = 0.5, CONVERSIONS[family]
    again = there(back(exact_to, sigma_d), sigma_d)
    at_data = again(0 * t)(x, t)
    close(rotate(x, at_data, t, 0 * t), oracle.gaussian_consistency_map(x, t, STD), 1e-10)
    for u in (1e-3, 1e-6):
        close(again(0 * t + u)(x, t), at_data, 10 * u)


@pytest.mark.parametrize("family", CONVERSIONS)
def test_the_dtype_of_points_is_kept_and_times_keep_theirs(family):
    x, _, t = draw(5, (SIZE,), low=0.2, high=1.4)
    sigma_d, (there, back) = 0.5, CONVERSIONS[family]
    told: list[Tensor] = []

    def network(points: Tensor, time: Tensor, end: Tensor) -> Tensor:
        told.extend((points, time, end))
        return some_network(2)(points.double(), time, end)  # in double: made single again

    exact = there(network, sigma_d)(t / 2)(x, t)
    single = there(network, sigma_d)(t / 2)(x.float(), t)
    assert single.dtype == told[3].dtype == torch.float32 and told[4].dtype == told[5].dtype == torch.float64
    torch.testing.assert_close(single.double(), exact, rtol=1e-5, atol=1e-5)
    points, time, end = own(family, x, t, t / 2, sigma_d)
    jump = lambda u: lambda x, t: some_network(2)(x.double(), t, u).to(x.dtype)  # noqa: E731
    assert back(jump, sigma_d)(points.float(), time, end).dtype == torch.float32


@pytest.mark.parametrize("family", CONVERSIONS)
def test_ends_and_outputs_of_another_shape_are_refused(family):
    x, _, t = draw(6, (SIZE,))
    there, back = CONVERSIONS[family]
    for u in (t[:1], t[0], t[:, None]):
        with pytest.raises(ValueError, match="one per sample"):
            there(some_network(0), 0.5)(u)(x, t)
    with pytest.raises(ValueError, match=r"points \(4, 2\) the network gave \(4, 1\)"):
        there(lambda x, t, u: x[:, :1], 0.5)(t)(x, t)
    points, time, end = own(family, x, t, t / 2, 0.5)
    with pytest.raises(ValueError, match="one per sample"):
        back(lambda u: lambda x, t: x, 0.5)(points, time, end[:1])


def test_ends_below_the_least_that_a_network_knows_are_told_as_that():
    x, _, t = draw(7, (SIZE,))
    u = torch.tensor([0.0, 1e-4, 0.004, 0.5], dtype=torch.float64)
    told: list[Tensor] = []
    maps.jump_from_ctm_network(lambda x, t, end: told.append(end) or x, 0.5, smallest=0.002)(u)(x, t)
    sigmas = [0.002, 0.002, 0.5 * math.tan(0.004), 0.5 * math.tan(0.5)]
    close((4 * told[0]).exp(), torch.tensor(sigmas, dtype=torch.float64))
    maps.jump_from_ctm_network(lambda x, t, end: told.append(end) or x, 0.5)(u)(x, t)
    assert torch.equal(told[1], told[0]), "the paper's, unless it is said"
    maps.jump_from_ctm_network(lambda x, t, end: told.append(end) or x, 0.5, smallest=1e-44)(u)(x, t)
    close(told[2], torch.tensor([1e-44, 0.5 * math.tan(1e-4), *sigmas[2:]], dtype=torch.float64).log() / 4)
    for wrong in (-1.0, math.nan):
        with pytest.raises(ValueError, match="0 or more"):
            maps.jump_from_ctm_network(lambda x, t, end: x, 0.5, smallest=wrong)


# --- LCM's boundary ------------------------------------------------------------------------------------


def some_steps(alpha: Tensor) -> Tensor:
    """n of alpha, 0 at data, where c_skip is neither 0 nor 1."""
    return 0.7 * torch.acos(alpha.clamp(max=1))


def lcm_by_hand(network: Callable, points: Tensor, alpha: Tensor) -> Tensor:
    a, n = column(alpha, points), column(some_steps(alpha), points)
    predicted = (points - (1 - a.square()).sqrt() * network(points, alpha)) / a
    return 0.25 / (n.square() + 0.25) * points + n / (n.square() + 0.25).sqrt() * predicted


@settings(max_examples=6)
@given(seed=SEEDS, sigma_d=SIGMA_D)
def test_lcms_map_is_the_consistency_map_of_its_field(seed, sigma_d):
    x, _, t = draw(seed, (SIZE,))
    noise = lambda points, alpha: some_network(seed)(points, alpha, alpha)  # noqa: E731
    field = maps.field_from_lcm(noise, some_steps, sigma_d)
    exact = lcm_by_hand(noise, *conv.vp_from_trig(x, t, sigma_d))
    close(sigma_d * rotate(x, field(x, t), t, 0 * t), exact, 1e-10)
    back = maps.lcm_from_field(field, some_steps, sigma_d)
    points, alpha = conv.vp_from_trig(x, t, sigma_d)
    close(back(points, alpha), noise(points, alpha), 1e-8)


def test_the_exact_map_inside_lcms_boundary_is_the_exact_map_and_ends_in_the_point_itself(exact):
    x, t, _, ended = (part[exact[2] == 0] for part in exact)
    F = (column(t.cos(), x) * x - ended) / column(t.sin(), x)
    noise = maps.lcm_from_field(lambda x, t: F, some_steps, 0.5)
    close(lcm_by_hand(noise, *conv.vp_from_trig(x, t, 0.5)), 0.5 * ended, 1e-10)
    close(maps.field_from_lcm(noise, some_steps, 0.5)(x, t), F, 1e-10)
    near = 0 * t + 1e-6
    field = maps.field_from_lcm(lambda points, alpha: torch.ones_like(points), some_steps, 0.5)
    assert field(x, near).isfinite().all()
    close(rotate(x, field(x, near), near, 0 * t), x, 1e-5)
