"""MeanFlow and its successors against their losses in the flow's coordinates, and where they rest."""

import pytest
import torch
from torch import Tensor

from tests.core.flow_coordinates import TOLD, Step, average, col, flow_time, jvp, pull_at_rest
from tests.core.test_flow_maps import points, some_to
from tests.core.test_flow_maps import velocity as exact_velocity
from trigbench.core.fields import Fields
from trigbench.core.flow_maps import eulerian_direction, flow_factor, of_average_velocity
from trigbench.core.objectives.meanflow import imf, meanflow
from trigbench.core.tangents import map_tangent
from trigbench.core.two_angles import two_angles


def times(step: Step, same: float) -> tuple[Tensor, Tensor]:
    t, u = two_angles(step.draws, TOLD, law="lognormal", same=same)
    return flow_time(t), flow_time(u)


def power_loss(error: Tensor, p: float, c: float) -> Tensor:
    square = error.square().sum(1)
    return (square / (square.detach() + c) ** p).mean()


@pytest.mark.parametrize("p", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("same", [0.25, 0.75])
def test_meanflow_is_its_loss_in_the_flow_s_coordinates(same, p):
    """u - sg(v - (tau - rho) du/dtau), with the tangents (v, 1, 0), and the published power of its square."""
    step = Step()
    tau, rho = times(step, same)
    flowing, v = step.flowing(tau)
    one = torch.ones_like(tau)
    u, rate = jvp(average(step.net.to), (flowing, tau, rho), (v, one, 0 * one))
    error = u - (v - col(tau - rho) * rate).detach()
    step.agrees(power_loss(error, p, 1e-3), meanflow, share_same=same, direction_power=p)
    if (same, p) == (0.75, 1.0):
        torch.testing.assert_close(step.ours(meanflow)[0], step.ours(meanflow, share_same=same)[0], rtol=0, atol=0)


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_imf_is_its_loss_in_the_flow_s_coordinates(p):
    """V = u + (tau - rho) sg(du/dtau), the tangent the network's own velocity, against the pair's."""
    step = Step(3)
    tau, rho = times(step, 0.5)
    flowing, v = step.flowing(tau)
    u = average(step.net.to)
    one, own = torch.ones_like(tau), u(flowing, tau, tau).detach()
    now, rate = jvp(u, (flowing, tau, rho), (own, one, 0 * one))
    step.agrees(power_loss(now + col(tau - rho) * rate.detach() - v, p, 0.01), imf, direction_power=p)


def test_imf_is_meanflow_once_its_velocity_is_the_pair_s():
    """Then they have one direction: a student whose field at u = t is the pair's velocity."""
    step = Step(4)
    x_of = lambda t: col(t.cos()) * step.z - col(t.sin()) * step.x0  # noqa: E731
    told = {"share_same": 0.25, "direction_control": "none"}

    def student_to(u):
        return lambda x, t: torch.where(col(t == u), x_of(t), step.net(x, t, u))

    fields = Fields(student_to(0 * step.uniform), student_to=student_to)
    for ours, other in zip(step.ours(imf, fields, **told)[1], step.ours(meanflow, fields, **told)[1], strict=True):
        torch.testing.assert_close(ours, other, rtol=1e-12, atol=1e-14)


def test_where_every_end_is_the_start_meanflow_is_flow_matching():
    step = Step(1)
    t = two_angles(step.draws, TOLD, law="same")[0]
    flowing, v = step.flowing(flow_time(t))
    step.agrees(
        (average(step.net.to)(flowing, flow_time(t), flow_time(t)) - v).square().sum(1).mean() / v.shape[1],
        meanflow, law="same", direction_control="none",
    )  # fmt: skip


def test_to_data_without_its_factors_meanflow_s_direction_is_sct_s():
    """lineage.md, 2.1: s = 0, k and c + S removed."""
    x, t, _, _ = points()
    zero, v = torch.zeros_like(t), x.flip(0)
    net = some_to(zero)
    ours = of_average_velocity(eulerian_direction(net, x, t, zero, v, flow_factor(t, zero)), t)
    F, dF = jvp(net, (x, t), (v, torch.ones_like(t)))
    sct = map_tangent(F, dF, x, v, t)
    torch.testing.assert_close(ours.g / col(t.cos() + t.sin()) ** 2, sct, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(("objective", "same"), [(meanflow, 0.75), (imf, 0.5)])
@pytest.mark.parametrize("control", ["power", "none"])
def test_both_rest_at_the_exact_map(objective, same, control):
    law = {"law": "lognormal", "same": same}
    assert pull_at_rest(objective, law, direction_control=control) < 1e-12
    assert pull_at_rest(objective, law, lambda u: exact_velocity, direction_control=control) > 1e-3
