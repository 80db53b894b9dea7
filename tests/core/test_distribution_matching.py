"""rCM and DMD2 against their losses as published, and where they rest.

rCM's data have unit variance, as ours; its losses are sums over elements, ours means. DMD2's are in data units.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.core.gradients import assert_same_gradients
from tests.core.test_score_distillation import BATCH, SIGMA_D, SIZE, T_MAX, Step, col
from trigbench.core import oracle
from trigbench.core.fields import Draws, Fields
from trigbench.core.objectives.continuous import scd
from trigbench.core.objectives.distribution_matching import (
    DMD2Settings,
    RCMSettings,
    dmd2,
    further_uniform,
    matching,
    of_bits,
    rcm,
    simulated,
    warmed_direction,
)
from trigbench.core.objectives.regression import Regression, settings_for
from trigbench.core.tangents import normalise
from trigbench.core.trigflow import consistency_map, lognormal_angle

MEAN, STD = -0.8 + math.log(SIGMA_D), 1.6
"""rCM's proposal of ln tan t, as a study with this sigma_d says it."""
PAPERS_NORMALISER = partial(normalise, constant=0.1)


@pytest.fixture
def step(tanh_net: Callable, time_net: Callable) -> Callable[[int], Step]:
    return lambda seed=0: Step(tanh_net, time_net, seed)


def unweighted(k: Step, objective: Callable, **told: Any) -> Regression:
    """Without a learned weight, at the published proposal and normalisation."""
    settings = settings_for(objective, proposal_mean=MEAN, proposal_std=STD, control=PAPERS_NORMALISER, **told)
    return objective(Fields(k.student, k.teacher, fake=k.fake), k.x0, k.draws, settings)


def rows_simulated(k: Step, steps: int, lower: Callable[[int, Tensor], Tensor]) -> Tensor:
    """Samples row by row, each by as many steps as it draws, and the rest of the published code's loop."""
    assert k.draws.start is not None
    u, made = k.draws.uniform, []
    counts = (further_uniform(u, 0, 1)[:, 0] * steps).floor()
    for row in range(BATCH):
        t = torch.full((1,), T_MAX, dtype=torch.float64)
        x = math.sin(T_MAX) * k.draws.start[row : row + 1]
        for again in range(int(counts[row])):
            clean = (torch.cos(t) * x - torch.sin(t) * k.student(x, t)).detach()
            drawn = further_uniform(u[row : row + 1], 2 * again + 1, 1)[:, 0]
            noise = torch.special.ndtri(further_uniform(u[row : row + 1], 2 * again + 2, SIZE)).reshape(x.shape)
            t = torch.minimum(lower(again, drawn), t)
            x = torch.cos(t) * clean + torch.sin(t) * noise
        made.append(torch.cos(t) * x - torch.sin(t) * k.student(x, t))
    assert len(set(counts.tolist())) == steps  # every number of steps is among these rows
    return torch.cat(made)


# --- rCM -------------------------------------------------------------------------------------------


def papers_angle(uniform: Tensor, mean: float = 0.0, std: float = 1.6) -> Tensor:
    return torch.atan(torch.exp(mean + std * torch.special.ndtri(uniform)))


def papers_consistency(k: Step, r: float) -> Tensor:
    """sum ||F - F- - g / (||g|| + 0.1)||^2, g with sqrt(1 - r^2 sin^2 t)."""
    t = papers_angle(k.draws.uniform, -0.8)
    c, s = torch.cos(col(t)), torch.sin(col(t))
    x = c * k.x0 + s * k.draws.noise
    with torch.no_grad():
        v = k.teacher(x, t)
        F, dF = torch.func.jvp(k.student, (x, t), (c * s * v, (c * s)[:, 0, 0]))[:2]
        g = -c * torch.sqrt(1 - r**2 * s**2) * (F - v) - r * (c * s * x + dF)
        g = g / (g.flatten(1).norm(dim=1)[:, None, None] + 0.1)
    return (k.student(x, t) - F - g).flatten(1).square().sum(1).mean()


def papers_reverse(k: Step, samples: Tensor) -> tuple[Tensor, Tensor]:
    """sum ||G - sg(G - grad)||^2, and the fake's sum ||x0 - G||^2 / sin^2 t."""
    assert k.draws.score is not None and k.draws.fake is not None

    def estimate(net: Callable, x: Tensor, t: Tensor) -> Tensor:
        return torch.cos(col(t)) * x - torch.sin(col(t)) * net(x, t)

    def noised(draws: Draws) -> tuple[Tensor, Tensor]:
        t = papers_angle(draws.uniform)
        return torch.cos(col(t)) * samples + torch.sin(col(t)) * draws.noise, t

    with torch.no_grad():
        x, t = noised(k.draws.score)
        real, fake = estimate(k.teacher, x, t), estimate(k.fake, x, t)
        grad = (fake - real) / (samples - real).abs().mean(dim=(1, 2), keepdim=True)
        learned_x, learned_t = noised(k.draws.fake)
    moved = (samples - (samples - grad).detach()).flatten(1).square().sum(1).mean()
    error = estimate(k.fake, learned_x, learned_t) - samples.detach()
    return moved, (error.square() / torch.sin(col(learned_t)) ** 2).flatten(1).sum(1).mean()


@pytest.mark.parametrize(("steps", "weight"), [(1, 0.01), (4, 0.01), (4, 0.7)])
def test_rcm_is_its_loss_as_published(step, steps, weight):
    """A sum over elements, of the student and of the fake."""
    k = step(0)
    told = {"rollout_steps": steps, "reverse_weight": weight}
    for trained in (k.student, k.fake):
        samples = rows_simulated(k, steps, lambda _, uniform: papers_angle(uniform))
        moved, learned = papers_reverse(k, samples)
        published = papers_consistency(k, 1.0) + weight * moved + learned
        assert_same_gradients(SIZE * unweighted(k, rcm, **told).loss, published, trained)


@pytest.mark.parametrize("r", [0.0, 0.6])
def test_during_warm_up_rcm_is_its_consistency_loss_alone(step, r):
    k = step(2)
    ours = unweighted(k, rcm, warmup=r)
    assert_same_gradients(SIZE * ours.loss, papers_consistency(k, r), k.student)
    assert not any(gradient.any() for gradient in k.gradient(ours.loss, k.fake))


@pytest.mark.parametrize("bound", [None, 0.2])
def test_with_lambda_zero_rcm_is_scd(step, bound):
    k = step(3)
    ours, theirs = (k.ours(objective, log_weight_max=bound, **told) for objective, told in
                    ((rcm, {"reverse_weight": 0.0}), (scd, {})))  # fmt: skip
    for module in (k.student, k.w):
        for one, other in zip(k.gradient(ours.loss, module), k.gradient(theirs.loss, module), strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-12)
    torch.testing.assert_close(ours.direction_norm, theirs.direction_norm, rtol=1e-12, atol=0)


def test_the_reverse_term_is_zero_where_the_fake_is_the_teacher(step):
    k = step(4)
    k.fake = k.teacher
    ours, theirs = k.ours(rcm, reverse_weight=100.0), k.ours(scd)
    for one, other in zip(k.gradient(ours.loss, k.student), k.gradient(theirs.loss, k.student), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


@pytest.mark.parametrize("std", [0.4, 1.0, 2.6])
def test_rcm_rests_at_a_gaussian_s_exact_map_with_the_exact_fake(std):
    g = torch.Generator().manual_seed(5)
    normal = lambda: torch.randn(64, 2, generator=g, dtype=torch.float64)  # noqa: E731
    pair = lambda: Draws(torch.rand(64, generator=g, dtype=torch.float64), normal())  # noqa: E731
    scale = torch.ones((), dtype=torch.float64, requires_grad=True)
    exact = partial(oracle.gaussian_velocity, std=std)

    def student(x: Tensor, t: Tensor) -> Tensor:
        """The exact map's F, times a number that is 1."""
        end = oracle.gaussian_consistency_map(x, t, std)
        return scale * (torch.cos(t)[:, None] * x - end) / torch.sin(t)[:, None]

    drawn = replace(pair(), start=normal(), score=pair(), fake=pair())
    fields = Fields(student, exact, fake=exact)
    found = rcm(fields, std * normal(), drawn, RCMSettings(reverse_weight=1.0))
    assert found.direction_norm.max() < 1e-11
    (gradient,) = torch.autograd.grad(found.loss, scale)
    assert abs(gradient) < 1e-11
    elsewhere = replace(fields, fake=partial(oracle.gaussian_velocity, std=1.2 * std))
    loss = rcm(elsewhere, std * normal(), drawn, RCMSettings(reverse_weight=1.0)).loss
    assert abs(torch.autograd.grad(loss, scale)[0]) > 1e-3


class AtRest:
    """F = k(t) x with s r k' + sqrt(1 - r^2 s^2) k = -r s, where rCM's direction of data of unit variance is zero.

    k = -int_0^t mu / mu(t), ln mu the integral of sqrt(1 - r^2 s^2) / (r s): arsinh(r c / sqrt(1 - r^2)) less
    artanh(c / sqrt(1 - r^2 s^2)) / r, by Gauss and Legendre's nodes.
    """

    def __init__(self, r: float, nodes: int = 80) -> None:
        points, weights = (torch.from_numpy(a) for a in np.polynomial.legendre.leggauss(nodes))
        self.r, self.points, self.weights = r, (points + 1) / 2, weights / 2

    def log_mu(self, t: Tensor) -> Tensor:
        r, c, s = self.r, torch.cos(t), torch.sin(t)
        root = torch.sqrt(1 - r**2 * s**2)
        # artanh(c / root) = ln((root + c) / (s sqrt(1 - r^2))), without 1 - c / root
        artanh = torch.log((root + c) / (s * math.sqrt(1 - r**2)))
        return torch.asinh(r * c / math.sqrt(1 - r**2)) - artanh / r

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        share = self.points**6  # where mu rises as a power of t, not of whole number
        inner = self.log_mu(t[:, None] * share) - self.log_mu(t)[:, None]
        k = -t * (self.weights * 6 * self.points**5 * inner.exp()).sum(1)
        return k[:, None] * x


@pytest.mark.parametrize("r", [0.5, 0.9, 0.99])
def test_at_r_below_one_rcm_rests_at_another_field_than_the_map_in_closed_form(r):
    """Check 15 of the lineage: warm-up does not rest at the map, and where it does is known."""
    t = torch.tensor([0.2, 0.7, 1.1, 1.5], dtype=torch.float64)
    x = torch.linspace(-2, 2, 4, dtype=torch.float64)[:, None]
    rests = AtRest(r)

    def direction(field: Callable[[Tensor, Tensor], Tensor], r: float) -> Tensor:
        def by_jvp(field: Any, x: Tensor, t: Tensor, v: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
            return torch.func.jvp(field, (x, t), (scale[:, None] * v, scale))[:2]

        return warmed_direction(field, x, t, torch.zeros_like(x), r, by_jvp).g.abs().max()

    def exact(x: Tensor, t: Tensor) -> Tensor:
        return -torch.tan(t / 2)[:, None] * x

    assert direction(rests, r) < 1e-10
    assert direction(exact, 1.0) < 1e-14
    assert direction(exact, r) > 0.1 * (1 - r)
    apart = (rests(x, t) - exact(x, t)).abs().max()
    assert 0.1 * (1 - r) < apart < 4 * (1 - r)


STRENGTHS = {2: 0.0042, 8: 0.0085, 3072: 0.17, 65536: 0.64}
"""By the number of elements, as docs/methods/rcm.md has it."""


@pytest.mark.parametrize("size", STRENGTHS)
def test_the_strength_of_the_reverse_term_grows_as_the_root_of_the_number_of_elements(size):
    """Lengths of lambda d over g, medians over rows: g is normalised as a whole vector, d has a size in each element.

    Of data N(0, 1) and the exact map times 1 + sin(t) / 2, whose one-step samples have 1.5 times their spread.
    """
    g, rows = torch.Generator().manual_seed(0), min(4000, 2**20 // size)
    normal = lambda: torch.randn(rows, size, generator=g, dtype=torch.float64)  # noqa: E731
    uniform = lambda: torch.rand(rows, generator=g, dtype=torch.float64)  # noqa: E731
    teacher, fake = velocity_of(0.0, 1.0), velocity_of(0.0, 1.5)

    def student(x: Tensor, t: Tensor) -> Tensor:
        c, s = torch.cos(t)[:, None], torch.sin(t)[:, None]
        return (c * x - (1 + s / 2) * oracle.gaussian_consistency_map(x, t, 1.0)) / s

    def by_jvp(field: Any, x: Tensor, t: Tensor, v: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        return torch.func.jvp(field, (x, t), (scale[:, None] * v, scale))[:2]

    t, x = lognormal_angle(uniform(), -0.8, 1.6, 1.0), normal()
    moved = PAPERS_NORMALISER(warmed_direction(student, x, t, teacher(x, t), 1.0, by_jvp).g).norm(dim=1)
    samples, later = (1.5 * normal()).requires_grad_(), lognormal_angle(uniform(), 0.0, 1.6, 1.0)
    loss = matching(Fields(student, teacher, fake=fake), samples, normal(), later).loss
    (d,) = torch.autograd.grad(loss * rows * size / 2, samples)
    found = RCMSettings().reverse_weight * float(d.norm(dim=1).median() / moved.median())
    assert found == pytest.approx(STRENGTHS[size], rel=0.05)
    assert found / math.sqrt(size) == pytest.approx(0.0028, rel=0.15)


# --- DMD2 ------------------------------------------------------------------------------------------


def data_estimate(net: Callable, noisy: Tensor, sigma: Tensor) -> Tensor:
    """The network as EDM's code calls it: D of Y = X + sigma n, in data units."""
    t = torch.atan(sigma / SIGMA_D)
    x = torch.cos(col(t)) * noisy / SIGMA_D
    return SIGMA_D * (torch.cos(col(t)) * x - torch.sin(col(t)) * net(x, t))


def karras(share: Tensor) -> Tensor:
    low, high = 0.002 ** (1 / 7), 80 ** (1 / 7)
    return (low + share * (high - low)) ** 7


def papers_dmd2(k: Step, samples: Tensor) -> Tensor:
    """0.5 MSE(X, sg(X - grad)), and the fake's mean of (1/sigma^2 + 1/sigma_d^2) (D - X)^2."""
    assert k.draws.score is not None and k.draws.fake is not None
    X = SIGMA_D * samples
    with torch.no_grad():
        sigma = karras(0.02 + 0.96 * k.draws.score.uniform)
        noisy = X + col(sigma) * k.draws.score.noise
        real, fake = (X - data_estimate(net, noisy, sigma) for net in (k.teacher, k.fake))
        grad = (real - fake) / real.abs().mean(dim=(1, 2), keepdim=True)
    moved = 0.5 * torch.nn.functional.mse_loss(X, (X - grad).detach())
    sigma = karras(k.draws.fake.uniform)
    error = data_estimate(k.fake, X.detach() + col(sigma) * k.draws.fake.noise, sigma) - X.detach()
    return moved + ((col(sigma) ** -2 + SIGMA_D**-2) * error.square()).mean()


@pytest.mark.parametrize("steps", [1, 4])
def test_dmd2_is_its_loss_as_published(step, steps):
    k = step(0)
    settings = DMD2Settings(sigma_d=SIGMA_D, rollout_steps=steps)
    fields = Fields(k.student, k.teacher, fake=k.fake)
    for trained in (k.student, k.fake):
        lower = lambda again, uniform: torch.full_like(uniform, (1.3, 1.0, 0.6)[again])  # noqa: E731
        published = papers_dmd2(k, rows_simulated(k, steps, lower))
        assert_same_gradients(dmd2(fields, k.x0, k.draws, settings).loss, published, trained)


def test_dmd2_asks_for_no_more_steps_than_it_has_angles_for(step):
    k = step(0)
    with pytest.raises(ValueError, match="1 to 4 steps, got 5"):
        dmd2(k.fields, k.x0, k.draws, DMD2Settings(rollout_steps=5))


def affine(mean: Tensor, std: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """A student whose one-step samples are exactly N(mean, std^2): F's map is mean + std z, z the noise."""

    def field(x: Tensor, t: Tensor) -> Tensor:
        end = mean + std * x / torch.sin(t)[:, None]
        return (torch.cos(t)[:, None] * x - end) / torch.sin(t)[:, None]

    return field


def velocity_of(mean: float, std: float) -> Callable[[Tensor, Tensor], Tensor]:
    """Of data N(mean, std^2)."""

    def field(x: Tensor, t: Tensor) -> Tensor:
        c, s = torch.cos(t)[:, None], torch.sin(t)[:, None]
        return oracle.gaussian_velocity(x - c * mean, t, std) - s * mean

    return field


def pull(objective: Callable, settings: Any, mean: float, std: float, nodes: int = 24) -> list[float]:
    """The expected gradient in a Gaussian student's mean and std, by quadrature; the teacher's data are N(0, 1)."""
    points, weights = (torch.from_numpy(a) for a in np.polynomial.hermite_e.hermegauss(nodes))
    start, noise = (a.reshape(-1, 1) for a in torch.meshgrid(points, points, indexing="ij"))
    joint = torch.outer(weights, weights).reshape(-1, 1) / weights.sum() ** 2
    found = torch.zeros(2, dtype=torch.float64)
    for uniform in (0.3, 0.6, 0.9):
        pair = Draws(torch.full_like(joint[:, 0], uniform), noise)
        drawn = replace(pair, start=start, score=pair, fake=pair)
        each = [torch.full_like(joint, p).requires_grad_() for p in (mean, std)]  # a student a row, for its gradient
        fields = Fields(affine(*each), velocity_of(0.0, 1.0), fake=velocity_of(mean, std))
        loss = objective(fields, noise, drawn, settings).loss
        found += torch.stack([(joint * g).sum() for g in torch.autograd.grad(loss * len(joint), each)])
    return found.tolist()


BESIDE = ((0.3, 1.0), (-0.3, 1.0), (0.0, 0.7), (0.0, 1.4), (0.2, 1.3))
"""Means and standard deviations of samples whose law is not the data's."""


def moves_back(objective: Callable, settings: Any, mean: float, std: float) -> bool:
    in_mean, in_std = pull(objective, settings, mean, std)
    back_in_mean = in_mean * mean > 1e-4 if mean else abs(in_mean) < 1e-10
    return back_in_mean and (std == 1 or in_std * (std - 1) > 1e-4)


def test_dmd2_with_the_exact_fake_rests_at_the_data_s_gaussian_and_moves_back_to_it():
    assert max(map(abs, pull(dmd2, DMD2Settings(), 0.0, 1.0))) < 1e-12
    assert [moves_back(dmd2, DMD2Settings(), *law) for law in BESIDE] == [True] * len(BESIDE)


def test_dmd2_moves_samples_of_a_gaussian_along_the_difference_of_scores_in_closed_form():
    """-grad KL of the noised laws, over the mean distance to the teacher's estimate."""
    mean, std, t = 0.4, 1.3, torch.linspace(0.1, 1.5, 9, dtype=torch.float64)
    samples, noise = torch.randn(2, 9, 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    samples.requires_grad_()
    fields = Fields(velocity_of(0.0, 1.0), velocity_of(0.0, 1.0), fake=velocity_of(mean, std))
    (gradient,) = torch.autograd.grad(matching(fields, samples, noise, t).loss * 9 / 2, samples)
    c, s = torch.cos(t)[:, None], torch.sin(t)[:, None]
    x = (c * samples + s * noise).detach()
    teachers, fakes = -x, -(x - c * mean) / (c**2 * std**2 + s**2)
    apart = (samples - (x + s**2 * teachers) / c).abs().detach()
    torch.testing.assert_close(-gradient, s**2 / c * (teachers - fakes) / apart, rtol=1e-10, atol=1e-12)


@pytest.mark.slow
def test_rcm_s_reverse_term_alone_rests_at_the_data_s_gaussian_and_moves_samples_back_to_it():
    def alone(fields: Fields, x0: Tensor, draws: Draws, settings: RCMSettings) -> Regression:
        whole, without = (rcm(fields, x0, draws, replace(settings, reverse_weight=w)) for w in (1.0, 0.0))
        return replace(whole, loss=whole.loss - without.loss)

    settings = RCMSettings(rollout_steps=1)
    assert max(map(abs, pull(alone, settings, 0.0, 1.0))) < 1e-12
    assert [moves_back(alone, settings, *law) for law in BESIDE] == [True] * len(BESIDE)


# --- simulated samples -----------------------------------------------------------------------------


def test_simulated_samples_have_the_law_of_the_data_where_the_student_is_exact():
    """In 1 to 4 steps alike: of a Gaussian, whose map from t_max is its data's law but for cos(t_max)."""
    rows, std = 200_000, 0.4
    g = torch.Generator().manual_seed(0)
    uniform = torch.rand(rows, generator=g, dtype=torch.float64)
    start = torch.randn(rows, 1, generator=g, dtype=torch.float64)
    calls = []

    def student(x: Tensor, t: Tensor) -> Tensor:
        calls.append((torch.is_grad_enabled(), t))
        end = oracle.gaussian_consistency_map(x, t, std)
        return (torch.cos(t)[:, None] * x - end) / torch.sin(t)[:, None]

    lower = lambda _, uniform: lognormal_angle(uniform, 0.0, 1.6, 1.0)  # noqa: E731
    made = simulated(student, Draws(uniform, start, start), 4, lower, SIGMA_D)
    ends = [t for _, t in calls]
    assert [recorded for recorded, _ in calls] == [False, False, False, True]
    assert all(bool((after <= before).all()) for before, after in pairwise(ends))
    moves = torch.stack([after < before for before, after in pairwise(ends)]).any(0)
    assert moves.double().mean().item() == pytest.approx(0.75, abs=0.005)
    for some in (moves, ~moves):
        sample = made[some]
        assert sample.std().item() == pytest.approx(std, rel=0.01)
        assert sample.mean().item() == pytest.approx(0, abs=5 * std / math.sqrt(len(sample)))
        assert (sample / std).pow(4).mean().item() == pytest.approx(3, rel=0.05)


def test_in_one_step_a_sample_is_the_map_of_its_start(step):
    k = step(1)
    assert k.draws.start is not None
    made = simulated(k.student, k.draws, 1, lambda *_: torch.zeros(BATCH), SIGMA_D)
    t = torch.full((BATCH,), T_MAX, dtype=torch.float64)
    torch.testing.assert_close(made, consistency_map(k.student, math.sin(T_MAX) * k.draws.start, t), rtol=0, atol=1e-14)


def test_further_draws_are_even_and_without_relation_to_each_other_and_to_their_row_s():
    rows, size = 4000, 5
    uniform = torch.rand(rows, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    drawn = torch.cat([uniform[:, None], *(further_uniform(uniform, number, size) for number in range(4))], 1)
    assert torch.equal(drawn[:10, 1:6], further_uniform(uniform[:10], 0, size))
    assert drawn.min() > 0 and drawn.max() < 1
    shares = torch.stack([torch.histc(column, 10, 0, 1) for column in drawn.T]) / rows
    assert (shares - 0.1).abs().max() < 5 * math.sqrt(0.09 / rows)
    related = torch.corrcoef(torch.special.ndtri(drawn).T) - torch.eye(drawn.shape[1], dtype=torch.float64)
    assert related.abs().max() < 5 / math.sqrt(rows)
    neighbours = torch.corrcoef(torch.stack([drawn[1:, 1], drawn[:-1, 1]]))[0, 1]
    assert abs(neighbours) < 5 / math.sqrt(rows)
    ends = of_bits(torch.tensor([0, -1]))
    assert ends[0] > 0 and ends[1] < 1 and bool(torch.special.ndtri(ends).isfinite().all())
    near = further_uniform(torch.tensor([0.5, 0.5 + 2**-53], dtype=torch.float64), 0, 50)
    assert abs(torch.corrcoef(near)[0, 1]) < 0.7
