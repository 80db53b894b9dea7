"""Align Your Flow against its losses in the flow's coordinates, and where its two directions rest."""

import dataclasses

import pytest
import torch
from torch import Tensor

from tests.core.flow_coordinates import (
    SIGMA_D,
    SIZE,
    TOLD,
    Step,
    average,
    col,
    exact_to,
    flow_time,
    jvp,
    pull_at_rest,
    velocity_of_flow,
)
from tests.core.test_flow_maps import velocity as exact_velocity
from trigbench.core.guidance import guided
from trigbench.core.objectives.align_your_flow import ayf, ayf_lagrangian
from trigbench.core.two_angles import two_angles


def times(step: Step) -> tuple[Tensor, Tensor]:
    t, u = two_angles(step.draws, TOLD, law="gap")
    return flow_time(t), flow_time(u)


def published(now: Tensor, g: Tensor) -> Tensor:
    """F onto sg(F) - g / (|g| + c), c in unit variance."""
    g = (g / (g.norm(dim=1, keepdim=True) + 0.1 / SIGMA_D)).detach()
    return (now - now.detach() + g).square().sum(1).mean() / SIZE


@pytest.mark.parametrize(("warmup", "r"), [(0.0, 0.0), (0.4, 0.4), (1.0, 0.99)])
def test_the_eulerian_step_is_its_loss_in_the_flow_s_coordinates(warmup, r):
    step = Step()
    tau, rho = times(step)
    flowing, _ = step.flowing(tau)
    v, one = velocity_of_flow(step.teacher)(flowing, tau), torch.ones_like(tau)
    now, rate = jvp(average(step.net.to), (flowing, tau, rho), (v, one, 0 * one))
    step.agrees(published(now, now - v + r * col(tau - rho) * rate), ayf, warmup=warmup)


def test_an_autoguided_teacher_is_a_field_like_another():
    """lambda v + (1 - lambda) v_weak, lambda of (1, 3) a sample: core.guidance.guided with a weak field."""
    step = Step(4)
    weak = lambda x, t: step.averaged(x, t, t)  # noqa: E731
    scale = 1 + 2 * step.middle
    tau, rho = times(step)
    flowing, _ = step.flowing(tau)
    strong_v, weak_v = (velocity_of_flow(field)(flowing, tau) for field in (step.teacher, weak))
    v, one = col(scale) * strong_v + col(1 - scale) * weak_v, torch.ones_like(tau)
    now, rate = jvp(average(step.net.to), (flowing, tau, rho), (v, one, 0 * one))
    fields = dataclasses.replace(step.fields, teacher=guided(step.teacher, weak, scale))
    step.agrees(published(now, now - v + 0.99 * col(tau - rho) * rate), ayf, fields)


def test_the_lagrangian_step_is_its_loss_in_the_flow_s_coordinates():
    step = Step(1)
    tau, rho = times(step)
    flowing, _ = step.flowing(tau)
    u = average(step.net.to)
    f = lambda rho: flowing - col(tau - rho) * u(flowing, tau, rho)  # noqa: E731
    end, rate = jvp(f, (rho,), (torch.ones_like(rho),))
    g = rate - velocity_of_flow(step.teacher)(end, rho)
    step.agrees(published(u(flowing, tau, rho), g), ayf_lagrangian)


@pytest.mark.parametrize(("objective", "told"), [(ayf, {"warmup_most": 1.0}), (ayf_lagrangian, {})])
def test_both_rest_at_the_exact_map(objective, told):
    assert pull_at_rest(objective, {"law": "gap"}, direction_control="none", **told) < 1e-12
    assert pull_at_rest(objective, {"law": "gap"}, lambda u: exact_velocity, **told) > 1e-3


def test_a_warm_up_that_ends_below_1_does_not():
    """lineage.md, check 15, of the method: what is left at 0.99 is small, and not zero."""
    left = pull_at_rest(ayf, {"law": "gap"}, exact_to, direction_control="none")
    wrong = pull_at_rest(ayf, {"law": "gap"}, lambda u: exact_velocity, direction_control="none")
    assert 1e-5 < left < 0.05 * wrong


@pytest.mark.parametrize("objective", [ayf, ayf_lagrangian])
def test_to_where_the_map_does_not_move_both_are_flow_matching_of_the_teacher(objective):
    step = Step(2)
    tau = flow_time(two_angles(step.draws, TOLD, law="same")[0])
    flowing, _ = step.flowing(tau)
    now = average(step.net.to)(flowing, tau, tau)
    step.agrees(published(now, now - velocity_of_flow(step.teacher)(flowing, tau)), objective, law="same")
