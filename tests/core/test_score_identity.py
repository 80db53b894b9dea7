"""SiD against its loss as published, in data units and EDM's noise levels, and against Gaussians in closed form."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.core.gradients import assert_same_gradients
from tests.core.test_distribution_matching import data_estimate, karras, pull, velocity_of
from tests.core.test_score_distillation import SIGMA_D, SIZE, Step, col
from trigbench.core.fields import Fields
from trigbench.core.objectives.score_identity import SiDSettings, identity_loss, sid

ALPHAS = (0.0, 0.5, 1.0, 1.2, 2.0)


@pytest.fixture
def step(tanh_net: Callable, time_net: Callable) -> Callable[[int], Step]:
    return lambda seed=0: Step(tanh_net, time_net, seed)


def ours(k: Step, alpha: float) -> Tensor:
    settings = SiDSettings(sigma_d=SIGMA_D, alpha=alpha)
    return sid(Fields(k.student, k.teacher, fake=k.fake), k.x0, k.draws, settings).loss


def papers_student(k: Step, alpha: float) -> Tensor:
    """The sum over elements of (f_r - f_g) ((f_r - X) - alpha (f_r - f_g)) / mean|X - f_r|."""
    assert k.draws.score is not None
    X, sigma = k.generated(), karras(0.8 * k.draws.score.uniform)
    noisy = X + col(sigma) * k.draws.score.noise
    real, fake = data_estimate(k.teacher, noisy, sigma), data_estimate(k.fake, noisy, sigma)
    size = (X - real).detach().abs().mean(dim=(1, 2), keepdim=True)
    return ((real - fake) * ((real - X) - alpha * (real - fake)) / size).sum() / len(X)


def papers_fake(k: Step) -> Tensor:
    """EDM's loss of the samples."""
    assert k.draws.fake is not None
    X = k.generated().detach()
    sigma = torch.exp(-1.2 + 1.2 * torch.special.ndtri(k.draws.fake.uniform))
    error = data_estimate(k.fake, X + col(sigma) * k.draws.fake.noise, sigma) - X
    return (col((sigma**2 + SIGMA_D**2) / (sigma * SIGMA_D) ** 2) * error.square()).sum() / len(X)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_sid_is_its_loss_as_published(step, alpha):
    """A sum over elements, of the student and of the fake: the student's loss moves no parameter of the fake's."""
    k = step(5)
    assert_same_gradients(SIZE * ours(k, alpha), papers_student(k, alpha), k.student)
    assert_same_gradients(SIZE * ours(k, alpha), papers_fake(k), k.fake)
    assert not any(gradient.any() for gradient in k.gradient(ours(k, alpha), k.teacher))


def test_the_gradient_through_both_networks_is_part_of_it(step):
    """Of estimates that stand still, samples would move elsewhere."""
    k = step(6)
    samples, noise = torch.randn(2, *k.x0.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    t = torch.full((len(samples),), 0.8, dtype=torch.float64)
    samples.requires_grad_()

    def still(net: Callable) -> Callable:
        """F whose estimate c y - s F has the net's value, and no gradient."""
        return lambda y, t: col(torch.cos(t) / torch.sin(t)) * (y - y.detach()) + net(y.detach(), t)

    losses = [identity_loss(of(k.teacher), of(k.fake), samples, noise, t, 1.2).sum() for of in (lambda net: net, still)]
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-12, atol=0)
    through, without = (torch.autograd.grad(loss, samples)[0] for loss in losses)
    assert (through - without).abs().max() > 0.05


# --- where it rests --------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", ALPHAS)
def test_with_the_exact_fake_sid_rests_at_the_data_s_gaussian_for_every_alpha(alpha):
    assert max(map(abs, pull(sid, SiDSettings(alpha=alpha), 0.0, 1.0))) < 1e-12


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize(("mean", "std"), [(0.4, 1.0), (0.0, 0.6), (-0.3, 1.5), (0.0, 1.0)])
def test_its_expectation_and_gradient_are_those_of_gaussians_in_closed_form(alpha, mean, std):
    """But for its divisor, a number a sample: (1 - alpha) E|D - D_fake|^2, as the fake is a projection of samples.

    With k the exact fake's gain and c - k = c s^2 (1 - std^2) / (c^2 std^2 + s^2), the gradients at that fake are
    s^2 mean (s^2 + (2 alpha - 1) c (c - k)) and -2 c (c - k) std (s^2 + alpha c (c - k)): zero at the data's law for
    every alpha, and elsewhere towards it from alpha 1/2 to 1. Above 1 they lead away where samples are much too wide,
    and below 1/2 where samples are much too narrow.
    """
    points, weights = (torch.from_numpy(a) for a in np.polynomial.hermite_e.hermegauss(12))
    start, noise = (a.reshape(-1, 1) for a in torch.meshgrid(points, points, indexing="ij"))
    joint = torch.outer(weights, weights).reshape(-1) / weights.sum() ** 2
    for angle in (0.3, 0.9, 1.4):
        c, s, t = math.cos(angle), math.sin(angle), torch.full_like(joint, angle)
        samples = (mean + std * start).requires_grad_()
        teacher, fake = velocity_of(0.0, 1.0), velocity_of(mean, std)
        x = (c * samples + s * noise).detach()
        size = (samples - (c * x - s * teacher(x, t))).abs().detach()[:, 0]
        loss = size * identity_loss(teacher, fake, samples, noise, t, alpha)
        (gradient,) = torch.autograd.grad(loss.sum(), samples)
        gain = c * std**2 / (c**2 * std**2 + s**2)
        apart = c - gain
        fisher = (s**2 * mean) ** 2 + apart**2 * (c**2 * std**2 + s**2)
        expected = {
            "value": (1 - alpha) * fisher,
            "in mean": s**2 * mean * (s**2 + (2 * alpha - 1) * c * apart),
            "in std": -2 * c * apart * std * (s**2 + alpha * c * apart),
        }
        found = {"value": (joint * loss).sum(), "in mean": (joint * gradient[:, 0]).sum(),
                 "in std": (joint * gradient[:, 0] * start[:, 0]).sum()}  # fmt: skip
        assert {name: float(value.detach()) for name, value in found.items()} == pytest.approx(expected, abs=1e-12)
