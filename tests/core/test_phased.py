"""PCM against its published loss in noise predictions, and at exact maps of segments (lineage.md 1.3)."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.core.test_flow_maps import col, velocity
from tests.core.test_segments_and_guidance import told_network
from tests.core.test_trajectory import EXACT, draws, exact_step, fields_of, teacher
from trigbench.core.condition import Condition
from trigbench.core.fields import Draws, bind
from trigbench.core.objectives.lineage import CDSettings, cd
from trigbench.core.objectives.phased import PCMSettings, pcm
from trigbench.core.samplers.ode import ddim_step
from trigbench.core.schedules import largest_angle, uniform_angles
from trigbench.core.trigflow import even_grid, interpolate, rotate

T_MAX = largest_angle(0.5)
GRID = even_grid(uniform_angles(10, T_MAX))


def edges(phases: int) -> Tensor:
    return uniform_angles(phases, T_MAX)[:-1]


def published_loss(network, x0: Tensor, drawn: Draws, phases: int) -> Tensor:
    """In the paper's words: alpha, sigma, noise predictions, DDIM of them, and the code's element-wise Huber."""
    angles, parts = GRID.angles.tolist(), []
    for row in range(len(x0)):
        i = next(k for k in range(1, 11) if k / 10 > drawn.uniform[row])
        s = max(float(e) for e in edges(phases) if e < angles[i] - 1e-12)
        t, m, s = (torch.tensor([a], dtype=torch.float64) for a in (angles[i], max(angles[i - 1], s), s))

        def noise(x: Tensor, t: Tensor, net) -> Tensor:
            """epsilon of a network that predicts v."""
            return col(t.sin()) * x + col(t.cos()) * net(x, t)

        def F_theta(x: Tensor, t: Tensor, s: Tensor, net) -> Tensor:
            epsilon = noise(x, t, net)
            return col(s.cos() / t.cos()) * (x - col(t.sin()) * epsilon) + col(s.sin()) * epsilon

        student = lambda x, t, s=s: network(x, t, Condition(target_time=s))  # noqa: E731
        x = col(t.cos()) * x0[row : row + 1] + col(t.sin()) * drawn.noise[row : row + 1]
        stepped = F_theta(x, t, m, teacher)
        target = F_theta(stepped, m, s, student).detach()
        parts.append((((F_theta(x, t, s, student) - target).square() + 1e-3**2).sqrt() - 1e-3).mean())
    return torch.stack(parts).mean()


@pytest.mark.parametrize("phases", [1, 2, 5, 10])
def test_the_gradient_is_that_of_the_published_loss_in_its_own_units(phases):
    network = told_network(seed=7)
    x0, drawn = draws(8)
    ours = pcm(fields_of(network), x0, drawn, PCMSettings(edges(phases), grid=GRID)).loss
    parameters = list(network.parameters())
    found, wanted = (
        torch.autograd.grad(loss, parameters) for loss in (ours, published_loss(network, x0, drawn, phases))
    )
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)
    assert max(float(one.abs().max()) for one in found) > 1e-3


@pytest.mark.parametrize("phases", [1, 3, 5])
def test_it_rests_at_the_exact_map_of_every_phase_and_at_no_other(phases):
    x0, drawn = draws(9, 200)
    settings = PCMSettings(edges(phases), solver=exact_step)
    assert pcm(EXACT, x0, drawn, settings).direction_norm.max() < 1e-11  # of gaps over c = 1e-3
    assert pcm(EXACT, x0, drawn, replace(settings, solver=None)).direction_norm.max() > 1e-3  # DDIM is not exact
    other = replace(EXACT, student_to=lambda u: velocity)
    assert pcm(other, x0, drawn, settings).direction_norm.max() > 1e-2


def test_one_phase_is_consistency_distillation_but_for_the_distance():
    """A Huber of large c is the square over 2 c, so a gradient of 1 / (2 c) of CD's."""
    network = told_network(seed=8)
    x0, drawn = draws(10)
    fields = fields_of(network)
    ours = pcm(fields, x0, drawn, PCMSettings(edges(1), grid=GRID, huber=1e6))
    theirs = cd(fields, x0, drawn, CDSettings(GRID, ddim_step))
    parameters = [p for name, p in network.named_parameters() if not name.startswith("tell.")]
    for one, other in zip(*(torch.autograd.grad(f.loss, parameters) for f in (ours, theirs)), strict=True):
        torch.testing.assert_close(2e6 * one, other, rtol=1e-9, atol=1e-12)


def test_as_many_phases_as_intervals_learn_the_solver_s_own_step():
    """lineage.md: M = grid is DDIM regression; by DDIM the field is the teacher's velocity."""
    network = told_network(seed=9)
    x0, drawn = draws(11)
    settings = PCMSettings(GRID.angles[:-1], grid=GRID, huber=1e6)
    found = pcm(replace(fields_of(network), target_to=lambda u: lambda x, t: 0 * x / 0), x0, drawn, settings)
    upper = torch.searchsorted(GRID.cumulative, drawn.uniform, right=True)
    t, u = GRID.angles[upper], GRID.angles[upper - 1]
    x = interpolate(x0, drawn.noise, t)
    F = bind(network, condition=Condition(target_time=u))(x, t)
    expected = col((t - u).sin()).square() * (teacher(x, t) - F)
    torch.testing.assert_close(2e6 * found.direction_norm, expected.norm(dim=1), rtol=1e-9, atol=0)


def test_a_pair_crosses_no_edge():
    x0, drawn = draws(12, 300)
    ends: list[Tensor] = []
    inner = GRID.angles[[0, 3, 7]]

    def solver(field, x, t, u):
        ends.extend((t, u))
        return rotate(x, field(x, t), t, u)

    pcm(EXACT, x0, drawn, PCMSettings(inner, grid=GRID, solver=solver))
    t, m = ends
    edge = inner[torch.searchsorted(inner, t - 1e-9) - 1]
    assert bool((m >= edge).all() & (m < t).all()) and bool((m == edge).any() & (m > edge).any())


def test_without_a_grid_it_is_the_paper_s_fifty_even_steps():
    x0, drawn = draws(13, 300)
    grid = even_grid(uniform_angles(50, T_MAX))
    told, untold = (pcm(EXACT, x0, drawn, PCMSettings(edges(5), grid=g)) for g in (grid, None))
    assert torch.equal(told.loss, untold.loss)
