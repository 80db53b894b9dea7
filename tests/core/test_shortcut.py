"""Shortcut models against their targets in the flow's coordinates, and the map of Euler steps at which they rest."""

import dataclasses

import pytest
import torch
from torch import Tensor

from tests.core.flow_coordinates import SIGMA_D, SIZE, Step, TwoTimes, angle, average, col, exact_to, flow_time, sides
from tests.core.test_flow_maps import velocity as exact_velocity
from trigbench.core.fields import Draws, Fields
from trigbench.core.objectives.regression import settings_for
from trigbench.core.objectives.shortcut import ShortcutSettings, halved_steps, shortcut
from trigbench.core.schedules import largest_angle
from trigbench.core.trigflow import Field

WHOLE = float(flow_time(torch.tensor(largest_angle(SIGMA_D), dtype=torch.float64)))


def test_steps_lie_on_grids_that_are_halved_and_every_longer_length_is_as_likely():
    g = torch.Generator().manual_seed(0)
    uniform, lower = torch.rand(2, 40_000, generator=g, dtype=torch.float64)
    t, m, u = halved_steps(uniform, lower, ShortcutSettings(SIGMA_D, halvings=3, share_shortest=0.4))
    start, middle, end = (flow_time(a) / WHOLE for a in (t, m, u))
    length = start - end
    shares = {n: float((length - 1 / n).abs().lt(1e-12).double().mean()) for n in (1, 2, 4, 8)}
    assert sum(shares.values()) == 1
    assert shares == pytest.approx({1: 0.2, 2: 0.2, 4: 0.2, 8: 0.4}, abs=0.01)
    assert (start / length - (start / length).round()).abs().max() < 1e-12 and start.max() == pytest.approx(1)
    shortest = length < 0.2
    assert torch.equal(m[shortest], u[shortest])
    torch.testing.assert_close(middle[~shortest], (start + end)[~shortest] / 2, rtol=0, atol=1e-12)
    assert len(start[shortest].mul(8).round().unique()) == 8 and float(u.min()) == 0


@pytest.mark.parametrize("averaged", [False, True])
@pytest.mark.parametrize("share", [0.0, 0.5])
def test_shortcut_is_its_loss_in_the_flow_s_coordinates(share, averaged):
    """The mean of two velocities, of the average of weights where there is one; the pair's for the shortest step."""
    step = Step()
    t, m, u = halved_steps(step.uniform, step.lower, ShortcutSettings(SIGMA_D, share_shortest=share))
    tau, middle, rho = (flow_time(a) for a in (t, m, u))
    flowing, v = step.flowing(tau)
    taught_by: TwoTimes = step.averaged if averaged else step.net
    own, target = average(step.net.to), average(taught_by.to)
    first = target(flowing, tau, middle)
    second = target(flowing - col(tau - middle) * first, middle, rho)
    wanted = torch.where(col(m == u), v, (first + second) / 2).detach()
    loss = (own(flowing, tau, rho) - wanted).square().sum(1).mean() / SIZE
    fields = dataclasses.replace(step.fields, target_to=step.averaged.to if averaged else None)
    step.agrees(loss, shortcut, fields, share_shortest=share)


def euler_to(u: Tensor, halvings: int) -> Field:
    """F of the shortest steps of the exact velocity, one after the other, in the flow's time."""
    step = WHOLE / 2**halvings

    def field(x: Tensor, t: Tensor) -> Tensor:
        tau, rho = flow_time(t), flow_time(u)
        plus, minus = sides(t)
        start = flowing = x / plus
        for count in range(2**halvings):
            now = (tau - count * step).clamp(min=0)
            c_s, c_less_s = sides(angle(now))
            v = c_s * exact_velocity(c_s * flowing, angle(now)) - c_less_s * c_s * flowing
            flowing = torch.where(col(now > rho + step / 2), flowing - step * v, flowing)
        return ((start - flowing) / col(tau - rho) + minus * x) / plus

    return field


def with_exact_velocity(step: Step, t: Tensor) -> Step:
    """Its pairs changed, and their x_t not, so that their velocities are the exact one."""
    c, s = col(t.cos()), col(t.sin())
    x = c * step.x0 + s * step.z
    v = exact_velocity(x, t)
    step.x0, step.z = c * x - s * v, s * x + c * v
    return step


def norms_at(jump, share: float, halvings: int, step: Step | None = None) -> Tensor:
    step = step or Step(1)
    draws = Draws(step.uniform, step.z, lower=step.lower, middle=step.middle)
    told = settings_for(shortcut, sigma_d=SIGMA_D, share_shortest=share, halvings=halvings)
    zero = 0 * step.uniform
    return shortcut(Fields(jump(zero + 0.1), student_to=jump), step.x0, draws, told).direction_norm


def test_14_they_rest_at_the_map_of_euler_steps_and_not_at_the_flow_map():
    """lineage.md, check 14, of the method: no step is moved there, and the shortest is the velocity itself."""
    for halvings in (3, 4):
        assert norms_at(lambda u, n=halvings: euler_to(u, n), 0.0, halvings).max() < 1e-12
    x, t = torch.randn(4, 2, dtype=torch.float64), angle(torch.full((4,), WHOLE * 5 / 8, dtype=torch.float64))
    u = angle(torch.full((4,), WHOLE * 4 / 8, dtype=torch.float64))
    torch.testing.assert_close(euler_to(u, 3)(x, t), exact_velocity(x, t), rtol=0, atol=1e-12)
    assert norms_at(lambda u: euler_to(u, 3), 0.0, 4).max() > 1e-3, "of other steps than its own"
    step, told = Step(1), ShortcutSettings(SIGMA_D, halvings=3, share_shortest=1.0)
    exact = with_exact_velocity(Step(1), halved_steps(step.uniform, step.lower, told)[0])
    assert norms_at(lambda u: euler_to(u, 3), 1.0, 3, exact).max() < 1e-12
    assert norms_at(lambda u: euler_to(u, 3), 1.0, 3, step).min() > 1e-3, "of pairs with other velocities"
    assert norms_at(exact_to, 1.0, 3, exact).min() > 1e-3, "the flow map, which is not the velocity"
