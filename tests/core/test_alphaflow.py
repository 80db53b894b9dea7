"""alpha-Flow against its targets in the flow's coordinates, and its two ends."""

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.core.flow_coordinates import SIZE, TOLD, Step, average, col, flow_time, jvp, pull_at_rest
from tests.core.test_flow_maps import velocity as exact_velocity
from trigbench.core.objectives.alphaflow import alphaflow, annealed, part_way
from trigbench.core.objectives.meanflow import meanflow
from trigbench.core.two_angles import two_angles

CONTROLS: list[dict[str, Any]] = [{"direction_control": name} for name in ("none", "normalise", "huber")]
CONTROLS += [{"direction_power": p, "direction_constant": 1e-20} for p in (0.25, 0.5, 1.0)]
"""Power's own constant is of the difference as it is, and would count for more the smaller alpha is."""


def published(step: Step, alpha: float, same: float, weighed: bool = True) -> Tensor:
    """The mean over elements, with the published weights of both kinds of samples, or the published loss without."""
    t, u = two_angles(step.draws, TOLD, law="lognormal", same=same)
    tau, rho = flow_time(t), flow_time(u)
    flowing, v = step.flowing(tau)
    net, gap, moves = average(step.net.to), col(tau - rho), col(u < t)
    if alpha == 0:
        one = torch.ones_like(tau)
        target = v - gap * jvp(net, (flowing, tau, rho), (v, one, 0 * one))[1]
    else:
        middle = tau - alpha * (tau - rho)
        target = alpha * v + (1 - alpha) * net(flowing - alpha * gap * v, middle, rho)
    target = torch.where(moves, target, v).detach()
    square = (net(flowing, tau, rho) - target).square().mean(1)
    share = torch.where(moves[:, 0], alpha or 1.0, 1.0)
    return (square * share / (square.detach() + 1e-3) if weighed else square / share).mean()


@pytest.mark.parametrize("alpha", [1.0, 0.4, 0.01, 0.0])
def test_alphaflow_is_its_loss_in_the_flow_s_coordinates(alpha):
    step = Step()
    step.agrees(published(step, alpha, 0.5), alphaflow, alpha=alpha)


@pytest.mark.parametrize("alpha", [1.0, 0.4, 0.01, 0.0])
def test_without_a_weight_the_loss_is_over_alpha(alpha):
    """The published one; power's p = 0 weighs nothing, and is of a sum over elements."""
    step = Step(2)
    step.agrees(published(step, alpha, 0.5, weighed=False), alphaflow, alpha=alpha, direction_control="none")
    step.agrees(published(step, alpha, 0.5, weighed=False) * SIZE, alphaflow, alpha=alpha, direction_power=0.0)


@pytest.mark.parametrize("told", CONTROLS, ids=str)
def test_under_every_control_a_small_share_of_the_way_pulls_as_meanflow(told):
    """At first order in alpha: no sample vanishes with it."""
    step = Step(5)
    whole = step.ours(meanflow, share_same=0.5, **told)[1]
    off = []
    for alpha in (2e-4, 1e-4):
        found = step.ours(alphaflow, alpha=alpha, **told)[1]
        off.append(max(float((a - b).abs().max()) for a, b in zip(found, whole, strict=True)))
    assert off[1] < 1e-2 and off[1] / off[0] == pytest.approx(0.5, abs=0.05)


def test_the_constant_is_of_the_difference():
    """At 1/32 it counts as 1.02 of MeanFlow's direction; c alpha^2 is its own."""
    step, alpha, c = Step(6), 1e-4, 1e-3 * SIZE
    for given, counts in ((c, c / alpha**2), (c * alpha**2, c)):
        ours = step.ours(alphaflow, alpha=alpha, share_same=0.0, direction_constant=given)[1]
        whole = step.ours(meanflow, share_same=0.0, direction_constant=counts)[1]
        for one, other in zip(ours, whole, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-2, atol=1e-3 * float(other.abs().max()))


def test_its_curriculum_goes_from_flow_matching_to_meanflow():
    """By the published sigmoid; at its end the gradients are those of meanflow, of the same constant."""
    assert [annealed(p) for p in (0.0, 0.25, 0.5, 0.75, 1.0)] == [1.0, 1.0, 0.5, 0.0, 0.0]
    assert annealed(0.6) == pytest.approx(0.0758582, abs=1e-6)
    step = Step(1)
    step.agrees(published(step, annealed(0.4), 0.5), alphaflow, stage=4, stages=10)
    last = step.ours(alphaflow, stage=9, stages=10)[1]
    same = step.ours(meanflow, share_same=0.5, direction_constant=1e-3 * SIZE)[1]
    for ours, other in zip(last, same, strict=True):
        torch.testing.assert_close(ours, other, rtol=1e-12, atol=0)


def test_a_middle_is_an_angle_where_nothing_moves_or_all_the_way():
    t = torch.tensor([0.3, 1.2, 0.7], dtype=torch.float64)
    u = torch.tensor([0.3, 0.2, 0.0], dtype=torch.float64)
    assert torch.equal(part_way(t, u, 1.0), u) and part_way(t, u, 0.3)[0] == t[0]
    tau, rho = flow_time(t), flow_time(u)
    torch.testing.assert_close(flow_time(part_way(t, u, 0.3)), tau - 0.3 * (tau - rho), rtol=0, atol=1e-15)


def test_alphaflow_rests_at_the_exact_map_as_alpha_falls():
    """At first order: what is left is of Euler's step."""
    law: dict[str, Any] = {"law": "lognormal", "same": 0.5}
    told: dict[str, Any] = {"direction_control": "none"}
    left = [pull_at_rest(alphaflow, law, alpha=alpha, **told) for alpha in (0.02, 0.01, 0.005)]
    assert left[1] / left[0] == pytest.approx(0.5, abs=0.05) and left[2] / left[1] == pytest.approx(0.5, abs=0.05)
    assert pull_at_rest(alphaflow, law, alpha=0.0, **told) < 1e-12
    assert pull_at_rest(alphaflow, law, lambda u: exact_velocity, alpha=0.0, **told) > 1e-3
