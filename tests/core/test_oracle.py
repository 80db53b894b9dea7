"""The known data are what they claim: score, velocity, posterior, consistency map, samples."""

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from trigbench.core import oracle

SEEDS = st.integers(0, 10_000)


def draw(seed: int, batch: int, dimension: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = 1.5 * torch.randn(batch, dimension, generator=generator, dtype=torch.float64)
    return x, 0.01 + 1.55 * torch.rand(batch, generator=generator, dtype=torch.float64)


def component_densities(mixture: oracle.Mixture, x: Tensor, t: Tensor) -> Tensor:
    """weights_k N(x; cos t means_k, (cos^2 t stds_k^2 + sin^2 t) I) by torch.distributions."""
    c, s = torch.cos(t)[:, None], torch.sin(t)[:, None]
    std = (c.square() * mixture.stds.square() + s.square()).sqrt()
    normals = torch.distributions.Normal(c[:, :, None] * mixture.means, std[:, :, None])
    return mixture.weights * normals.log_prob(x[:, None, :]).sum(-1).exp()


@given(seed=SEEDS)
def test_score_is_the_gradient_of_the_log_density(mixture, seed):
    x, t = draw(seed, 6, 2)
    x.requires_grad_()
    (exact,) = torch.autograd.grad(component_densities(mixture, x, t).sum(1).log().sum(), x)
    torch.testing.assert_close(oracle.score(mixture, x.detach(), t), exact, rtol=1e-10, atol=1e-10)


@given(seed=SEEDS)
def test_velocity_is_the_scores_by_the_papers_identity(mixture, seed):
    """F = -(sin t / cos t) (score + x): the inverse of score = -(cos t F + sin t x) / sin t."""
    x, t = draw(seed, 6, 2)
    c, s = torch.cos(t)[:, None], torch.sin(t)[:, None]
    exact = -s / c * (oracle.score(mixture, x, t) + x)
    torch.testing.assert_close(c * oracle.velocity(mixture, x, t), c * exact, rtol=1e-11, atol=1e-11)


@given(seed=SEEDS)
def test_velocity_is_the_mean_of_the_pairs_velocity(mixture_1d, seed):
    """E[cos t z - sin t x0 | x_t] by a Riemann sum over x0 with Bayes' rule."""
    x, t = draw(seed, 3, 1)
    t = t.clamp(min=0.2)
    c, s = torch.cos(t)[:, None], torch.sin(t)[:, None]
    x0 = torch.linspace(-6, 6, 6001, dtype=torch.float64)
    prior = torch.distributions.Normal(mixture_1d.means[:, 0, None], mixture_1d.stds[:, None]).log_prob(x0).exp()
    likelihood = (-0.5 * ((x - c * x0) / s).square()).exp()
    weight = (mixture_1d.weights @ prior) * likelihood
    mean = (weight * (c * (x - c * x0) / s - s * x0)).sum(1) / weight.sum(1)
    torch.testing.assert_close(oracle.velocity(mixture_1d, x, t)[:, 0], mean, rtol=1e-8, atol=1e-8)


def test_velocity_at_zero_noise_is_minus_nothing_but_the_mean_noise(mixture):
    """At t = 0 the pair's z is independent of x, so E[z | x] = 0, and nothing is divided by sin t."""
    x, t = draw(0, 5, 2)
    assert oracle.velocity(mixture, x, 0 * t).abs().max() == 0


@given(seed=SEEDS)
def test_posterior_is_bayes_rule_and_its_rows_sum_to_one(mixture, seed):
    x, t = draw(seed, 6, 2)
    ours = oracle.posterior(mixture, x, t)
    torch.testing.assert_close(ours.sum(1), torch.ones(6, dtype=torch.float64), rtol=1e-14, atol=0)
    joint = component_densities(mixture, x, t)
    torch.testing.assert_close(ours, joint / joint.sum(1, keepdim=True), rtol=1e-10, atol=1e-12)
    prior = oracle.posterior(mixture, x, torch.full_like(t, math.pi / 2))
    torch.testing.assert_close(prior, mixture.weights.expand(6, -1), rtol=1e-12, atol=1e-12)


@pytest.mark.one_in(3)
@pytest.mark.parametrize("std", [0.2, 1.0, 2.6])
def test_mixture_of_one_component_has_the_gaussians_closed_forms(std):
    one = torch.ones(1, dtype=torch.float64)
    mixture = oracle.Mixture(one, torch.zeros(1, 3, dtype=torch.float64), std * one)
    x, t = draw(1, 8, 3)
    close = partial(torch.testing.assert_close, rtol=1e-12, atol=1e-12)
    close(oracle.velocity(mixture, x, t), oracle.gaussian_velocity(x, t, std))
    spread = (torch.cos(t).square() * std**2 + torch.sin(t).square())[:, None]
    close(oracle.score(mixture, x, t), -x / spread)
    exact = oracle.gaussian_consistency_map(x, t, std)
    torch.testing.assert_close(oracle.consistency_map(mixture, x, t), exact, rtol=0, atol=1e-9)


@given(seed=SEEDS, std=st.floats(0.2, 3))
def test_gaussian_closed_forms_solve_the_ode(seed, std):
    """d/dt of the map along (velocity, 1) is zero, and the map at t = 0 is the identity."""
    x, t = draw(seed, 5, 2)
    v = oracle.gaussian_velocity(x, t, std)
    closed_form = partial(oracle.gaussian_consistency_map, std=std)
    change = torch.func.jvp(closed_form, (x, t), (v, torch.ones_like(t)))[1]
    assert change.abs().max() < 1e-11
    torch.testing.assert_close(oracle.gaussian_consistency_map(x, 0 * t, std), x, rtol=1e-14, atol=1e-14)


def narrow_1d() -> oracle.Mixture:
    """Two components of standard deviation exactly 0.2 in unit variance: the docstring's hardest case."""
    half = torch.full((2,), 0.5, dtype=torch.float64)
    far = math.sqrt(1 - 0.2**2)
    return oracle.Mixture(half, torch.tensor([[-far], [far]], dtype=torch.float64), torch.full_like(half, 0.2))


def map_errors(mixture: oracle.Mixture, steps: list[int]) -> list[tuple[float, float]]:
    """(median, greatest) distance to the map in 1024 steps, from t_max."""
    dimension = mixture.means.shape[1]
    x = torch.randn(500, dimension, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    t = torch.full((500,), math.atan(160), dtype=torch.float64)
    exact = oracle.consistency_map(mixture, x, t, 1024)
    errors = [(oracle.consistency_map(mixture, x, t, n) - exact).abs() for n in steps]
    return [(float(e.median()), float(e.max())) for e in errors]


@pytest.mark.slow
def test_error_of_the_map_falls_sixteenfold_when_steps_double(mixture, unchecked):
    with unchecked():
        errors = map_errors(mixture, [32, 64, 128])
    for one, half, quarter in zip(*errors, strict=True):
        assert [math.log2(one / half), math.log2(half / quarter)] == pytest.approx([4, 4], abs=0.5)


@pytest.mark.slow
@pytest.mark.parametrize(("case", "greatest"), [("fixture", 1e-8), ("narrow", 1e-6)])
def test_the_map_at_256_steps_is_exact_to_1e_9_bar_the_watershed_between_modes(mixture, unchecked, case, greatest):
    """Measured with 1024 steps: points that nearly stay between narrow modes amplify the error of every step."""
    with unchecked():
        median, maximum = map_errors(mixture if case == "fixture" else narrow_1d(), [256])[0]
    assert median < 1e-9 and maximum < greatest


@pytest.mark.slow
def test_the_map_is_constant_along_the_ode_and_differentiable(mixture, unchecked):
    x, t = draw(3, 6, 2)
    along = oracle.velocity(mixture, x, t)
    along[3:] += 0.1
    with unchecked():
        map_of = partial(oracle.consistency_map, mixture, steps=96)
        change = torch.func.jvp(map_of, (x, t), (along, torch.ones_like(t)))[1]
    assert change[:3].abs().max() < 1e-7
    assert (change[3:].norm(dim=1) > 1e-3).all()  # off the ODE's path the map changes


@pytest.mark.slow
@settings(max_examples=10)
@given(fractions=st.tuples(st.floats(0, 1), st.floats(0, 1)))
def test_segment_maps_compose_and_run_backwards(mixture, unchecked, fractions):
    x, t = draw(2, 4, 2)
    middle, end = fractions[0] * t, fractions[0] * fractions[1] * t
    segment = partial(oracle.segment_map, mixture, steps=48)
    with unchecked():
        there = segment(x, t, middle)
        torch.testing.assert_close(segment(there, middle, end), segment(x, t, end), rtol=0, atol=1e-6)
        torch.testing.assert_close(segment(there, middle, t), x, rtol=0, atol=1e-6)
    assert torch.equal(oracle.segment_map(mixture, x, t, t, steps=2), x)


def test_the_map_carries_noise_to_data(mixture_1d, unchecked):
    """Mapped standard normal quantiles are the mixture's quantiles (the map is monotone on the line)."""
    level = torch.linspace(0.01, 0.99, 99, dtype=torch.float64)
    noise = torch.special.ndtri(level)[:, None]
    with unchecked():
        x0 = oracle.consistency_map(mixture_1d, noise, torch.full((99,), math.pi / 2, dtype=torch.float64))
    cumulative = torch.special.ndtr((x0 - mixture_1d.means[:, 0]) / mixture_1d.stds) @ mixture_1d.weights
    torch.testing.assert_close(cumulative, level, rtol=0, atol=1e-9)


@given(seed=SEEDS, dimension=st.integers(1, 4), components=st.integers(1, 5))
def test_standardised_has_mean_zero_and_mean_variance_one(seed, dimension, components):
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape: int) -> Tensor:
        return 0.1 + torch.rand(*shape, generator=generator, dtype=torch.float64)

    weights = uniform(components)
    raw = oracle.Mixture(weights / weights.sum(), 5 * uniform(components, dimension), uniform(components))
    m = oracle.standardised(raw)
    torch.testing.assert_close(m.weights @ m.means, torch.zeros(dimension, dtype=torch.float64), rtol=0, atol=1e-12)
    variances = m.weights @ (m.means.square() + m.stds.square()[:, None])
    assert variances.mean().item() == pytest.approx(1.0, rel=1e-12)
    again = oracle.standardised(m)
    torch.testing.assert_close(again.means, m.means, rtol=1e-12, atol=1e-12)


def test_samples_have_the_mixtures_moments(mixture):
    count = 200_000
    generator = torch.Generator().manual_seed(0)
    uniform = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    x = oracle.sample(mixture, uniform, torch.randn(count, 2, generator=generator, dtype=torch.float64))
    assert x.mean(0).abs().max() < 5 / count**0.5
    assert x.var(0).mean().item() == pytest.approx(1.0, abs=0.015)
    centred = mixture.means - mixture.weights @ mixture.means
    covariance = (mixture.weights[:, None] * centred).T @ centred + (
        mixture.weights @ mixture.stds.square()
    ) * torch.eye(2)
    torch.testing.assert_close(x.T.cov(), covariance, rtol=0, atol=0.015)
    first = x[uniform < mixture.weights[0]]
    torch.testing.assert_close(first.mean(0), mixture.means[0], rtol=0, atol=0.01)
    assert first.std(0).tolist() == pytest.approx([float(mixture.stds[0])] * 2, rel=0.01)


def test_a_uniform_draw_at_the_very_end_still_has_a_component(mixture: oracle.Mixture):
    noise = torch.zeros(2, 2, dtype=torch.float64)
    ends: Callable[..., Tensor] = partial(torch.tensor, dtype=torch.float64)
    assert torch.equal(oracle.sample(mixture, ends([0.0, 1.0]), noise), mixture.means[[0, 2]])
