"""Lagrangian self-distillation against its loss in the flow's coordinates, gradient through the derivative and all."""

import dataclasses

import pytest
import torch
from torch import Tensor

from tests.core.flow_coordinates import (
    MEAN,
    SIGMA_D,
    SIZE,
    STD,
    TOLD,
    Step,
    average,
    col,
    exact_to,
    flow_time,
    jvp,
    pull_at_rest,
)
from tests.core.test_flow_maps import velocity as exact_velocity
from trigbench.core.fields import Fields
from trigbench.core.flow_maps import lagrangian_direction
from trigbench.core.objectives.align_your_flow import ayf_lagrangian
from trigbench.core.objectives.self_distillation import TVMSettings, end_and_rate, lsd, tvm
from trigbench.core.trigflow import lognormal_angle
from trigbench.core.two_angles import two_angles


def end_of(step: Step, tau: Tensor, rho: Tensor) -> tuple[Tensor, Tensor]:
    """f and df/drho in the flow's coordinates, with gradient."""
    flowing, _ = step.flowing(tau)
    f = lambda rho: flowing - col(tau - rho) * average(step.net.to)(flowing, tau, rho)  # noqa: E731
    return jvp(f, (rho,), (torch.ones_like(rho),))


@pytest.mark.parametrize("same", [0.0, 0.3])
def test_lsd_is_its_loss_in_the_flow_s_coordinates(same):
    step = Step()
    t, u = two_angles(step.draws, TOLD, law="uniform", same=same)
    tau, rho = flow_time(t), flow_time(u)
    end, rate = end_of(step, tau, rho)
    end = end.detach()
    wanted = torch.where(col(u == t), step.z - step.x0, average(step.net.to)(end, rho, rho).detach())
    step.agrees((rate - wanted).square().sum(1).mean() / SIZE, lsd, share_same=same)


def test_its_gradient_passes_through_the_derivative_where_ayf_s_does_not():
    """The residuals are equal; one has df/du recorded, the other F alone."""
    step = Step(1)
    t, u = two_angles(step.draws, TOLD, law="uniform")
    x = step.x0
    end, rate = end_and_rate(step.net.to, x, t, u)
    still = lagrangian_direction(step.net.to, x, t, u, step.teacher)
    torch.testing.assert_close((rate - step.teacher(end, u)).detach(), -still.g, rtol=0, atol=1e-13)
    through = step.gradients(rate.square().sum())
    without = step.gradients((torch.cos(col(t - u)) * step.net(x, t, u) * rate.detach()).sum() * 2)
    assert max(float((a - b).abs().max()) for a, b in zip(through, without, strict=True)) > 1e-2
    taught = lambda u: lambda x, t: torch.where(col(u == t), step.teacher(x, t), step.net(x, t, u))  # noqa: E731
    fields = Fields(step.fields.student, teacher=step.teacher, student_to=taught)
    told = {"law": "uniform", "share_same": 0.0, "direction_control": "none"}
    ours, ayf = (step.ours(objective, fields, **told) for objective in (lsd, ayf_lagrangian))
    torch.testing.assert_close(ours[0], ayf[0], rtol=1e-12, atol=0)
    assert max(float((a - b).abs().max()) for a, b in zip(ours[1], ayf[1], strict=True)) > 1e-2


def test_inference_mode_loses_no_rate_of_an_end():
    step = Step()
    t, u = two_angles(step.draws, TOLD, law="uniform")
    expected = end_and_rate(step.net.to, step.x0, t, u)
    with torch.inference_mode():
        torch.testing.assert_close(end_and_rate(step.net.to, step.x0, t, u), expected)


def test_lsd_rests_at_the_exact_map():
    law = {"law": "uniform", "same": 0.75}
    assert pull_at_rest(lsd, law) < 1e-12
    assert pull_at_rest(lsd, law | {"same": 0.25}, exact_to, share_same=0.25) < 1e-12
    assert pull_at_rest(lsd, law | {"same": 0.0}, lambda u: exact_velocity, share_same=0.0) > 1e-3


@pytest.mark.parametrize("averaged", [False, True])
def test_tvm_is_its_loss_in_the_flow_s_coordinates(averaged):
    """The terminal term, whose velocity may be an average's, and flow matching at a time of its own."""
    step = Step(2)
    tau, rho = (flow_time(a) for a in two_angles(step.draws, TOLD, law="gap"))
    end, rate = end_of(step, tau, rho)
    taught_by = step.averaged if averaged else step.net
    terminal = rate - average(taught_by.to)(end, rho, rho).detach()
    other = flow_time(lognormal_angle(step.middle, MEAN, STD, SIGMA_D))
    flowing, v = step.flowing(other)
    matching = average(step.net.to)(flowing, other, other) - v
    loss = (terminal.square() + matching.square()).sum(1).mean() / SIZE
    step.agrees(loss, tvm, dataclasses.replace(step.fields, target_to=step.averaged.to if averaged else None))


def test_tvm_is_flow_matching_where_no_map_moves():
    step = Step(3)
    other = flow_time(lognormal_angle(step.middle, MEAN, STD, SIGMA_D))
    flowing, v = step.flowing(other)
    error = average(step.net.to)(flowing, other, other) - v
    fields = dataclasses.replace(step.fields, target_to=step.averaged.to)
    step.agrees(error.square().sum(1).mean() / SIZE, tvm, fields, law="same")


def at_one_time(fields, x0, draws, settings: TVMSettings):
    """Both terms at t, where pull_at_rest has its pairs."""
    return tvm(fields, x0, dataclasses.replace(draws, middle=draws.uniform), settings)


def test_tvm_rests_at_the_exact_map():
    assert pull_at_rest(at_one_time, {"law": "uniform"}, law="uniform") < 1e-12
    assert pull_at_rest(at_one_time, {"law": "uniform"}, lambda u: exact_velocity, law="uniform") > 1e-3


def test_it_needs_a_student_of_two_times(unchecked):
    step = Step()
    with unchecked(), pytest.raises(ValueError, match="student_to"):
        step.ours(lsd, dataclasses.replace(step.fields, student_to=None))
