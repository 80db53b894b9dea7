"""CD, CT, iCT and ECT against their published losses and at exact maps (papers.md 7.1 to 7.3; design sec. 4).

The paper's side of every comparison is written here by hand in EDM's points, in data units with sigma_d = 0.5:
X = X0 + sigma e, F_EDM = -F, f(X, sigma) = c_skip X + c_out F_EDM(c_in X, .) with f(X, epsilon) = X.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from trigbench.core import oracle
from trigbench.core.conversions import field_with_boundary
from trigbench.core.fields import Draws, Fields
from trigbench.core.objectives.ict_parts import PARTS, ict_without
from trigbench.core.objectives.lineage import PSEUDO_HUBER, CDSettings, ECTSettings, ICTSettings, cd, ct, ect, ict
from trigbench.core.objectives.regression import settings_for
from trigbench.core.samplers.ode import ddim_step, heun_step
from trigbench.core.schedules import cm_angles, ect_lower_level, karras_angles
from trigbench.core.trigflow import Field, ProposalGrid, even_grid, proposal_grid

SIGMA_D, EPSILON, SIGMA_MAX = 0.5, 0.002, 80.0
MEAN, STD = -1.1, 2.0  # iCT's and ECT's proposal on CIFAR-10
BATCH, SHAPE = 12, (3, 2, 2)
SIZE = math.prod(SHAPE)
STEPS = 128
"""Runge-Kutta steps of the exact maps: enough for 1e-8 with these mixtures (test_oracle.py measures it)."""


def col(t: Tensor) -> Tensor:
    return t.reshape(-1, 1, 1, 1)


def edm_map(net: Callable, X: Tensor, sigma: Tensor, epsilon: float = 0.0) -> Tensor:
    """CM's f, App. C; EDM's denoiser at epsilon = 0."""
    s = col(sigma)
    skip = SIGMA_D**2 / ((s - epsilon) ** 2 + SIGMA_D**2)
    out = SIGMA_D * (s - epsilon) / (SIGMA_D**2 + s**2).sqrt()
    F_edm = -net(X / (SIGMA_D**2 + s**2).sqrt(), torch.atan(sigma / SIGMA_D))
    return skip * X + out * F_edm


def teacher_step(net: Callable, X: Tensor, sigma: Tensor, lower: Tensor, heun: bool) -> Tensor:
    """dX/dsigma = (X - D) / sigma by Euler or by the trapezoid, as CM's code writes it."""
    h, slope = col(lower - sigma), (X - edm_map(net, X, sigma)) / col(sigma)
    euler = X + h * slope
    if not heun:
        return euler
    return X + h * (slope + (euler - edm_map(net, euler, lower)) / col(lower)) / 2


class Step:
    """One training step, in both languages."""

    def __init__(self, tanh_net: Callable, seed: int, points: int = 18, own_target: bool = True) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.student, self.teacher, other = (tanh_net(SIZE, seed + 1000 * i) for i in range(3))
        self.target: nn.Module = self.student if own_target else other
        self.x0 = torch.randn(BATCH, *SHAPE, generator=generator, dtype=torch.float64)
        self.noise = torch.randn(BATCH, *SHAPE, generator=generator, dtype=torch.float64)
        self.uniform = torch.rand(BATCH, generator=generator, dtype=torch.float64)
        self.points, self.own_target, self.X0 = points, own_target, SIGMA_D * self.x0
        ramp = [i / (points - 1) for i in range(points)]  # ascending, as the paper writes it
        low, high = EPSILON ** (1 / 7), SIGMA_MAX ** (1 / 7)
        self.grid = torch.tensor([(low + r * (high - low)) ** 7 for r in ramp], dtype=torch.float64)

    def ours(self, objective: Callable, boundary: bool, **settings: object) -> list[Tensor]:
        """The gradient in every parameter of the student."""
        bounded = partial(field_with_boundary, sigma_min=EPSILON, sigma_d=SIGMA_D) if boundary else lambda field: field
        fields = Fields(bounded(self.student), self.teacher, target=None if self.own_target else bounded(self.target))
        chosen = settings_for(objective, proposal_mean=MEAN, proposal_std=STD, **settings)
        result = objective(fields, self.x0, Draws(self.uniform, self.noise), chosen)
        others = [*self.teacher.parameters(), *([] if self.own_target else self.target.parameters())]
        unused = torch.autograd.grad(result.loss, others, retain_graph=True, allow_unused=True)
        assert all(gradient is None for gradient in unused)
        return list(torch.autograd.grad(result.loss, list(self.student.parameters())))

    def papers(self, loss: Tensor) -> list[Tensor]:
        return list(torch.autograd.grad(loss, list(self.student.parameters())))

    def interval(self, icts: bool = False) -> tuple[Tensor, Tensor]:
        """(sigma_{n+1}, sigma_n) of the draws: n uniform in 1..N-1, or with iCT's probabilities."""
        weights = [1.0] * (self.points - 1)
        if icts:
            below = [math.erf((math.log(s) - MEAN) / (2**0.5 * STD)) for s in self.grid.tolist()]
            weights = [b - a for a, b in pairwise(below)]
        edges = [sum(weights[: i + 1]) / sum(weights) for i in range(self.points - 1)]
        lower = [next(i for i, edge in enumerate(edges) if edge > p) for p in self.uniform.tolist()]
        return self.grid[[i + 1 for i in lower]], self.grid[lower]

    def noisy(self, sigma: Tensor) -> Tensor:
        return self.X0 + col(sigma) * self.noise


def same_gradient(ours: list[Tensor], papers: list[Tensor], factor: float = 1.0) -> None:
    """ours = factor times the paper's, to 1e-10 of each parameter's largest entry."""
    for a, b in zip(ours, papers, strict=True):
        largest = float(b.abs().max())
        assert largest > 1e-6  # something was compared
        torch.testing.assert_close(a, factor * b, rtol=0, atol=1e-10 * factor * largest)


OWN_TARGET = pytest.mark.parametrize("own_target", [True, False], ids=["own target", "averaged target"])


@pytest.mark.one_in(2)
@OWN_TARGET
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("points", [2, 18, 120])
@pytest.mark.parametrize("solver", ["heun", "euler", "unless told"])
def test_gradient_of_cd_is_that_of_the_published_loss(tanh_net, solver, points, seed, own_target):
    """Mean square over elements, lambda = 1, in data units: sigma_d^2 times ours."""
    k = Step(tanh_net, seed, points, own_target)
    sigma, lower = k.interval()
    X = k.noisy(sigma)
    with torch.no_grad():
        X_lower = teacher_step(k.teacher, X, sigma, lower, heun=solver != "euler")
        target = edm_map(k.target, X_lower, lower, EPSILON)
    loss = (edm_map(k.student, X, sigma, EPSILON) - target).square().mean()
    told = {"heun": heun_step, "euler": ddim_step, "unless told": None}[solver]
    ours = k.ours(cd, boundary=True, grid=even_grid(cm_angles(points, SIGMA_D)), solver=told)
    same_gradient(ours, k.papers(loss), 1 / SIGMA_D**2)


@OWN_TARGET
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("points", [2, 18, 151])
def test_gradient_of_ct_is_that_of_the_published_loss(tanh_net, points, seed, own_target):
    """Both points with the same noise; sigma_d^2 times ours."""
    k = Step(tanh_net, seed, points, own_target)
    sigma, lower = k.interval()
    with torch.no_grad():
        target = edm_map(k.target, k.noisy(lower), lower, EPSILON)
    loss = (edm_map(k.student, k.noisy(sigma), sigma, EPSILON) - target).square().mean()
    ours = k.ours(ct, boundary=True, grid=even_grid(cm_angles(points, SIGMA_D)))
    same_gradient(ours, k.papers(loss), 1 / SIGMA_D**2)


@OWN_TARGET
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("points", [11, 1281])
def test_gradient_of_ict_is_that_of_the_published_loss(tanh_net, points, seed, own_target):
    """Pseudo-Huber over the whole vector (not per element) over sigma_{i+1} - sigma_i, the very gradient of ours."""
    k = Step(tanh_net, seed, points, own_target)
    sigma, lower = k.interval(icts=True)
    c = 0.00054 * SIZE**0.5
    with torch.no_grad():
        target = edm_map(k.target, k.noisy(lower), lower, EPSILON)
    gap = edm_map(k.student, k.noisy(sigma), sigma, EPSILON) - target
    huber = (gap.flatten(1).square().sum(1) + c**2).sqrt() - c
    ours = k.ours(ict, boundary=True, grid=proposal_grid(cm_angles(points, SIGMA_D), MEAN, STD, SIGMA_D))
    same_gradient(ours, k.papers((huber / (sigma - lower)).mean()))


@OWN_TARGET
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("stage", [0, 3])
def test_gradient_of_ect_is_that_of_the_published_loss(tanh_net, stage, seed, own_target):
    """The plain norm over t - r in EDM's own preconditioning; the target is the clean image where r = 0."""
    k = Step(tanh_net, seed, own_target=own_target)
    sigma = torch.exp(MEAN + STD * torch.special.ndtri(k.uniform))
    decay = {0: 1 / 2, 3: 1 / 16}[stage]
    lower = (sigma * (1 - decay * (1 + 8 / (1 + torch.exp(sigma))))).clamp(min=0)
    assert bool((lower == 0).any()) == (stage == 0) and bool((lower > 0).any())
    with torch.no_grad():
        target = edm_map(k.target, k.noisy(lower), lower)
        clean = col(lower == 0).expand_as(target)
        torch.testing.assert_close(target[clean], k.X0[clean], rtol=0, atol=0)
    norm = (edm_map(k.student, k.noisy(sigma), sigma) - target).flatten(1).norm(dim=1)
    same_gradient(k.ours(ect, boundary=False, stage=stage), k.papers((norm / (sigma - lower)).mean()))


@pytest.mark.parametrize("without", ["", *PARTS])
def test_gradient_of_ict_without_a_part_is_that_of_its_loss_with_cm_s_in_the_part_s_place(tanh_net, without):
    """The mean square over the vector, intervals that are all as likely, and the mean without weights."""
    k, points = Step(tanh_net, 0), 20
    edges = karras_angles(points, SIGMA_D)
    sigmas = SIGMA_D * torch.tan(edges)
    shares = [0.5 * (1 + math.erf((math.log(s) - MEAN) / (2**0.5 * STD))) if s else 0.0 for s in sigmas.tolist()]
    even = [i / points for i in range(points + 1)]
    drawn = even if without == "lognormal" else [share / shares[-1] for share in shares]
    upper = [next(i for i, edge in enumerate(drawn) if edge > p) for p in k.uniform.tolist()]
    sigma, lower = sigmas[upper], sigmas[[i - 1 for i in upper]]
    with torch.no_grad():
        target = torch.where(col(lower) > 0, edm_map(k.student, k.noisy(lower), lower), k.X0)
    gap = (edm_map(k.student, k.noisy(sigma), sigma) - target).flatten(1)
    distance = gap.square().mean(1) / SIGMA_D**2
    if without != "pseudo_huber":
        distance = (gap.square().sum(1) + 0.00054**2 * SIZE).sqrt() / SIGMA_D
    weight = 1.0 if without == "weights" else SIGMA_D / (sigma - lower)
    ours = k.ours(ict_without, False, grid=proposal_grid(edges, MEAN, STD, SIGMA_D), without=without)
    same_gradient(ours, k.papers((weight * distance).mean()))


def test_ict_has_no_other_parts_to_be_without(tanh_net):
    k = Step(tanh_net, 0)
    with pytest.raises(ValueError, match="no part 'dropout'"):
        k.ours(ict_without, False, grid=proposal_grid(karras_angles(8, SIGMA_D), MEAN, STD, SIGMA_D), without="dropout")


def test_ect_needs_no_value_of_the_network_at_zero_noise(tanh_net):
    """A network that is told a sine of ln sigma has none there; the clean image stands in for what it says."""
    k = Step(tanh_net, 0)
    fields = Fields(lambda x, t: k.student(x, torch.sin(torch.tan(t).log())))
    loss = ect(fields, k.x0, Draws(k.uniform, k.noise), ECTSettings(proposal_mean=MEAN, proposal_std=STD)).loss
    assert all(g.isfinite().all() and g.any() for g in torch.autograd.grad(loss, list(k.student.parameters())))


def test_the_lower_point_and_its_map_are_not_recorded(tanh_net):
    k, recording = Step(tanh_net, 0, own_target=False), []

    def noting(name: str, field: Field) -> Field:
        return lambda x, t: recording.append((name, torch.is_grad_enabled())) or field(x, t)

    fields = Fields(noting("student", k.student), noting("teacher", k.teacher), target=noting("target", k.target))
    grid = even_grid(cm_angles(18, SIGMA_D))
    for objective, asked in ((cd, 2), (ct, 0), (ict, 0), (ect, 0)):
        recording.clear()
        objective(fields, k.x0, Draws(k.uniform, k.noise), settings_for(objective, grid=grid))
        assert sorted(recording) == [("student", True), ("target", False), *[("teacher", False)] * asked]


@pytest.mark.parametrize(("shape", "published"), [((3, 32, 32), 0.02993), ((3, 64, 64), 0.05986)])
def test_pseudo_hubers_constant_is_the_published_one(shape, published):
    """Table of sec. 10: the direction of a sample whose gap is exactly c is 1/sqrt(2) of that without c."""
    assert PSEUDO_HUBER * math.sqrt(math.prod(shape)) == pytest.approx(published, abs=5e-6)
    grid = even_grid(torch.tensor([0.5, 0.9], dtype=torch.float64))
    x0 = torch.zeros(1, *shape, dtype=torch.float64)
    t = torch.tensor([0.9], dtype=torch.float64)
    length = PSEUDO_HUBER * math.sqrt(math.prod(shape)) / SIGMA_D  # in unit variance
    aside = torch.zeros_like(x0)
    aside[0, 0, 0, 0] = -length / torch.sin(t)

    def field(x: Tensor, t: Tensor) -> Tensor:
        """The map is 0 at the lower point and `length` away at the upper one."""
        return x / torch.tan(t)[:, None, None, None] + torch.where(t[:, None, None, None] > 0.7, aside, 0)

    draws = Draws(torch.tensor([0.5], dtype=torch.float64), torch.randn(1, *shape, dtype=torch.float64))
    norm = ict(Fields(field), x0, draws, ICTSettings(grid=grid)).direction_norm
    per_level = math.sin(0.9) / (math.tan(0.9) - math.tan(0.5))
    assert norm.item() == pytest.approx(math.prod(shape) / 2 * per_level / math.sqrt(2), rel=1e-9)


# --- exact maps --------------------------------------------------------------------------------------


@pytest.fixture
def quick(unchecked: Callable[[], AbstractContextManager[None]]) -> Iterator[None]:
    """Thousands of small steps of the exact map, shapes unchecked (other tests check them)."""
    with unchecked():
        yield


def exact_field(mixture: oracle.Mixture, sigma_min: float = 0.0) -> Field:
    """The F of the exact map: to the data, or to the point at sigma_min where CM's boundary is."""
    edge = math.atan(sigma_min / SIGMA_D)

    def field(x: Tensor, t: Tensor) -> Tensor:
        mapped = oracle.segment_map(mixture, x, t, torch.full_like(t, edge), STEPS) / math.cos(edge)
        sine = torch.sin(t)[:, None]
        return torch.where(sine == 0, 0.0, (torch.cos(t)[:, None] * x - mapped) / torch.where(sine == 0, 1.0, sine))

    return field


def plane_draws(mixture: oracle.Mixture, batch: int) -> tuple[Tensor, Draws]:
    generator = torch.Generator().manual_seed(7)
    u, v = torch.rand(2, batch, generator=generator, dtype=torch.float64)
    noise, other = torch.randn(2, batch, 2, generator=generator, dtype=torch.float64)
    return oracle.sample(mixture, v, other), Draws(u, noise)


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("sigma_min", [0.0, EPSILON])
def test_cd_is_stationary_at_the_exact_map_with_the_exact_solver(mixture, sigma_min):
    x0, draws = plane_draws(mixture, 8)
    teacher = partial(oracle.velocity, mixture)
    angles = cm_angles(18, SIGMA_D)
    grid = even_grid(angles if sigma_min else torch.cat([torch.zeros(1, dtype=torch.float64), angles]))
    settings = CDSettings(grid=grid, solver=lambda field, x, t, u: oracle.segment_map(mixture, x, t, u, STEPS))
    exact = Fields(exact_field(mixture, sigma_min), teacher)
    assert cd(exact, x0, draws, settings).direction_norm.max() < 1e-8
    assert cd(Fields(teacher, teacher), x0, draws, settings).direction_norm.max() > 1e-2
    assert cd(exact, x0, draws, replace(settings, solver=ddim_step)).direction_norm.max() > 1e-3


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("solver", "order"), [(ddim_step, 1), (heun_step, 2)])
def test_direction_of_cd_at_the_exact_map_shrinks_at_the_order_of_its_solver(mixture, solver, order):
    """Per step length, as CD does not divide by it: one step's error is of one order more."""
    x0, draws = plane_draws(mixture, 4)
    fields = Fields(exact_field(mixture), partial(oracle.velocity, mixture))
    sizes = []
    for h in (0.04, 0.02, 0.01):
        grid = even_grid(torch.tensor([1.0 - h, 1.0], dtype=torch.float64))
        sizes.append(float(cd(fields, x0, draws, CDSettings(grid=grid, solver=solver)).direction_norm.norm()) / h)
    orders = [math.log2(a / b) for a, b in pairwise(sizes)]
    assert orders == pytest.approx([order, order], abs=0.15)


# Posterior means on the line. A direction is taken times tan t - tan u where the objective divides by it,
# so that its size is that of the comparison and not of the weight.


def posterior_pairs(mixture: oracle.Mixture, x_t: float, t: float, nodes: int) -> tuple[Tensor, Tensor, Tensor]:
    """(x0, z, weights): equally likely quantiles of each component's p(x0 | x_t) on the line.

    Unlike Gauss-Hermite nodes they also average a sign, to 1 / nodes, and odd moments of a Gaussian to rounding.
    """
    middles = (torch.arange(nodes, dtype=torch.float64) + 0.5) / nodes
    normal = torch.special.ndtri(middles)
    normal = normal / normal.square().mean().sqrt()
    c, s, variance = math.cos(t), math.sin(t), mixture.stds.square()
    precision = 1 / variance + (c / s) ** 2
    mean = (mixture.means[:, 0] / variance + c * x_t / s**2) / precision
    evidence = c**2 * variance + s**2
    component = mixture.weights * evidence.rsqrt() * (-0.5 * (x_t - c * mixture.means[:, 0]).square() / evidence).exp()
    x0 = (mean[:, None] + normal / precision.sqrt()[:, None]).flatten()[:, None]
    weights = (component / component.sum()).repeat_interleave(nodes) / nodes
    return x0, (x_t - c * x0) / s, weights


def directions(objective: Callable, student: Field, x0: Tensor, z: Tensor, settings: Any) -> Tensor:
    """g of every pair, read off the gradient of the loss in a shift of the student's output."""
    shift = torch.zeros(len(x0), 1, dtype=torch.float64, requires_grad=True)
    draws = Draws(torch.full((len(x0),), 0.5, dtype=torch.float64), z)
    loss = objective(Fields(lambda x, t: student(x, t) + shift), x0, draws, settings).loss
    (gradient,) = torch.autograd.grad(loss, shift)
    return -gradient[:, 0] * len(x0) / 2  # gradient of the loss is -2/B g_i


def relative_mean(
    objective: Callable, student: Field, mixture: oracle.Mixture, t: float, u: float, nodes: int, stage: int = 0
) -> float:
    """E[g | x_t] / sqrt(E[g^2 | x_t]) at the interval (u, t)."""
    x0, z, weights = posterior_pairs(mixture, 0.4, t, nodes)
    level = math.log(SIGMA_D * math.tan(t))
    grid = ProposalGrid(torch.tensor([u, t], dtype=torch.float64), torch.tensor([0.0, 1.0], dtype=torch.float64))
    settings = settings_for(objective, proposal_mean=level, grid=grid, stage=stage)  # the middle draw of ECT is t
    g = directions(objective, student, x0, z, settings)
    return float((weights * g).sum() / (weights * g.square()).sum().sqrt())


@pytest.fixture(scope="session")
def gaussian_1d() -> oracle.Mixture:
    one = torch.ones(1, dtype=torch.float64)
    return oracle.Mixture(one, torch.zeros(1, 1, dtype=torch.float64), 0.6 * one)


def gaussian_field(x: Tensor, t: Tensor) -> Tensor:
    c, s = torch.cos(t)[:, None], torch.sin(t)[:, None]
    return torch.where(s == 0, 0.0, (c * x - oracle.gaussian_consistency_map(x, t, 0.6)) / torch.where(s == 0, 1.0, s))


def orders(values: list[float]) -> list[float]:
    return [math.log2(abs(a / b)) for a, b in pairwise(values)]


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_mean_direction_of_ct_at_the_exact_map_vanishes_with_the_gap(mixture_1d):
    """One pair's step is O(gap), their mean O(gap^2): relative to a step, the bias is of first order."""
    exact = exact_field(mixture_1d)
    means = [relative_mean(ct, exact, mixture_1d, 1.0, 1.0 - h, 400) for h in (0.02, 0.01, 0.005)]
    assert orders(means) == pytest.approx([1, 1], abs=0.1) and abs(means[0]) > 1e-3
    elsewhere = [relative_mean(ct, lambda x, t: 0 * x, mixture_1d, 1.0, 1.0 - h, 400) for h in (0.02, 0.005)]
    assert all(abs(mean) > 0.3 for mean in elsewhere)


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_mean_direction_of_ict_at_the_exact_map_vanishes_once_the_gap_is_below_its_constant(mixture_1d, gaussian_1d):
    """Pseudo-Huber is a square well below c and a norm well above it, which has the posterior's median for mean."""
    gaussian = [relative_mean(ict, gaussian_field, gaussian_1d, 1.0, 1.0 - h, 2000) for h in (2e-5, 1e-5, 5e-6)]
    assert orders(gaussian) == pytest.approx([1, 1], abs=0.1)
    exact = exact_field(mixture_1d)
    near, far = (abs(relative_mean(ict, exact, mixture_1d, 1.0, 1.0 - h, 400)) for h in (1e-5, 1e-2))
    assert near < 1e-3 and far > 0.05


@pytest.mark.usefixtures("quick")
def test_mean_direction_of_ect_at_the_exact_map_of_a_gaussian_vanishes_with_the_gap(gaussian_1d):
    """A Gaussian's posterior has its median at its mean; every stage halves the gap."""
    t, means, gaps = 1.3, [], []
    for stage in (2, 3, 4):
        u = float(lower_angle(t, stage))
        means.append(relative_mean(ect, gaussian_field, gaussian_1d, t, u, 200_000, stage))
        gaps.append(t - u)
    assert all(b == pytest.approx(a / 2, rel=0.2) for a, b in pairwise(gaps))
    ratios = zip(pairwise(means), pairwise(gaps), strict=True)
    slopes = [math.log(abs(a / b)) / math.log(g / h) for (a, b), (g, h) in ratios]
    assert slopes == pytest.approx([1, 1], abs=0.1) and abs(means[0]) > 1e-3


def lower_angle(t: float, stage: int) -> Tensor:
    sigma = torch.tensor([SIGMA_D * math.tan(t)], dtype=torch.float64)
    return torch.atan(ect_lower_level(sigma, stage) / SIGMA_D)


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_ect_settles_where_the_median_and_not_the_mean_of_the_posterior_is(mixture_1d):
    """Its norm turns every step into a unit vector, as normalising sCT's noisy direction does: a bias that stays.

    On the line the limit of E[g] / |g| is P(v > E[v]) - P(v < E[v]) over the pairs through x_t.
    """
    t, nodes, exact = 1.0, 500, exact_field(mixture_1d)
    x0, z, weights = posterior_pairs(mixture_1d, 0.4, t, nodes)
    v = (math.cos(t) * z - math.sin(t) * x0)[:, 0]
    limit = float((weights * torch.sign(v - (weights * v).sum())).sum())
    means = [relative_mean(ect, exact, mixture_1d, t, 0.0, nodes, stage) for stage in (8, 10)]
    assert abs(limit) > 0.05
    assert means == pytest.approx([limit, limit], abs=4 / nodes)
