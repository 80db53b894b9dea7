"""Multi-step consistency models against the paper's loss, and aDDIM (lineage.md 1.6, check 12)."""

import itertools
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.core.test_flow_maps import STD, close, col, exact_to, spread, velocity
from tests.core.test_segments_and_guidance import told_network
from tests.core.test_trajectory import EXACT, draws, fields_of, teacher
from trigbench.core.condition import Condition
from trigbench.core.fields import Draws
from trigbench.core.objectives.multistep import MSCMSettings, addim, mscm
from trigbench.core.samplers.ode import ddim_step
from trigbench.core.schedules import largest_angle, uniform_angles
from trigbench.core.trigflow import even_grid

T_MAX = largest_angle(0.5)
GRID = even_grid(uniform_angles(12, T_MAX))


def edges(steps: int) -> Tensor:
    return uniform_angles(steps, T_MAX)[:-1]


def published_loss(network, x0: Tensor, drawn: Draws, steps: int, eta: float, distance: str) -> Tensor:
    """In the paper's words: alpha, sigma, predictions of x, DDIM and its inverse, and aDDIM from the teacher's."""
    parts = []
    for row in range(len(x0)):
        i = next(k for k in range(1, 13) if k / 12 > drawn.uniform[row])
        step = (i - 1) // (12 // steps)
        angles = GRID.angles[[i, i - 1, step * (12 // steps)]]
        (a_t, a_m, a_s), (s_t, s_m, s_s) = angles.cos(), angles.sin()
        x, z = x0[row], drawn.noise[row]
        z_t = a_t * x + s_t * z

        def predict(net, z_t, angle, a, s):
            return a * z_t - s * net(z_t[None], angle[None])[0]

        student = lambda z, t, u=angles[2:]: network(z, t, Condition(target_time=u))  # noqa: E731
        x_teacher = predict(teacher, z_t, angles[0], a_t, s_t)
        eps = (z_t - a_t * x_teacher) / s_t
        variance = eta * (x - x_teacher).square().mean()
        length = (s_m**2 + len(x) / eps.square().sum() * (a_m - a_t * s_m / s_t) ** 2 * variance).sqrt()
        z_m = a_m * x_teacher + length * eps
        if i - 1 == step * (12 // steps):
            z_s = z_m
        else:
            x_m = predict(student, z_m, angles[1], a_m, s_m)
            z_s = a_s * x_m + s_s / s_m * (z_m - a_m * x_m)
        target = ((z_s - s_s / s_t * z_t) / (a_s - a_t * s_s / s_t)).detach()
        gap = target - predict(student, z_t, angles[0], a_t, s_t)
        weight = (a_t / s_t) ** 2 + 1
        parts.append(weight * (gap.square().mean() if distance == "squared" else gap.norm()))
    return torch.stack(parts).mean()


@pytest.mark.parametrize(("steps", "eta", "distance"), [(1, 0.75, "squared"), (3, 0.75, "norm"), (12, 0.0, "squared")])
def test_the_gradient_is_that_of_the_published_loss_in_its_own_units(steps, eta, distance):
    network = told_network(seed=11)
    x0, drawn = draws(14)
    settings = MSCMSettings(edges(steps), grid=GRID, noise_share=eta, distance=distance)
    ours = mscm(fields_of(network), x0, drawn, settings).loss
    theirs = published_loss(network, x0, drawn, steps, eta, distance)
    parameters = list(network.parameters())
    found, wanted = (torch.autograd.grad(loss, parameters) for loss in (ours, theirs))
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)
    assert max(float(one.abs().max()) for one in found) > 1e-3


def test_as_many_steps_as_intervals_is_velocity_matching():
    """The paper's claim that it is then diffusion: so with DDIM, and the squared norm."""
    x0, drawn = draws(15, 200)
    told = MSCMSettings(GRID.angles[:-1], grid=GRID, noise_share=0.0)
    diffusion = replace(EXACT, student_to=lambda u: velocity)
    assert mscm(diffusion, x0, drawn, told).direction_norm.max() < 1e-12
    assert mscm(diffusion, x0, drawn, replace(told, segments=edges(1))).direction_norm.max() > 1e-2
    assert mscm(diffusion, x0, drawn, replace(told, noise_share=0.75)).direction_norm.max() > 1e-3


def test_at_the_exact_maps_what_ddim_leaves_shrinks_with_the_grid():
    x0, drawn = draws(16, 400)
    left = [
        float(mscm(EXACT, x0, drawn, MSCMSettings(edges(2), stage=stage, noise_share=0.0)).direction_norm.median())
        for stage in (1, 2, 3)
    ]
    assert [a / b for a, b in itertools.pairwise(left)] == pytest.approx([4, 4], rel=0.1)  # a step's error
    grid = even_grid(uniform_angles(256, T_MAX))
    told = mscm(EXACT, x0, drawn, MSCMSettings(edges(2), grid=grid, noise_share=0.0))
    assert torch.equal(told.loss, mscm(EXACT, x0, drawn, MSCMSettings(edges(2), stage=2, noise_share=0.0)).loss)


def test_without_a_share_addim_is_ddim():
    x0, drawn = draws(17, 50)
    t = 0.2 + 1.3 * drawn.uniform
    assert drawn.middle is not None
    m = t * drawn.middle
    x = col(t.cos()) * x0 + col(t.sin()) * drawn.noise
    close(addim(teacher(x, t), x, t, m, x0, 0.0), ddim_step(teacher, x, t, m), 1e-14)


def test_addim_keeps_the_mean_square_where_data_and_noise_are_orthogonal():
    """Given x_t the square at m is |cos(m) xhat + sin(m) eps|^2 and D a^2 var, a = sin(t-m) / sin(t)."""
    t, m = (torch.full((1,), a, dtype=torch.float64) for a in (0.9, 0.6))
    clean, eps = torch.tensor([[1.0, 0.0, 0.0]]).double(), torch.tensor([[0.0, 0.7, -0.4]]).double()
    (c, s), (c_m, s_m) = ((a.cos(), a.sin()) for a in (t, m))
    x, v = c * clean + s * eps, c * eps - s * clean
    x0 = clean + torch.tensor([[0.2, -0.3, 0.5]]).double()  # |x0 - xhat|^2 = D var
    lost = ((t - m).sin() / s).square() * (x0 - clean).square().sum()
    kept = addim(v, x, t, m, x0, 1.0).square().sum()
    plain = (c_m * clean + s_m * eps).square().sum()
    torch.testing.assert_close(kept, plain + lost[0], rtol=1e-12, atol=0)


def test_addim_is_above_the_mean_square_of_an_isotropic_gaussian_whose_estimates_are_parallel():
    """lineage.md 1.6 has it kept on a Gaussian: it is not, by 2 A B (k - sin m), as xhat and eps are both along x_t."""
    t, m = (torch.full((1,), a, dtype=torch.float64) for a in (0.9, 0.6))
    x = spread(t)[:, None] * torch.ones(1, 400, dtype=torch.float64)  # of mean square
    posterior = (STD * t.sin()).square() / spread(t).square()
    clean = t.cos() * x - t.sin() * velocity(x, t)
    x0 = clean + posterior.sqrt()
    ddim, kept = (float(addim(velocity(x, t), x, t, m, x0, share).square().mean()) for share in (0.0, 1.0))
    exact = float(spread(m).square())
    assert ddim < exact < kept
    lost = ((t - m).sin() / t.sin()).square() * posterior
    A, B = m.cos() * clean[0, 0], (t.sin() * x + t.cos() * velocity(x, t))[0, 0]
    k = (m.sin().square() + lost / B.square()).sqrt()
    assert kept - exact == pytest.approx(float(2 * A * B * (k - m.sin())), rel=1e-10)
    close(exact_to(m)(x, t), (col((t - m).cos()) * x - x * spread(m) / spread(t)) / col((t - m).sin()), 1e-12)
