"""LCM against its published loss in noise prediction, and what skipping and guidance leave (lineage.md 1.4).

The paper's side is written by hand in its own terms: z = alpha x + sigma e, a network that predicts the noise, its DDIM
step, its guidance and its boundary.
"""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.core.gradients import assert_same_gradients
from trigbench.core.fields import Draws, Fields
from trigbench.core.guidance import guided
from trigbench.core.objectives.latent_consistency import LCMSettings, boundary_scalings, latent_map, lcm, skipped_pair
from trigbench.core.objectives.regression import Regression
from trigbench.core.samplers.ode import heun_step
from trigbench.core.schedules import largest_angle
from trigbench.core.trigflow import Field

BATCH, SIZE, STD = 32, 3, 0.6
T_MAX = largest_angle(0.5)
MEAN = torch.tensor([0.5, -0.2, 0.9], dtype=torch.float64)
OTHER = torch.tensor([-0.3, 0.4, 0.1], dtype=torch.float64)


def col(t: Tensor) -> Tensor:
    return t[:, None]


def drawn() -> tuple[Tensor, Draws]:
    g = torch.Generator().manual_seed(0)
    x0, noise = torch.randn(2, BATCH, SIZE, generator=g, dtype=torch.float64)
    return STD * x0, Draws(torch.rand(BATCH, generator=g, dtype=torch.float64), noise)


def trained(student: Field, teacher: Field, **settings: Any) -> Regression:
    x0, draws = drawn()
    return lcm(Fields(student, teacher), x0, draws, LCMSettings(distance="squared", **settings))


def spread(t: Tensor) -> Tensor:
    return (t.cos().square() * STD**2 + t.sin().square()).sqrt()


def velocity_of(mean: Tensor) -> Field:
    """Of a Gaussian of standard deviation STD about `mean`; its flow keeps (x - cos(t) mean) / spread."""

    def field(x: Tensor, t: Tensor) -> Tensor:
        slope = (1 - STD**2) * t.cos() * t.sin() / spread(t).square()
        return -t.sin()[:, None] * mean + col(slope) * (x - col(t.cos()) * mean)

    return field


def map_of(mean: Tensor) -> Field:
    """F with which LCM's map is the Gaussian's exact one."""

    def field(x: Tensor, t: Tensor) -> Tensor:
        return _field_of(mean + col(STD / spread(t)) * (x - col(t.cos()) * mean), x, t)

    return field


def _field_of(end: Tensor, x: Tensor, t: Tensor) -> Tensor:
    skip, out = boundary_scalings(t, T_MAX, x)
    return (col(t.cos()) * x - (end - skip * x) / out) / col(t.sin())


@pytest.mark.parametrize("averaged", [False, True])
@pytest.mark.parametrize(("distance", "skip"), [("huber", 20), ("squared", 1), ("huber", 700)])
def test_the_gradient_is_that_of_the_published_loss(
    tanh_net: Callable, distance: Any, skip: int, averaged: bool
) -> None:
    student, conditional, unconditional, other = (tanh_net(SIZE, seed) for seed in range(4))
    target = other if averaged else student
    x0, draws = drawn()
    omega = torch.linspace(2, 14, BATCH, dtype=torch.float64)
    n = (draws.uniform * 1000).floor() + 1
    lower = (n - skip).clamp(min=0)

    def noise(net: Field, z: Tensor, n: Tensor) -> Tensor:
        return torch.sin(col(angle(n))) * z + torch.cos(col(angle(n))) * net(z, angle(n))

    def angle(n: Tensor) -> Tensor:
        return T_MAX * n / 1000

    def alpha_sigma(n: Tensor) -> tuple[Tensor, Tensor]:
        return col(torch.cos(angle(n))), col(torch.sin(angle(n)))

    def consistency(net: Field, z: Tensor, n: Tensor) -> Tensor:
        (a, s), scaled = alpha_sigma(n), col(n / 0.1)
        c_skip, c_out = 0.25 / (scaled**2 + 0.25), scaled / (scaled**2 + 0.25) ** 0.5
        return c_skip * z + c_out * (z - s * noise(net, z, n)) / a

    def psi(net: Field, z: Tensor) -> Tensor:
        """The DDIM step's change of z, in the paper's form but for sigma_n, which may be 0, multiplied out."""
        (a, s), (a_n, s_n) = alpha_sigma(n), alpha_sigma(lower)
        return a_n / a * z - (s * a_n / a - s_n) * noise(net, z, n) - z

    a, s = alpha_sigma(n)
    z = a * x0 + s * draws.noise
    w = col(omega)
    z_n = (z + (1 + w) * psi(conditional, z) - w * psi(unconditional, z)).detach()
    gap = consistency(student, z, n) - consistency(target, z_n, lower).detach()
    loss = ((gap.square() + 0.001**2).sqrt() - 0.001).mean() if distance == "huber" else gap.square().mean()

    fields = Fields(student, guided(conditional, unconditional, 1 + omega), target=other if averaged else None)
    ours = lcm(fields, x0, draws, LCMSettings(skip=skip, distance=distance)).loss
    others = [p for net in (conditional, unconditional, other) for p in net.parameters()]
    assert not any(torch.autograd.grad(ours, others, retain_graph=True, allow_unused=True))
    assert_same_gradients(ours, loss, student)


def test_the_map_is_the_identity_at_zero_and_sampled_as_it_is() -> None:
    x, F = torch.randn(2, 4, SIZE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert torch.equal(latent_map(x, F, torch.zeros(4, dtype=torch.float64), T_MAX), x)
    t = torch.tensor([1e-3 * T_MAX, 0.1, 1.1, T_MAX], dtype=torch.float64)
    left = (latent_map(x, F, t, T_MAX) - (col(t.cos()) * x - col(t.sin()) * F)).abs().amax(1)
    assert left[0] > 1e-6 and left[2:].max() < 1e-7, "at a sampler's angles less than float32 tells"


def test_a_step_of_ddim_leaves_the_square_of_what_is_skipped() -> None:
    """At the exact map, and the cube with Heun's; half of a step counts as one that is cut short."""
    for step, order in ((None, 2), (heun_step, 3)):
        norms = [_beyond(trained(map_of(MEAN), velocity_of(MEAN), skip=k, solver=step), 40) for k in (40, 20, 10)]
        assert [math.log2(a / b) for a, b in pairwise(norms)] == pytest.approx([order] * 2, abs=0.15)


def _beyond(found: Regression, skip: int) -> float:
    assert found.t is not None
    return float(found.direction_norm[found.t > skip / 1000 * T_MAX].norm())


@pytest.mark.parametrize("skip", [1, 20, 150])
def test_the_student_of_a_biased_step_is_the_steps_in_a_row(skip: int) -> None:
    """Its fixed point on a Gaussian is what DDIM makes in steps of `skip`, not the exact map; by the skip it may be
    far from it."""
    scalars = [1.0]
    for n in range(1, 1001):
        t, u = (torch.tensor(T_MAX * place / 1000, dtype=torch.float64) for place in (n, max(n - skip, 0)))
        slope = (1 - STD**2) * t.cos() * t.sin() / spread(t).square()
        scalars.append(float(torch.cos(t - u) - torch.sin(t - u) * slope) * scalars[max(n - skip, 0)])
    table = torch.tensor(scalars, dtype=torch.float64)

    def composite(x: Tensor, t: Tensor) -> Tensor:
        end = col(table[(t / T_MAX * 1000).round().long()]) * x
        return torch.where(col(t) > 0, _field_of(end, x, t), torch.nan)  # it is not looked at where nothing moves

    zero = torch.zeros(SIZE, dtype=torch.float64)
    assert trained(composite, velocity_of(zero), skip=skip).direction_norm.max() < 1e-12
    error = abs(scalars[-1] - STD)
    assert {1: 1e-5 < error < 1e-2, 20: 1e-3 < error < 0.1, 150: error > 0.05}[skip], error


def test_what_skips_everything_is_the_teacher_itself() -> None:
    """One step to data is its denoiser, as a diffusion model's."""
    teacher = velocity_of(MEAN)

    def denoiser(x: Tensor, t: Tensor) -> Tensor:
        return _field_of(col(t.cos()) * x - col(t.sin()) * teacher(x, t), x, t)

    assert trained(denoiser, teacher, skip=1000).direction_norm.max() < 1e-12


def test_guidance_moves_the_mean_of_a_gaussian_by_its_scale() -> None:
    """Velocities of one covariance are affine in the mean: guided by s, those about OTHER + s (MEAN - OTHER)."""
    scale = torch.linspace(1, 15, BATCH, dtype=torch.float64)
    means = OTHER + col(scale) * (MEAN - OTHER)
    teacher = guided(velocity_of(MEAN), velocity_of(OTHER), scale)
    x, t = drawn()[1].noise, torch.linspace(0.1, T_MAX, BATCH, dtype=torch.float64)
    torch.testing.assert_close(teacher(x, t), velocity_of(means)(x, t), rtol=0, atol=1e-12)
    told, untold = (trained(map_of(mean), teacher, skip=1).direction_norm.max() for mean in (means, MEAN))
    assert told < 1e-3 and untold > 1e-2, "a student that is told its scale has one map for each"


def test_pairs_reach_down_to_data_and_each_timestep_is_drawn_as_often() -> None:
    t, u = skipped_pair((torch.arange(50, dtype=torch.float64) + 0.5) / 50, 10, 4, 1.0)
    assert t[::5].tolist() == pytest.approx([n / 10 for n in range(1, 11)])
    assert u[::5].tolist() == pytest.approx([0, 0, 0, 0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    assert skipped_pair(torch.ones(1, dtype=torch.float64), 10, 4, 1.0)[0].tolist() == [1.0]


def test_another_distance_is_refused(unchecked: Callable) -> None:
    x0, draws = drawn()
    with unchecked(), pytest.raises(ValueError, match="unknown distance 'l1'; choose huber or squared"):
        lcm(Fields(map_of(MEAN), velocity_of(MEAN)), x0, draws, LCMSettings(distance="l1"))  # type: ignore[arg-type]
