"""MeanFlow and its successors against their losses in the flow's coordinates, and where they rest."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.core.flow_coordinates import BATCH, SIZE, TOLD, Step, average, col, exact_to, flow_time, jvp, pull_at_rest
from tests.core.test_flow_maps import STD as SPREAD
from tests.core.test_flow_maps import points, some_to, spread
from tests.core.test_flow_maps import velocity as exact_velocity
from trigbench.core.fields import Fields, OwnGuidance
from trigbench.core.flow_maps import eulerian_direction, flow_factor, of_average_velocity
from trigbench.core.objectives.meanflow import GuidedInterval, guided_velocity, imf, meanflow
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


@dataclass
class Labelled(Step):
    """A step of a network that is told labels, some of which are withheld, and a scale."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.labelled = torch.arange(len(self.x0)) % 4 > 0
        self.scale = 1 + 3 * self.middle
        self.label = torch.linspace(-1, 1, len(self.x0), dtype=torch.float64)

    def told(self, label: Tensor, scale: Tensor | None) -> Callable[[Tensor], Callable[[Tensor, Tensor], Tensor]]:
        """The network's map to each u: label and scale move its bias, and no label is 0."""
        shift = label if scale is None else label + 0.4 * (scale - 1)
        return lambda u: lambda x, t: self.net(x + col(shift), t, u)

    def jumps(self, scaled: bool) -> tuple[Callable, Callable]:
        """With the labels that are told, and without any."""
        scale, given = (self.scale if scaled else None), torch.where(self.labelled, self.label, 0.0)
        return self.told(given, scale), self.told(torch.zeros_like(given), None)

    def guided_fields(self, scaled: bool = False) -> Fields:
        given, none = self.jumps(scaled)
        own = OwnGuidance(none, self.labelled, self.scale if scaled else None)
        return Fields(given(0 * self.uniform), student_to=given, own_guidance=own)


@pytest.mark.parametrize(("omega", "kappa"), [(2.0, 0.0), (1.0, 0.5), (0.2, 0.9)])
def test_guided_meanflow_is_its_loss_in_the_flow_s_coordinates(omega, kappa):
    """With v_g = omega v + (1 - omega - kappa) u(t, t; none) + kappa u(t, t) as target and tangent, inside an interval
    and where the label is told; v elsewhere."""
    step, low, high = Labelled(), 0.2, 0.8
    tau, rho = times(step, 0.5)
    flowing, v = step.flowing(tau)
    u, none = map(average, step.jumps(scaled=False))
    guided = step.labelled & (tau >= low) & (tau <= high)
    assert 2 < int(guided.sum()) < int(step.labelled.sum()) < len(tau)
    mixed = omega * v + (1 - omega - kappa) * none(flowing, tau, tau) + kappa * u(flowing, tau, tau)
    v = torch.where(col(guided), mixed.detach(), v)
    one = torch.ones_like(tau)
    now, rate = jvp(u, (flowing, tau, rho), (v, one, 0 * one))
    told = {"omega": omega, "kappa": kappa, "guided_from": low, "guided_to": high, "share_same": 0.5}
    published = power_loss(now - (v - col(tau - rho) * rate).detach(), 1.0, 1e-3)
    step.agrees(published, meanflow, step.guided_fields(), **told)
    guided, alone = (step.ours(meanflow, step.guided_fields(), **said)[0] for said in (told, {"share_same": 0.5}))
    assert not torch.equal(guided, alone)


def test_imf_is_guided_at_the_scale_that_it_is_told():
    """V = u + (tau - rho) sg(du/dtau) against v + (1 - 1 / s) (w - w_none), w at the scale told and w_none at 1."""
    step = Labelled(3)
    tau, rho = times(step, 0.5)
    flowing, v = step.flowing(tau)
    u, none = map(average, step.jumps(scaled=True))
    one, own = torch.ones_like(tau), u(flowing, tau, tau).detach()
    guided = v + col(1 - 1 / step.scale) * (own - none(flowing, tau, tau).detach())
    v = torch.where(col(step.labelled), guided, v)
    now, rate = jvp(u, (flowing, tau, rho), (own, one, 0 * one))
    published = power_loss(now + col(tau - rho) * rate.detach() - v, 1.0, 0.01)
    step.agrees(published, imf, step.guided_fields(scaled=True))
    theirs = step.ours(imf, step.guided_fields(scaled=True))[0]
    assert not torch.equal(theirs, step.ours(imf, dataclasses.replace(step.guided_fields(True), own_guidance=None))[0])


def test_what_is_learned_is_guided_without_a_classifier_at_omega_over_1_less_kappa():
    """The field that the mixture is of itself, of both papers' coefficients."""
    step, t = Labelled(), torch.linspace(0.2, 1.4, BATCH, dtype=torch.float64)
    v, none = (step.net(step.x0 + shift, t, t) for shift in (0.5, 0.0))
    own = OwnGuidance(step.told(0 * t, None), torch.ones(BATCH, dtype=torch.bool))
    for omega, kappa in ((0.25, 0.9), (1.0, 1 - 1 / 2.5)):
        learned = none + 2.5 * (v - none)
        found = guided_velocity(own, step.x0, v, t, learned, omega, t.new_full((BATCH,), kappa), GuidedInterval())
        torch.testing.assert_close(found, learned.detach(), rtol=1e-12, atol=1e-13)


def test_guidance_needs_what_the_student_is_without_a_label():
    with pytest.raises(ValueError, match="own_guidance"):
        Step().ours(meanflow, omega=2.0)


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


def shifted(mean: Tensor) -> Callable[[Tensor], Callable[[Tensor, Tensor], Tensor]]:
    """F of the exact map of N(mean, SPREAD^2), at u = t the velocity: that of no mean about cos(t) mean."""
    return lambda u: lambda x, t: exact_to(u)(x - col(t.cos()) * mean, t) - col(t.sin()) * mean


def pull_of_classes(objective: Callable, learned: Callable[[Tensor], Tensor], scale: Tensor, **told: Any) -> float:
    """The largest mean direction, u < t, of the exact map of classes of equal covariance and shifted mean.

    What is without a label has a mean of its own. Velocities are affine, so that those guided at s are of the mean
    none + s (class - none); the map is of `learned(scale)` in the place of s. Each x_t has two pairs (x0, z), whose
    velocities have the exact one of its class as their mean.
    """
    step, rows = Step(7), BATCH // 2
    for name in ("uniform", "lower", "middle"):
        setattr(step, name, getattr(step, name)[:rows].repeat(2))
    t, u = two_angles(step.draws, TOLD, law="lognormal", same=0.0)
    assert bool((u < t).all())
    none, odd = torch.tensor([0.3, -0.2, 0.5]).double(), col(torch.arange(rows) % 2).double()
    labelled = torch.arange(rows) % 4 > 0
    classes = torch.where(col(labelled), odd - 0.7 * (1 - odd) + torch.tensor([0.0, 0.4, -0.6]).double(), none)
    mean = none + col(learned(scale)) * (classes - none)
    classes, mean, scale, labelled = classes.repeat(2, 1), mean.repeat(2, 1), scale.repeat(2), labelled.repeat(2)
    c, s, evidence = col(t.cos()), col(t.sin()), col(spread(t)).square()
    x = step.z[:rows].repeat(2, 1)
    aside = torch.cat([step.x0[:rows], -step.x0[:rows]])
    step.x0 = classes + c * SPREAD**2 / evidence * (x - c * classes) + SPREAD * s / evidence.sqrt() * aside
    step.z = (x - c * step.x0) / s
    moved = torch.zeros(rows, SIZE, dtype=torch.float64, requires_grad=True)
    student_to = lambda u: lambda x, t: shifted(mean)(u)(x, t) + moved.repeat(2, 1)  # noqa: E731
    own = OwnGuidance(shifted(none), labelled, scale if objective is imf else None)
    fields = Fields(student_to(0 * t), student_to=student_to, own_guidance=own)
    loss = step.ours(objective, fields, share_same=0.0, direction_control="none", **told)[0]
    return float(torch.autograd.grad(loss, moved)[0].abs().max())


GUIDED: list[tuple[Callable, dict[str, float], Tensor]] = [
    (meanflow, {"omega": 2.0}, torch.full((BATCH // 2,), 2.0).double()),
    (meanflow, {"omega": 0.25, "kappa": 0.9}, torch.full((BATCH // 2,), 2.5).double()),
    (imf, {}, torch.linspace(1.5, 4, BATCH // 2).double()),
]


@pytest.mark.parametrize(("objective", "told", "scale"), GUIDED)
def test_guided_they_rest_at_the_exact_guided_map_and_at_no_other_scale(objective, told, scale):
    assert pull_of_classes(objective, lambda s: s, scale, **told) < 1e-12
    for wrong in (lambda s: 1.05 * s, lambda s: 0.95 * s, torch.ones_like):
        assert pull_of_classes(objective, wrong, scale, **told) > 1e-3
