"""The tangent of the consistency map and its controls (papers.md sec. 10, rows 1, 2 and 3).

X, V and g_paper are in the paper's data units: X = sigma_d x, V = sigma_d v, g_paper = sigma_d g.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from trigbench.core.forward_mode import METHODS, value_and_tangent
from trigbench.core.networks.embeddings import noise_coordinate
from trigbench.core.tangents import (
    clip,
    derivative_along,
    map_tangent,
    normalise,
    raw,
    segment_direction,
)
from trigbench.core.trigflow import consistency_map, interpolate, rotate, velocity

SIGMA_D = 0.5
SEEDS = st.integers(0, 10_000)


@dataclass(frozen=True)
class Case:
    """A random network, data, noise and times, in unit variance."""

    net: nn.Module
    x0: Tensor
    z: Tensor
    t: Tensor

    @property
    def x(self) -> Tensor:
        return interpolate(self.x0, self.z, self.t)

    @property
    def column(self) -> Tensor:
        return self.t[:, None]


@pytest.fixture(scope="session")
def case(tanh_net: Callable[..., nn.Module]) -> Callable[..., Case]:
    def make(seed: int, batch: int = 5, size: int = 3) -> Case:
        generator = torch.Generator().manual_seed(seed)
        x0, z = torch.randn(2, batch, size, generator=generator, dtype=torch.float64)
        t = 0.02 + 1.53 * torch.rand(batch, generator=generator, dtype=torch.float64)
        return Case(tanh_net(size, seed), x0, z, t)

    return make


def jvp(function: Callable[..., Tensor], primals: tuple, tangents: tuple) -> tuple[Tensor, Tensor]:
    return torch.func.jvp(function, primals, tangents)[:2]


def close(ours: Tensor, exact: Tensor, tolerance: float = 1e-13) -> None:
    torch.testing.assert_close(ours.detach(), exact.detach(), rtol=tolerance, atol=tolerance)


def papers_map(net: nn.Module) -> Callable[[Tensor, Tensor], Tensor]:
    """f(X, t) = cos t X - sin t sigma_d F(X / sigma_d, t) in data units."""
    return lambda X, t: torch.cos(t)[:, None] * X - torch.sin(t)[:, None] * SIGMA_D * net(X / SIGMA_D, t)


@given(seed=SEEDS)
def test_closed_form_of_the_map_tangent_is_the_jvp_in_the_papers_units(case, seed):
    """Row 1: df/dt along (dX/dt, 1) = -cos t (sigma_d F - V) - sin t (X + sigma_d dF/dt)."""
    k = case(seed)
    X, V = SIGMA_D * k.x, SIGMA_D * velocity(k.x0, k.z, k.t)
    one = torch.ones_like(k.t)
    _, exact = jvp(papers_map(k.net), (X, k.t), (V, one))
    F, dF = jvp(lambda X, t: k.net(X / SIGMA_D, t), (X, k.t), (V, one))
    c, s = torch.cos(k.column), torch.sin(k.column)
    close(-c * (SIGMA_D * F - V) - s * (X + SIGMA_D * dF), exact)
    close(SIGMA_D * map_tangent(F, dF, k.x, V / SIGMA_D, k.t), exact)


@given(seed=SEEDS)
def test_map_tangent_is_the_jvp_of_the_consistency_map(case, seed):
    """Row 1 in unit variance, through core's own map."""
    k = case(seed)
    v, one = velocity(k.x0, k.z, k.t), torch.ones_like(k.t)
    _, exact = jvp(lambda x, t: consistency_map(k.net, x, t), (k.x, k.t), (v, one))
    F, dF = derivative_along(k.net, k.x, k.t, v, one)
    close(map_tangent(F, dF, k.x, v, k.t), exact)


@given(seed=SEEDS)
def test_rearranged_jvp_carries_sigma_d_cos_sin(case, seed):
    """Row 2: along (cs V, cs sigma_d) on (X / sigma_d, t) the JVP is sigma_d cs dF/dt, not the printed cs dF/dt."""
    k = case(seed)
    X, V = SIGMA_D * k.x, SIGMA_D * velocity(k.x0, k.z, k.t)
    cs = torch.cos(k.t) * torch.sin(k.t)
    _, papers = jvp(k.net, (X / SIGMA_D, k.t), (cs[:, None] * V, cs * SIGMA_D))
    _, dF = jvp(lambda X, t: k.net(X / SIGMA_D, t), (X, k.t), (V, torch.ones_like(k.t)))
    close(papers, SIGMA_D * cs[:, None] * dF)
    assert (papers - cs[:, None] * dF).abs().max() > 1e-3
    _, ours = derivative_along(k.net, k.x, k.t, V / SIGMA_D, cs)
    close(SIGMA_D * ours, papers)


@given(seed=SEEDS)
def test_direction_at_full_warmup_is_cos_t_times_the_tangent(case, seed):
    """Row 3: g(r = 1) = cos t df/dt; the prior weight is inside and nothing more is multiplied."""
    k = case(seed)
    v = velocity(k.x0, k.z, k.t)
    X, V = SIGMA_D * k.x, SIGMA_D * v
    _, tangent = jvp(papers_map(k.net), (X, k.t), (V, torch.ones_like(k.t)))
    g = segment_direction(k.net, k.x, k.t, torch.zeros_like(k.t), v).g
    close(SIGMA_D * g, torch.cos(k.column) * tangent)


@pytest.mark.slow
@given(seed=SEEDS, r=st.floats(0, 1))
def test_segment_down_to_zero_is_scm_bit_for_bit(case, seed, r):
    k = case(seed)
    v = velocity(k.x0, k.z, k.t)
    c, s = torch.cos(k.column), torch.sin(k.column)
    F, scaled_dF = value_and_tangent(k.net, (k.x, k.t), (c * s * v, (c * s)[:, 0]))
    direction = segment_direction(k.net, k.x, k.t, torch.zeros_like(k.t), v, r)
    assert torch.equal(direction.F, F)
    assert torch.equal(direction.g, -c * c * (F - v) - r * (c * s * k.x + scaled_dF))


@given(seed=SEEDS, fraction=st.floats(0, 1))
def test_segment_direction_is_cos_times_the_derivative_of_the_segment_map(case, seed, fraction):
    k = case(seed)
    v, u = velocity(k.x0, k.z, k.t), fraction * k.t
    _, derivative = jvp(lambda x, t: rotate(x, k.net(x, t), t, u), (k.x, k.t), (v, torch.ones_like(k.t)))
    close(segment_direction(k.net, k.x, k.t, u, v).g, torch.cos(k.t - u)[:, None] * derivative)


@pytest.mark.slow
@given(seed=SEEDS, r=st.floats(0, 1))
def test_warmup_scales_the_sine_term_only_and_starts_as_velocity_matching(case, seed, r):
    k = case(seed)
    v, zero = velocity(k.x0, k.z, k.t), torch.zeros_like(k.t)
    g_r, g_0, g_1 = (segment_direction(k.net, k.x, k.t, zero, v, w).g for w in (r, 0.0, 1.0))
    c, s = torch.cos(k.column), torch.sin(k.column)
    close(g_0, -c * c * (k.net(k.x, k.t) - v))
    _, dF = jvp(k.net, (k.x, k.t), (v, torch.ones_like(k.t)))
    close(g_r - g_0, -r * c * s * (k.x + dF))
    close(g_r, g_0 + r * (g_1 - g_0))


def test_at_the_start_of_warmup_a_student_equal_to_its_teacher_has_no_direction(case):
    k = case(0)
    g = segment_direction(k.net, k.x, k.t, torch.zeros_like(k.t), k.net(k.x, k.t).detach(), 0.0).g
    assert torch.equal(g, torch.zeros_like(g))


@given(seed=SEEDS, size=st.sampled_from([1e-3, 0.1, 1.0, 30.0]))
def test_controls_are_the_papers_in_data_units(seed, size):
    """g_paper / (|g_paper| + 0.1), clip(g_paper, +-1) and g_paper itself, with g_paper = sigma_d g."""
    g = size * torch.randn(4, 2, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    papers = SIGMA_D * g
    norm = papers.flatten(1).norm(dim=1)[:, None, None]
    close(normalise(g, 0.1 / SIGMA_D), papers / (norm + 0.1))
    close(clip(g, SIGMA_D), papers.clamp(-1, 1))
    close(raw(g, SIGMA_D), papers)


@given(seed=SEEDS, constant=st.floats(0.01, 1))
def test_rms_norm_differs_from_l2_by_the_root_of_the_dimension(seed, constant):
    g = torch.randn(4, 2, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    rms = g.square().mean((1, 2), keepdim=True).sqrt()
    close(normalise(g, constant, "rms"), g / (rms + constant))
    close(normalise(g, constant, "rms"), 4 * normalise(g, 4 * constant, "l2"))
    assert (normalise(g, constant).flatten(1).norm(dim=1) < 1).all()


def test_normalising_a_zero_direction_gives_zero_and_samples_do_not_mix():
    g = torch.tensor([[0.0, 0.0], [3.0, 4.0]])
    assert torch.equal(normalise(g, 1.0), torch.tensor([[0.0, 0.0], [0.5, 4 / 6]]))


def test_an_unknown_norm_is_refused(unchecked):
    norm: str = "max"
    with unchecked(), pytest.raises(ValueError, match="unknown norm"):
        normalise(torch.ones(2, 2), 0.2, norm)  # type: ignore


def test_differences_follow_the_path_that_they_are_given(case, tanh_net):
    """Teacher's path in distillation; the data's path has another derivative."""
    k = case(3)
    teacher_v, data_v = tanh_net(3, 99)(k.x, k.t).detach(), velocity(k.x0, k.z, k.t)
    cs = torch.cos(k.t) * torch.sin(k.t)
    exact, other = (derivative_along(k.net, k.x, k.t, v, cs)[1] for v in (teacher_v, data_v))
    _, found = derivative_along(k.net, k.x, k.t, teacher_v, cs, "difference")
    close(found, exact, 1e-9)
    assert (found - other).norm() > 0.1 * exact.norm()


def test_differences_never_leave_the_times_that_exist():
    seen: list[Tensor] = []

    def field(x: Tensor, t: Tensor) -> Tensor:
        seen.append(t)
        return x * t[:, None]

    t = torch.tensor([1e-6, 1e-4, 0.01, 1.0, 1.57, math.pi / 2 - 1e-6], dtype=torch.float64)
    x, cs = torch.ones(6, 1, dtype=torch.float64), torch.cos(t) * torch.sin(t)
    _, dF = derivative_along(field, x, t, torch.zeros_like(x), cs, "difference")
    assert len(seen) == 3 and torch.cat(seen).min() > 0 and torch.cat(seen).max() < math.pi / 2
    torch.testing.assert_close(dF, cs[:, None], rtol=1e-3, atol=1e-9)


@pytest.mark.slow
@given(seed=SEEDS)
def test_derivative_of_a_tanh_network_is_the_one_derived_by_hand(case, seed):
    """d/dt W2 tanh(W1 x + a t + b) = W2 (1 - tanh^2) (W1 v + a)."""
    k = case(seed)
    v = velocity(k.x0, k.z, k.t)
    w1, a, b, w2 = (p.detach() for p in (k.net.w1, k.net.a, k.net.b, k.net.w2))
    y = torch.tanh(k.x @ w1 + k.column * a + b)
    by_hand = ((1 - y.square()) * (v @ w1 + a)) @ w2
    for method in METHODS:
        tolerance = 1e-7 if method == "difference" else 1e-13
        F, scaled = derivative_along(k.net, k.x, k.t, v, torch.sin(k.t), method)
        close(F, y @ w2)
        close(scaled, torch.sin(k.column) * by_hand, tolerance)


@pytest.mark.parametrize("method", METHODS)
def test_no_tangent_carries_a_gradient_but_the_value_does(case, method):
    k = case(5)
    v = k.net(k.x, k.t)  # a velocity that still hangs on the parameters
    direction = segment_direction(
        k.net, k.x, k.t, torch.zeros_like(k.t), v, derivative=partial(derivative_along, method=method)
    )
    assert not direction.g.requires_grad
    ours = torch.autograd.grad(direction.F.square().sum(), list(k.net.parameters()))
    exact = torch.autograd.grad(k.net(k.x, k.t).square().sum(), list(k.net.parameters()))
    for a, b in zip(ours, exact, strict=True):
        close(a, b)


@pytest.mark.parametrize("t", [1e-6, 1e-4, math.pi / 2 - 1e-4, math.pi / 2 - 1e-6])
def test_rearranged_tangents_stay_finite_in_half_precision_at_both_ends(t):
    """With c_noise = ln(sigma)/4 its derivative 1/(4 cos t sin t) overflows float16; times cos t sin t it is 1/4."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(4, 4, generator=generator).half()

    def field(x: Tensor, t: Tensor) -> Tensor:
        c_noise = noise_coordinate(t, "log_noise_level", SIGMA_D)[:, None].to(x.dtype)
        return torch.tanh(x @ weight + 100 * c_noise)

    x = torch.randn(3, 4, generator=generator).half()
    t_ = torch.full((3,), t, dtype=torch.float64)
    v = torch.randn(3, 4, generator=generator).half()
    cs = torch.cos(t_) * torch.sin(t_)
    direction = segment_direction(field, x, t_, torch.zeros_like(t_), v)
    assert direction.g.dtype == torch.float16 and bool(direction.g.isfinite().all())
    _, rearranged = derivative_along(field, x, t_, v, cs)
    assert bool(rearranged.isfinite().all())
    _, plain = derivative_along(field, x, t_, v, torch.ones_like(t_))
    assert not bool((cs[:, None].half() * plain).isfinite().all())  # scaling afterwards is too late
