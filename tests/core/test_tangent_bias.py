"""The mean direction at the exact map: zero as it is, and not once each pair's is weighted by its length."""

from functools import cache, partial

import pytest
import torch

from trigbench.core import oracle
from trigbench.core.flow_maps import power
from trigbench.core.tangent_bias import affine_derivative, bias, posterior_of_data, quadrature, velocities
from trigbench.core.tangents import normalise

MIXTURE = oracle.standardised(
    oracle.Mixture(
        torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64),
        torch.tensor([[-1.0], [0.1], [1.3]], dtype=torch.float64),
        torch.full((3,), 0.4, dtype=torch.float64),
    )
)
X = torch.tensor([[-0.8], [0.3], [1.1]], dtype=torch.float64)
T = torch.tensor([0.4, 0.8, 1.2], dtype=torch.float64)


def test_the_mean_velocity_by_quadrature_is_the_exact_one():
    x0, weights = quadrature(MIXTURE, X, T)
    mean = (weights[:, :, None] * velocities(X, T, x0)).sum(1)
    torch.testing.assert_close(weights.sum(1), torch.ones(3, dtype=torch.float64), rtol=1e-12, atol=0)
    torch.testing.assert_close(mean, oracle.velocity(MIXTURE, X, T), rtol=1e-11, atol=1e-12)


@cache
def affine() -> tuple[torch.Tensor, torch.Tensor]:
    """Of the mixture's exact map, solved once for all who ask."""
    return affine_derivative(MIXTURE, X, T)


def directions(nodes: int) -> tuple[torch.Tensor, torch.Tensor]:
    base, matrix = affine()
    x0, weights = quadrature(MIXTURE, X, T, nodes)
    return base[:, None] + velocities(X, T, x0) @ matrix.mT, weights


@pytest.mark.slow
def test_as_it_is_the_direction_has_no_bias_and_weighted_it_has():
    g, weights = directions(8001)
    assert float(bias(g, weights, None).max()) < 1e-7
    more = directions(32001)
    for control in (partial(power, exponent=1.0, constant=1e-3), partial(normalise, constant=0.2)):
        found = bias(g, weights, control)
        assert float(found.max()) > 0.01
        finer = bias(*more, control)
        torch.testing.assert_close(found, finer, rtol=1e-6, atol=1e-9)


@pytest.mark.slow
def test_a_power_of_none_is_no_weight():
    g, weights = directions(8001)
    assert float(bias(g, weights, partial(power, exponent=0.0, constant=1e-3)).max()) < 1e-7


@pytest.mark.slow
def test_a_law_that_is_even_about_its_mean_has_no_bias_by_any_control():
    """Of a single Gaussian the exact map is linear, and directions lie evenly about zero."""
    one = torch.ones(1, dtype=torch.float64)
    gaussian = oracle.Mixture(one, torch.zeros(1, 1, dtype=torch.float64), 0.7 * one)
    base, matrix = affine_derivative(gaussian, X, T)
    x0, weights = quadrature(gaussian, X, T)
    g = base[:, None] + velocities(X, T, x0) @ matrix.mT
    assert float(bias(g, weights, partial(normalise, constant=0.2)).max()) < 1e-6


def test_quadrature_is_the_law_that_is_drawn():
    weights, means, stds = posterior_of_data(MIXTURE, X, T)
    x0, w = quadrature(MIXTURE, X, T)
    variance = (weights * (stds.square() + means[:, :, 0].square())).sum(1)
    torch.testing.assert_close((w * x0[:, :, 0].square()).sum(1), variance, rtol=1e-11, atol=0)


def test_more_dimensions_than_one_are_refused():
    with pytest.raises(ValueError, match="points in 2"):
        quadrature(MIXTURE, torch.zeros(3, 2, dtype=torch.float64), T)
