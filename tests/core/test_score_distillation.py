"""VSD, alone and beside sCD, against App. C in data units (papers.md 4.2, 8.2, 8.5).

With X = g_theta(z') in data units the paper's residual is g - sg(g) + F_pre - F_phi; ours has g / sigma_d in
place of g. At the point of recording both residuals are F_pre - F_phi, so the loss values agree, while

- the gradient in theta of the paper's L_VSD is sigma_d times that of ours at lambda = 1: lambda_VSD = 1 is
  lambda = sigma_d here, and then the two gradients are equal;
- the gradient in psi has no such factor: at lambda = sigma_d ours is sigma_d times the paper's. Nothing but
  w_psi depends on psi, so its optimum is the same;
- the fake's own loss is App. D's, equal in both units.
"""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from trigbench.core import oracle
from trigbench.core.fields import Draws, Fields
from trigbench.core.objectives.continuous import scd
from trigbench.core.objectives.diffusion import DiffusionSettings, diffusion
from trigbench.core.objectives.regression import Regression, settings_for
from trigbench.core.objectives.score_distillation import ScoreSettings, scd_vsd, vsd
from trigbench.core.trigflow import consistency_map, interpolate

SIGMA_D, T_MAX = 0.5, math.atan(80 / 0.5)
BATCH, SHAPE = 7, (2, 3)
SIZE = math.prod(SHAPE)
SCORE, FAKE = (0.4, 2.0), (-0.8, 1.6)  # Table 5


def col(t: Tensor) -> Tensor:
    return t.reshape(-1, 1, 1)


class Step:
    """One training step, in both languages."""

    def __init__(self, tanh_net: Callable, time_net: Callable, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.student, self.teacher, self.fake = (tanh_net(SIZE, seed + 1000 * i) for i in range(3))
        self.w, self.psi, self.phi_w = time_net(), time_net(), time_net()
        self.psi.abc.data = torch.tensor([0.4, 1.0, 0.1], dtype=torch.float64)
        self.phi_w.abc.data = torch.tensor([-0.5, 3.0, 0.1], dtype=torch.float64)
        self.x0, start = self.normal(), self.normal()
        self.draws = Draws(self.uniform(), self.normal(), start, self.pair(), self.pair())

    def normal(self) -> Tensor:
        return torch.randn(BATCH, *SHAPE, generator=self.generator, dtype=torch.float64)

    def uniform(self) -> Tensor:
        return torch.rand(BATCH, generator=self.generator, dtype=torch.float64)

    def pair(self) -> Draws:
        return Draws(self.uniform(), self.normal())

    @property
    def fields(self) -> Fields:
        return Fields(
            self.student,
            self.teacher,
            self.w,
            fake=self.fake,
            score_log_weight=self.psi,
            fake_log_weight=self.phi_w,
        )

    def ours(self, objective: Callable = vsd, draws: Draws | None = None, **settings: object) -> Regression:
        return objective(self.fields, self.x0, draws or self.draws, settings_for(objective, **settings))

    def gradient(self, loss: Tensor, module: nn.Module) -> list[Tensor]:
        parameters = list(module.parameters())
        return list(torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True, materialize_grads=True))

    # the paper's side, in data units

    def angle(self, uniform: Tensor, proposal: tuple[float, float]) -> Tensor:
        return torch.atan(torch.exp(proposal[0] + proposal[1] * torch.special.ndtri(uniform)) / SIGMA_D)

    def generated(self) -> Tensor:
        """g_theta(z') = f_theta(x, t_max), x = sigma_max cos(t_max) n."""
        assert self.draws.start is not None
        X = 80 * math.cos(T_MAX) * self.draws.start
        F = self.student(X / SIGMA_D, torch.full((BATCH,), T_MAX, dtype=torch.float64))
        return math.cos(T_MAX) * X - math.sin(T_MAX) * SIGMA_D * F

    def noised(self, X: Tensor, draws: Draws | None, proposal: tuple[float, float]) -> tuple[Tensor, Tensor, Tensor]:
        """(x_t, v_t, t) with z ~ N(0, sigma_d^2)."""
        assert draws is not None
        t, Z = self.angle(draws.uniform, proposal), SIGMA_D * draws.noise
        c, s = torch.cos(col(t)), torch.sin(col(t))
        return c * X + s * Z, c * Z - s * X, t

    def papers_generator(self, w_max: float = math.inf) -> Tensor:
        """e^w / D ||g - g- + F_pre - F_phi||^2 - w."""
        g = self.generated()
        with torch.no_grad():
            X, _, t = self.noised(g, self.draws.score, SCORE)
            apart = self.teacher(X / SIGMA_D, t) - self.fake(X / SIGMA_D, t)
        w = self.psi(t).clamp(max=w_max)
        return (w.exp() / SIZE * (g - g.detach() + apart).flatten(1).square().sum(1) - w).mean()

    def papers_fake(self, w_max: float = math.inf) -> Tensor:
        """||sigma_d F_phi - v_t||^2 on detached samples, with App. D's weight."""
        X, V, t = self.noised(self.generated().detach(), self.draws.fake, FAKE)
        error = (SIGMA_D * self.fake(X / SIGMA_D, t) - V).flatten(1).square().sum(1)
        w = self.phi_w(t).clamp(max=w_max)
        return (w.exp() / SIZE * error / SIGMA_D**2 - w).mean()


@pytest.fixture
def step(tanh_net: Callable, time_net: Callable) -> Callable[[int], Step]:
    return lambda seed=0: Step(tanh_net, time_net, seed)


def same(ours: list[Tensor], papers: list[Tensor], factor: float = 1.0) -> None:
    """ours = factor times the paper's, to 1e-10 of each parameter's largest entry."""
    for a, b in zip(ours, papers, strict=True):
        largest = float(b.abs().max())
        assert largest > 1e-6  # something was compared
        torch.testing.assert_close(a, factor * b, rtol=0, atol=1e-10 * factor * largest)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("bound", [None, 0.2])
def test_vsd_step_is_appendix_c_in_the_papers_units(step, seed, bound):
    k = step(seed)
    ours = k.ours(log_weight_max=bound).loss
    w_max = math.inf if bound is None else bound
    if bound is not None:  # it holds for some samples of either weight
        w = torch.stack([k.psi(k.angle(k.draws.score.uniform, SCORE)), k.phi_w(k.angle(k.draws.fake.uniform, FAKE))])
        assert ((w > bound).any(1) & (w < bound).any(1)).all()
    generator, fake = k.papers_generator(w_max), k.papers_fake(w_max)
    lambda_vsd = 1.0
    torch.testing.assert_close(ours, SIGMA_D * lambda_vsd * generator + fake, rtol=1e-10, atol=0)
    same(k.gradient(ours, k.student), k.gradient(lambda_vsd * generator, k.student))
    same(k.gradient(ours, k.fake), k.gradient(fake, k.fake))
    same(k.gradient(ours, k.phi_w), k.gradient(fake, k.phi_w))
    same(k.gradient(ours, k.psi), k.gradient(lambda_vsd * generator, k.psi), factor=SIGMA_D)
    assert not any(g.any() for module in (k.teacher, k.w) for g in k.gradient(ours, module))


@pytest.mark.parametrize("scale", [0.0, 0.3, 2.0])
def test_lambda_scales_the_generators_loss_and_not_the_fakes(step, scale):
    k = step()
    ours, fake = k.ours(score_weight=scale).loss, k.papers_fake()
    torch.testing.assert_close(ours, scale * k.papers_generator() + fake, rtol=1e-10, atol=0)
    same(k.gradient(ours, k.fake), k.gradient(fake, k.fake))
    if scale == 0:
        assert not any(g.any() for g in k.gradient(ours, k.student))
    else:
        same(k.gradient(ours, k.student), k.gradient(k.papers_generator(), k.student), factor=scale / SIGMA_D)


def test_without_weights_the_losses_are_the_papers_with_w_zero(step):
    k = step(1)
    plain = Fields(k.student, k.teacher, fake=k.fake)
    ours = vsd(plain, k.x0, k.draws, ScoreSettings(sigma_d=SIGMA_D)).loss
    for module in (k.psi, k.phi_w):
        module.abc.data.zero_()
    torch.testing.assert_close(ours, SIGMA_D * k.papers_generator() + k.papers_fake(), rtol=1e-10, atol=0)
    same(k.gradient(ours, k.student), k.gradient(k.papers_generator(), k.student))


def test_the_fakes_loss_is_diffusion_of_the_samples_and_neither_loss_reaches_the_others_parameters(step):
    k = step(2)
    with torch.no_grad():
        samples = k.generated() / SIGMA_D
    settings = DiffusionSettings(sigma_d=SIGMA_D, proposal_mean=FAKE[0], proposal_std=FAKE[1])
    learned = diffusion(Fields(k.fake, log_weight=k.phi_w), samples, k.draws.fake, settings).loss
    alone = k.ours(score_weight=0.0).loss
    torch.testing.assert_close(alone, learned, rtol=1e-12, atol=0)
    assert not any(g.any() for g in k.gradient(alone, k.student))  # the samples are detached
    for a, b in zip(k.gradient(k.ours().loss, k.fake), k.gradient(alone, k.fake), strict=True):
        assert torch.equal(a, b) and a.any()  # the generator's loss adds nothing to the fake's gradient


def test_scores_are_compared_at_fresh_noise_and_the_fake_learns_at_its_own(step):
    k, seen = step(3), []

    def noting(name: str, net: nn.Module) -> Callable[[Tensor, Tensor], Tensor]:
        def field(x: Tensor, t: Tensor) -> Tensor:
            seen.append((name, torch.is_grad_enabled(), x, t))
            return net(x, t)

        return field

    fields = replace(k.fields, teacher=noting("teacher", k.teacher), fake=noting("fake", k.fake))
    vsd(fields, k.x0, k.draws, ScoreSettings(sigma_d=SIGMA_D))
    assert [call[:2] for call in seen] == [("teacher", False), ("fake", False), ("fake", True)]
    samples = k.generated().detach()
    score, fake = (k.noised(samples, d, p) for d, p in ((k.draws.score, SCORE), (k.draws.fake, FAKE)))
    for (_, _, x, t), (X, _, angle) in zip(seen, (score, score, fake), strict=True):
        assert not x.requires_grad
        torch.testing.assert_close(SIGMA_D * x, X, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(t, angle, rtol=1e-14, atol=0)
    before = k.ours().loss
    elsewhere = k.ours(draws=replace(k.draws, fake=k.pair())).loss
    assert all(map(torch.equal, k.gradient(before, k.student), k.gradient(elsewhere, k.student)))
    elsewhere = k.ours(draws=replace(k.draws, score=k.pair())).loss
    assert all(map(torch.equal, k.gradient(before, k.fake), k.gradient(elsewhere, k.fake)))
    assert not any(map(torch.equal, k.gradient(before, k.student), k.gradient(elsewhere, k.student)))


def test_the_data_enter_vsd_through_the_teacher_alone(step):
    k = step()
    ours = k.ours().loss
    k.x0, k.draws = k.normal(), replace(k.draws, noise=k.normal(), uniform=k.uniform())
    assert torch.equal(k.ours().loss, ours)


@pytest.mark.parametrize("seed", range(3))
def test_scd_vsd_is_the_sum_of_scd_and_vsd(step, seed):
    k = step(seed)
    both, first, second = k.ours(scd_vsd), k.ours(scd), k.ours(vsd)
    assert torch.equal(both.loss, first.loss + second.loss)
    assert torch.equal(both.direction_norm, first.direction_norm)
    for module in (k.student, k.fake, k.w, k.psi, k.phi_w):
        parts = [a + b for a, b in zip(k.gradient(first.loss, module), k.gradient(second.loss, module), strict=True)]
        same(k.gradient(both.loss, module), parts)
    for name, module in (("first", k.w), ("second", k.psi)):  # each has its own weight
        other = second if name == "first" else first
        assert not any(g.any() for g in k.gradient(other.loss, module))


@pytest.mark.parametrize("seed", range(3))
def test_dmds_scale_is_its_own_pseudo_code(step, seed):
    """weight = mean|x - D_real|, grad = (D_fake - D_real) / weight, loss = 0.5 MSE(x, sg(x - grad)), in data units.

    Our loss has no 0.5 and its residual x / sigma_d for x: 2 lambda / sigma_d times DMD's gradient, 2 at the default.
    """
    k = step(seed)
    x = k.generated()
    with torch.no_grad():
        noised, _, t = k.noised(x, k.draws.score, SCORE)
        c, s = torch.cos(col(t)), torch.sin(col(t))
        real, fake = (c * noised - s * SIGMA_D * net(noised / SIGMA_D, t) for net in (k.teacher, k.fake))
        grad = (fake - real) / (x - real).abs().mean(dim=(1, 2), keepdim=True)
    loss = 0.5 * nn.functional.mse_loss(x, (x - grad).detach())
    ours = k.ours(score_scale="dmd").loss
    same(k.gradient(ours, k.student), k.gradient(loss, k.student), factor=2.0)
    same(k.gradient(k.ours(score_scale="dmd", score_weight=0.7).loss, k.student), k.gradient(loss, k.student), 2.8)
    assert not any(g.any() for g in k.gradient(ours, k.psi))  # DMD learns no weight
    same(k.gradient(ours, k.fake), k.gradient(k.papers_fake(), k.fake))


# --- where it stops moving ---------------------------------------------------------------------------


@pytest.mark.parametrize("scale", ["adaptive", "dmd"])
def test_vsd_has_no_direction_where_the_fake_is_the_teacher(step, scale):
    k = step()
    k.fake = k.teacher
    ours = k.ours(score_scale=scale)
    assert not ours.direction_norm.any()
    assert not any(g.any() for g in k.gradient(ours.loss, k.student))


class Gain(nn.Module):
    """F = (gain + offset exact(t)) x: a linear field whose derivative in the gain is x."""

    def __init__(self, gain: float, std: float | None = None) -> None:
        super().__init__()
        self.gain, self.std = nn.Parameter(torch.tensor(gain, dtype=torch.float64)), std

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        exact = 0 if self.std is None else oracle.gaussian_velocity(x, t, self.std)
        return self.gain * x + exact


def generates(std: float) -> Gain:
    """The linear student whose one-step samples are exactly N(0, std^2): cos t - sin t F' = std / sin t."""
    c, s = math.cos(T_MAX), math.sin(T_MAX)
    return Gain((c - std / s) / s)


def quadrature(uniform: float, nodes: int = 24) -> tuple[Draws, Tensor]:
    """Draws over all pairs of Gauss-Hermite nodes for start and noise, at one time; and their weights."""
    points, weights = (torch.from_numpy(a) for a in np.polynomial.hermite_e.hermegauss(nodes))
    weights = weights / weights.sum()
    start, noise = (a.reshape(-1, 1) for a in torch.meshgrid(points, points, indexing="ij"))
    time = torch.full((nodes**2,), uniform, dtype=torch.float64)
    pair = Draws(time, noise)
    return Draws(time, noise, start, pair, pair), torch.outer(weights, weights).flatten()


def mean_gradients(student: Gain, teacher: Gain, fake: Gain, uniform: float) -> tuple[float, float]:
    """Of the expected loss over samples and noise, in the student's and in the fake's gain."""
    draws, weights = quadrature(uniform)

    def log_weight(_: Tensor) -> Tensor:
        return (weights * len(weights)).log()

    fields = Fields(student, teacher, fake=fake, score_log_weight=log_weight, fake_log_weight=log_weight)
    loss = vsd(fields, torch.zeros_like(draws.noise), draws, ScoreSettings(sigma_d=SIGMA_D)).loss
    return tuple(float(g) for g in torch.autograd.grad(loss, [student.gain, fake.gain]))  # type: ignore


@pytest.mark.one_in(2)
@pytest.mark.parametrize("uniform", [0.2, 0.5, 0.8])
@pytest.mark.parametrize("std", [0.4, 1.0, 2.6])
def test_vsd_with_the_exact_fake_rests_at_the_datas_law_and_nowhere_else(std, uniform):
    """Samples of the data's law: no gradient. Wider or narrower ones are driven back, at every time."""
    assert samples_std(generates(std)) == pytest.approx(std, rel=1e-12)
    in_student, in_fake = mean_gradients(generates(std), Gain(0.0, std), Gain(0.0, std), uniform)
    assert abs(in_student) < 1e-12 and abs(in_fake) < 1e-12
    for wrong in (0.5 * std, 0.9 * std, 1.1 * std, 2 * std):
        student = generates(wrong)
        in_student, in_fake = mean_gradients(student, Gain(0.0, std), Gain(0.0, wrong), uniform)
        assert abs(in_fake) < 1e-12  # the exact fake of these samples has nothing to learn
        # the samples' std falls as the gain rises: descending along a positive gradient widens them
        assert in_student * (std - wrong) > 0
        stale = mean_gradients(student, Gain(0.0, std), Gain(0.0, std), uniform)
        assert stale[0] == 0 and abs(stale[1]) > 1e-3  # a fake that still is the teacher: it learns, the student rests


def samples_std(student: Gain) -> float:
    one, t = torch.ones(1, 1, dtype=torch.float64), torch.full((1,), T_MAX, dtype=torch.float64)
    return float(consistency_map(student, interpolate(0 * one, one, t), t).detach())
