"""IMM against its published loss, in data units and the flow's coordinates, its reduction to CT, and where it rests."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.core.flow_coordinates import BATCH, SIGMA_D, SIZE, Step, col, exact_to, flow_time
from tests.core.gradients import assert_same_gradients
from tests.core.test_flow_maps import STD as SPREAD
from tests.core.test_flow_maps import spread
from tests.core.test_flow_maps import velocity as exact_velocity
from trigbench.core.fields import Draws, Fields
from trigbench.core.objectives.lineage import CTSettings, ct
from trigbench.core.objectives.moment_matching import IMMSettings, imm, squared_mmd, three_angles, weight
from trigbench.core.objectives.regression import settings_for
from trigbench.core.trigflow import even_grid, interpolate

LARGEST = 80 / SIGMA_D


def ours(step: Step, fields: Fields | None = None, **told: Any) -> Tensor:
    return imm(fields or step.fields, step.x0, step.draws, settings_for(imm, sigma_d=SIGMA_D, **told)).loss


# --- the loss --------------------------------------------------------------------------------------


def published(step: Step, particles: int, halvings: int, a: float, b: float) -> Tensor:
    """The mean over groups of w MMD^2 with a Laplace kernel, alpha = 1 - tau and sigma = tau, in data units."""
    tau = step.uniform[::particles] * LARGEST / (1 + LARGEST)
    rho = step.lower[::particles] * tau
    eta = (tau / (1 - tau) - LARGEST / 2**halvings).clamp(min=0)
    middle = torch.maximum(eta / (1 + eta), rho)
    scale = lambda time: ((1 - time) ** 2 + time**2).sqrt()  # noqa: E731

    def c_out(start: Tensor, end: Tensor) -> Tensor:
        return -((1 - end) * start - end * (1 - start)) / scale(start) * SIGMA_D

    def mapped(start: Tensor, end: Tensor) -> Tensor:
        """Simple-EDM: c_skip x + c_out F(x / (sigma_d sqrt(alpha^2 + sigma^2)))."""
        start, end = (each.repeat_interleave(particles) for each in (start, end))
        x = SIGMA_D * ((1 - col(start)) * step.x0 + col(start) * step.z)
        skip = ((1 - start) * (1 - end) + start * end) / scale(start) ** 2
        unit = x / (SIGMA_D * col(scale(start)))
        net = step.net(unit, *(torch.atan2(time, 1 - time) for time in (start, end)))
        return (col(skip) * x + col(c_out(start, end)) * net).reshape(-1, particles, SIZE)

    def kernel(one: Tensor, other: Tensor) -> Tensor:
        length = (one[:, :, None] - other[:, None, :]).square().sum(-1).clamp(min=1e-8).sqrt()
        return torch.exp(-length / c_out(tau, rho).abs()[:, None, None] / SIZE).mean((1, 2))

    time = tau.clone().requires_grad_()
    snr = 2 * torch.log((1 - time) / time)
    slope = -torch.autograd.grad(snr.sum(), time)[0]
    w = 0.5 * torch.sigmoid(b - snr.detach()) * slope * (1 - tau) ** a / scale(tau) ** 2
    f_st, f_sr = mapped(tau, rho), mapped(middle, rho).detach()
    return (w * (kernel(f_st, f_st) + kernel(f_sr, f_sr) - 2 * kernel(f_st, f_sr))).mean()


@pytest.mark.parametrize(("particles", "halvings", "a", "b"), [(4, 15, 1.0, 5.0), (4, 4, 2.0, 4.0), (2, 9, 1.0, 5.0)])
def test_imm_is_its_loss_as_published(particles, halvings, a, b):
    step = Step()
    told = {"particles": particles, "gap_halvings": halvings, "weight_power": a, "weight_shift": b}
    assert_same_gradients(ours(step, **told), published(step, particles, halvings, a, b), step.net)


def test_the_defaults_are_those_of_the_published_configuration():
    step = Step(1)
    assert_same_gradients(ours(step), published(step, 4, 15, 1.0, 5.0), step.net)


def test_with_one_particle_and_the_energy_kernel_imm_is_consistency_training():
    """Check 13 of the lineage, to 1e-12: the weight is IMM's, and the MMD twice the mean square."""
    step = Step(2)
    step.uniform, step.lower = torch.full_like(step.uniform, 0.6), torch.zeros_like(step.lower)
    settings = IMMSettings(SIGMA_D, particles=1, kernel="energy", gap_halvings=8)
    t, r, s = three_angles(step.uniform, step.lower, settings)
    assert not s.any() and bool((r > 0).all() and (r < t).all())
    grid = even_grid(torch.stack([torch.zeros(()).double(), r[0], t[0]]))
    drawn = Draws(torch.full_like(step.uniform, 0.75), step.z)  # the upper interval
    theirs = ct(step.fields, step.x0, drawn, CTSettings(grid)).loss
    mine = ours(step, particles=1, kernel="energy", gap_halvings=8)
    factor = 2 * float(weight(t, settings)[0])
    for one, other in zip(step.gradients(mine), step.gradients(theirs), strict=True):
        assert other.abs().max() > 1e-4 or not other.any()
        torch.testing.assert_close(one, factor * other, rtol=0, atol=1e-12 * float(factor * other.abs().max() + 1))


@pytest.mark.parametrize("kernel", ["laplace", "energy"])
def test_the_discrepancy_is_a_mean_over_pairs_of_particles(kernel):
    one, other = torch.randn(2, 3, 4, SIZE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    scale = torch.tensor([0.3, 0.7, 1.1], dtype=torch.float64)
    settings = IMMSettings(SIGMA_D, kernel=kernel)

    def mean(x: Tensor, y: Tensor, scale: Tensor) -> Tensor:
        pairs = [a - b for a in x for b in y]
        if kernel == "energy":
            return -torch.stack([(apart**2).mean() for apart in pairs]).mean()
        return torch.stack([torch.exp(-apart.norm().clamp(min=2e-4) / SIZE / scale) for apart in pairs]).mean()

    found = squared_mmd(one, other, scale, settings)
    expected = [mean(x, x, c) + mean(y, y, c) - 2 * mean(x, y, c) for x, y, c in zip(one, other, scale, strict=True)]
    torch.testing.assert_close(found, torch.stack(expected), rtol=0, atol=1e-14)
    torch.testing.assert_close(squared_mmd(one, one[:, [2, 0, 3, 1]], scale, settings), torch.zeros(3).double())
    assert (found > 0).all()


# --- times and groups ------------------------------------------------------------------------------


def test_times_are_even_in_the_flow_and_of_one_difference_of_noise_level_unless_the_end_is_near():
    uniform, lower = torch.rand(2, 40_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    t, r, s = three_angles(uniform, lower, IMMSettings(SIGMA_D, gap_halvings=12))
    assert bool((t > r).all() and (r >= s).all() and (s >= 0).all())
    every = flow_time(t)[::4] * (1 + LARGEST) / LARGEST
    assert torch.histc(every, 10, 0, 1).sub(1000).abs().max() < 5 * math.sqrt(900)
    share = (flow_time(s) / flow_time(t))[::4]
    assert torch.histc(share, 10, 0, 1).sub(1000).abs().max() < 5 * math.sqrt(900)
    free = r > s
    assert 0.5 < free.double().mean() < 1
    torch.testing.assert_close((t.tan() - r.tan())[free], torch.full_like(t[free], LARGEST / 2**12), rtol=1e-6, atol=0)
    for times in (t, r, s):
        assert torch.equal(times.reshape(-1, 4), times[::4, None].expand(-1, 4))


@pytest.mark.parametrize("rows", [5, 6])
def test_rows_that_make_no_whole_groups_are_refused_with_a_remedy(rows):
    step = Step()
    drawn = Draws(step.uniform[:rows], step.z[:rows], lower=step.lower[:rows])
    with pytest.raises(ValueError, match=rf"4 rows with each other, got {rows}.*multiples of `particles`"):
        imm(step.fields, step.x0[:rows], drawn, IMMSettings())


def test_groups_are_alone():
    """The loss is the mean over groups, and a row's norm depends on its group."""
    step = Step(3)
    whole = imm(step.fields, step.x0, step.draws, IMMSettings())
    parts = []
    for rows in (slice(8, 12), slice(0, 8), slice(12, 16)):
        drawn = Draws(step.uniform[rows], step.z[rows], lower=step.lower[rows])
        found = imm(step.fields, step.x0[rows], drawn, IMMSettings())
        parts.append(found.loss * len(step.x0[rows]))
        torch.testing.assert_close(found.direction_norm, whole.direction_norm[rows], rtol=1e-12, atol=0)
    torch.testing.assert_close(sum(parts) / BATCH, whole.loss, rtol=1e-12, atol=0)
    step.x0[0] += 1
    moved = imm(step.fields, step.x0, step.draws, IMMSettings()).direction_norm != whole.direction_norm
    assert moved[:4].all() and not moved[4:].any()


# --- where it rests --------------------------------------------------------------------------------


@pytest.mark.parametrize(("jump", "least", "most"), [(exact_to, 0.0, 2e-3), (lambda u: exact_velocity, 1e-2, 1.0)])
def test_at_the_exact_map_the_discrepancy_of_many_particles_vanishes(jump: Callable, least: float, most: float):
    """Of a Gaussian, whose laws at s from t and from r are one; a velocity's straight steps end elsewhere."""
    count, g = 1500, torch.Generator().manual_seed(1)
    settings = IMMSettings(1.0, particles=count, gap_halvings=6)
    uniform, lower = torch.tensor([[0.7] * count, [0.2] * count], dtype=torch.float64)
    t, r, s = three_angles(uniform, lower, settings)
    ends = []
    for start in (t, r):
        x0, z = torch.randn(2, count, 1, generator=g, dtype=torch.float64)
        x = interpolate(SPREAD * x0, z, start)
        gap = col(start - s)
        ends.append((torch.cos(gap) * x - torch.sin(gap) * jump(s)(x, start))[None])
    found = float(squared_mmd(ends[0], ends[1], torch.sin(t - s)[:1], settings))
    assert least <= found < most
    if jump is exact_to:
        assert float(ends[0].std()) == pytest.approx(float(spread(s[:1])), rel=0.06)
