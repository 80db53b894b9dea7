"""Exact solutions are where each objective stops moving (papers.md sec. 10, rows 11 and 12; design sec. 4)."""

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from trigbench.core import oracle
from trigbench.core.fields import Draws, Fields
from trigbench.core.objectives.continuous import ContinuousSettings, scd, sct
from trigbench.core.objectives.diffusion import diffusion
from trigbench.core.objectives.discrete import DiscreteSettings, chord_velocity, discrete_direction, dscd
from trigbench.core.objectives.regression import settings_for
from trigbench.core.samplers import Step
from trigbench.core.samplers.ode import ddim_step, heun_step
from trigbench.core.tangents import derivative_along, normalise, raw, segment_direction
from trigbench.core.trigflow import Field, ProposalGrid, lognormal_angle

STDS = [0.2 / 0.5, 0.5 / 0.5, 1.3 / 0.5]  # row 12's s, in units of sigma_d
RAW = partial(raw, sigma_d=1.0)
STEPS = 128
"""Runge-Kutta steps of the exact maps here: enough for 1e-8 with these mixtures (test_oracle.py measures it)."""


@pytest.fixture(autouse=True)
def _shapes_unchecked(unchecked: Callable[[], AbstractContextManager[None]]) -> Iterator[None]:
    """Thousands of small steps: checking shapes at each would take most of the time (other modules check them)."""
    with unchecked():
        yield


def field_of_map(solution: Callable[[Tensor, Tensor], Tensor], u: Tensor | float = 0.0) -> Field:
    """The F whose map to the edge u is `solution`: F = (cos(t-u) x - solution) / sin(t-u), and 0 at t = u."""

    def field(x: Tensor, t: Tensor) -> Tensor:
        gap = (t - u).reshape(-1, 1)
        safe = torch.where(gap == 0, 1.0, torch.sin(gap))
        return torch.where(gap == 0, 0.0, (torch.cos(gap) * x - solution(x, t)) / safe)

    return field


def gaussian_fields(std: float) -> Fields:
    exact = field_of_map(lambda x, t: oracle.gaussian_consistency_map(x, t, std))
    return Fields(student=exact, teacher=lambda x, t: oracle.gaussian_velocity(x, t, std))


def mixture_fields(mixture: oracle.Mixture, steps: int = STEPS) -> Fields:
    exact = field_of_map(lambda x, t: oracle.consistency_map(mixture, x, t, steps))
    return Fields(student=exact, teacher=lambda x, t: oracle.velocity(mixture, x, t))


def draws(batch: int, dimension: int, low: float = 0.02, high: float = 0.99) -> Draws:
    generator = torch.Generator().manual_seed(7)
    uniform = low + (high - low) * torch.rand(batch, generator=generator, dtype=torch.float64)
    return Draws(uniform, torch.randn(batch, dimension, generator=generator, dtype=torch.float64))


@pytest.mark.parametrize("t", [0.1, 0.7, 1.1, 1.55])
@pytest.mark.parametrize("std", STDS)
def test_exact_map_of_a_gaussian_has_no_direction(std, t):
    """Rows 11 (std 1) and 12: with F of f* and the exact velocity g is 0."""
    x = torch.linspace(-3, 3, 7, dtype=torch.float64)[:, None]
    t_ = torch.full((7,), t, dtype=torch.float64)
    fields = gaussian_fields(std)
    assert fields.teacher is not None
    g = segment_direction(fields.student, x, t_, torch.zeros_like(t_), fields.teacher(x, t_)).g
    assert g.abs().max() < 1e-12
    elsewhere = segment_direction(fields.teacher, x, t_, torch.zeros_like(t_), fields.teacher(x, t_)).g
    assert elsewhere.abs().max() > 1e-4  # the optimal diffusion network is not the optimal consistency network


def test_exact_field_of_unit_gaussian_is_minus_tan_of_half_the_angle():
    """Row 11: data as wide as the noise do not move, so f(x, t) = x and F = -tan(t/2) x, while the teacher is 0."""
    x = torch.linspace(-3, 3, 7, dtype=torch.float64)[:, None]
    t = torch.linspace(0.1, 1.57, 7, dtype=torch.float64)
    fields = gaussian_fields(1.0)
    assert fields.teacher is not None and not fields.teacher(x, t).any()
    torch.testing.assert_close(fields.student(x, t), -torch.tan(t / 2)[:, None] * x, rtol=1e-12, atol=1e-12)
    by_name = Fields(lambda x, t: -torch.tan(t / 2)[:, None] * x, fields.teacher)
    assert scd(by_name, x, draws(7, 1), ContinuousSettings()).direction_norm.max() < 1e-13


@pytest.mark.parametrize("std", STDS)
def test_scd_is_stationary_at_the_exact_map_of_a_gaussian(std):
    generator = torch.Generator().manual_seed(3)
    x0 = std * torch.randn(64, 3, generator=generator, dtype=torch.float64)
    assert scd(gaussian_fields(std), x0, draws(64, 3), ContinuousSettings()).direction_norm.max() < 1e-12
    half_way = scd(gaussian_fields(std), x0, draws(64, 3), ContinuousSettings(warmup=0.5)).direction_norm
    assert half_way.max() > 1e-3  # only the full tangent is zero there


def reference_derivative(field: Field, x: Tensor, t: Tensor, v: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    return torch.func.jvp(field, (x, t), (scale[:, None] * v, scale))[:2]


@pytest.mark.slow
@pytest.mark.parametrize("derivative", [derivative_along, reference_derivative], ids=["auto", "jvp"])
def test_scd_is_stationary_at_the_exact_map_of_a_mixture(mixture, derivative):
    settings = ContinuousSettings(derivative=derivative)
    noise = draws(6, 2, low=0.1)
    x0 = oracle.sample(mixture, noise.uniform.flip(0), noise.noise.flip(0))
    assert scd(mixture_fields(mixture), x0, noise, settings).direction_norm.max() < 1e-8
    teacher = partial(oracle.velocity, mixture)
    assert scd(Fields(teacher, teacher), x0, noise, settings).direction_norm.max() > 1e-2


@pytest.mark.slow
def test_segments_are_stationary_at_the_exact_segment_map(mixture):
    t = torch.tensor([1.1, 1.3, 1.5], dtype=torch.float64)
    edge = torch.tensor([0.0, 0.4, 1.0], dtype=torch.float64)
    x, v = draws(3, 2).noise, oracle.velocity(mixture, draws(3, 2).noise, t)
    exact = field_of_map(lambda x, t: oracle.segment_map(mixture, x, t, edge, STEPS), edge)
    assert segment_direction(exact, x, t, edge, v).g.abs().max() < 1e-8
    another_edge = segment_direction(exact, x, t, edge + 0.05, v).g
    assert (another_edge.norm(dim=1) > 1e-3).all()


# --- posterior means by quadrature -----------------------------------------------------------------


def posterior_pairs(mixture: oracle.Mixture, x_t: float, t: float, nodes: int = 32) -> tuple[Tensor, Tensor, Tensor]:
    """(x0, z, weights): Gauss-Hermite nodes of p(x0 | x_t) on the line, z = (x_t - c x0) / s."""
    points, weights = (torch.from_numpy(a) for a in np.polynomial.hermite_e.hermegauss(nodes))
    c, s, variance = math.cos(t), math.sin(t), mixture.stds.square()
    precision = 1 / variance + (c / s) ** 2
    mean = (mixture.means[:, 0] / variance + c * x_t / s**2) / precision
    evidence = c**2 * variance + s**2
    component = mixture.weights * evidence.rsqrt() * (-0.5 * (x_t - c * mixture.means[:, 0]).square() / evidence).exp()
    x0 = (mean[:, None] + points / precision.sqrt()[:, None]).flatten()[:, None]
    joint = ((component / component.sum())[:, None] * weights / weights.sum()).flatten()
    return x0, (x_t - c * x0) / s, joint


def mean_direction(objective: Callable, student: Field, mixture: oracle.Mixture, **settings: Any) -> Tensor:
    """E[g | x_t] of an objective at some (x_t, t), read off the gradient of its loss in a shift of the student."""
    means, chosen = [], settings_for(objective, **settings)
    for x_t, uniform in ((-0.2, 0.6), (0.4, 0.9)):
        u = torch.tensor([uniform], dtype=torch.float64)
        t = float(lognormal_angle(u, chosen.proposal_mean, chosen.proposal_std, chosen.sigma_d))
        x0, z, weights = posterior_pairs(mixture, x_t, t)
        shift = torch.zeros(1, dtype=torch.float64, requires_grad=True)

        def shifted(x: Tensor, t: Tensor, shift: Tensor = shift) -> Tensor:
            return student(x, t) + shift

        def log_weight(_: Tensor, weights: Tensor = weights) -> Tensor:
            return weights.clamp(min=1e-300).log()

        loss = objective(Fields(shifted, None, log_weight), x0, Draws(u.expand(len(x0)), z), chosen).loss
        (gradient,) = torch.autograd.grad(loss, shift)
        means.append(-gradient * len(x0) / 2)  # gradient of the loss is -2/B sum_i weight_i g_i
    return torch.cat(means)


@pytest.fixture(scope="session")
def gaussian_1d() -> oracle.Mixture:
    one = torch.ones(1, dtype=torch.float64)
    return oracle.Mixture(one, torch.zeros(1, 1, dtype=torch.float64), 0.6 * one)


def test_quadrature_has_the_posterior_mean_of_the_velocity(mixture_1d):
    x0, z, weights = posterior_pairs(mixture_1d, 0.3, 0.8)
    mean = (weights * (math.cos(0.8) * z - math.sin(0.8) * x0)[:, 0]).sum()
    x, t = torch.tensor([[0.3]], dtype=torch.float64), torch.tensor([0.8], dtype=torch.float64)
    assert mean.item() == pytest.approx(oracle.velocity(mixture_1d, x, t).item(), abs=1e-13)


def test_diffusion_at_the_exact_velocity_has_no_mean_direction(mixture_1d, gaussian_1d):
    for mixture in (gaussian_1d, mixture_1d):
        exact = partial(oracle.velocity, mixture)
        assert mean_direction(diffusion, exact, mixture).abs().max() < 1e-12
        wrong = mean_direction(diffusion, lambda x, t, e=exact: 1.5 * e(x, t), mixture)
        assert wrong.abs().max() > 1e-2


@pytest.mark.slow
def test_sct_at_the_exact_map_has_no_mean_direction_before_normalising(mixture_1d, gaussian_1d):
    gaussian = gaussian_fields(0.6).student
    assert mean_direction(sct, gaussian, gaussian_1d, control=RAW).abs().max() < 1e-12
    exact = mixture_fields(mixture_1d).student
    assert mean_direction(sct, exact, mixture_1d, control=RAW).abs().max() < 1e-8


@pytest.mark.slow
def test_normalising_the_noisy_direction_of_sct_biases_it(mixture_1d, gaussian_1d):
    """A Gaussian's posterior is symmetric and hides the bias; a mixture's is not."""
    gaussian = gaussian_fields(0.6).student
    assert mean_direction(sct, gaussian, gaussian_1d).abs().max() < 1e-12
    exact = mixture_fields(mixture_1d).student
    assert mean_direction(sct, exact, mixture_1d).abs().max() > 0.01


# --- discrete objectives ---------------------------------------------------------------------------


def exact_step(mixture: oracle.Mixture) -> Step:
    return lambda field, x, t, u: oracle.segment_map(mixture, x, t, u, STEPS)


def one_interval(t: float, u: float) -> ProposalGrid:
    return ProposalGrid(torch.tensor([u, t], dtype=torch.float64), torch.tensor([0.0, 1.0], dtype=torch.float64))


@pytest.mark.slow
@pytest.mark.parametrize(("t", "u"), [(0.5, 0.0), (1.1, 0.8), (1.5, 0.6)])
def test_dscd_is_stationary_at_the_exact_map_with_the_exact_solver(mixture, t, u):
    noise = draws(4, 2)
    x0 = oracle.sample(mixture, noise.uniform, noise.noise.flip(0))
    fields, grid = mixture_fields(mixture), one_interval(t, u)
    exact = dscd(fields, x0, noise, DiscreteSettings(grid=grid, solver=exact_step(mixture)))
    assert exact.direction_norm.max() < 1e-8
    assert dscd(fields, x0, noise, DiscreteSettings(grid=grid)).direction_norm.max() > 1e-3  # DDIM is not exact


@pytest.mark.slow
@pytest.mark.parametrize(("solver", "order"), [(ddim_step, 1), (heun_step, 2)])
def test_direction_of_dscd_at_the_exact_map_shrinks_at_the_order_of_its_solver(mixture, solver, order):
    x = draws(4, 2).noise
    t = torch.tensor([0.5, 0.8, 1.1, 1.4], dtype=torch.float64)
    fields, sizes = mixture_fields(mixture), []
    assert fields.teacher is not None
    for h in (0.04, 0.02, 0.01):
        v = chord_velocity(x, solver(fields.teacher, x, t, t - h), t, t - h)
        sizes.append(float(discrete_direction(fields.student, x, t, t - h, v).g.norm()))
    orders = [math.log2(a / b) for a, b in pairwise(sizes)]
    assert orders == pytest.approx([order, order], abs=0.15)


def test_normalise_of_a_vanishing_direction_stays_at_rest():
    """kappa keeps rounding noise from becoming a step of unit length at a stationary point."""
    g = 1e-13 * torch.ones(1, 4, dtype=torch.float64)
    assert normalise(g, 0.2).norm() < 1e-11
