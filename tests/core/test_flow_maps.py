"""Directions of maps of two times: zero at exact maps, equal to derivatives taken by autograd, and their controls.

The data of the exact maps are a Gaussian of standard deviation STD: x moves as its own length does.
"""

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from trigbench.core import oracle
from trigbench.core.fields import Fields, Jump
from trigbench.core.flow_maps import (
    DirectionControl,
    control_of,
    eulerian_direction,
    huber,
    lagrangian_direction,
    power,
    semigroup_direction,
    semigroup_target,
    weight_of_pair,
)
from trigbench.core.objectives.discrete import chord_velocity
from trigbench.core.objectives.regression import regress
from trigbench.core.tangents import Clip, Direction, clip, derivative_along, normalise, segment_direction
from trigbench.core.trigflow import Field, rotate

STD, BATCH = 0.6, 200
jvp = torch.func.jvp


def col(t: Tensor) -> Tensor:
    return t[:, None]


def spread(t: Tensor) -> Tensor:
    return (t.cos().square() * STD**2 + t.sin().square()).sqrt()


def velocity(x: Tensor, t: Tensor) -> Tensor:
    return oracle.gaussian_velocity(x, t, STD)


def exact_to(u: Tensor) -> Field:
    """F of the Gaussian's exact map to u, not at t = u."""

    def field(x: Tensor, t: Tensor) -> Tensor:
        return col((torch.cos(t - u) - spread(u) / spread(t)) / torch.sin(t - u)) * x

    return field


def some_to(u: Tensor) -> Field:
    """A smooth network that is no exact map; F(x, t; u) mixes coordinates."""
    w = torch.linspace(-1.2, 0.9, 6, dtype=torch.float64)
    mix = torch.tensor([[0.7, -0.4], [0.5, 0.9]], dtype=torch.float64)

    def field(x: Tensor, t: Tensor) -> Tensor:
        return torch.tanh(x @ mix + col(w[1] * t + w[2] * u)) * w[3] + torch.sin(col(w[4] * t - u)) * x * w[5]

    return field


def points(seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x, and t > m > u."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(BATCH, 2, generator=g, dtype=torch.float64)
    shares = torch.rand(3, BATCH, generator=g, dtype=torch.float64)
    t = 0.2 + 1.3 * shares[0]
    u = 0.95 * shares[1] * t
    return x, t, u + (t - u) * shares[2], u


def whole(jump: Jump, x: Tensor, t: Tensor, u: Tensor) -> Tensor:
    return rotate(x, jump(u)(x, t), t, u)


def close(a: Tensor, b: Tensor, within: float) -> None:
    torch.testing.assert_close(a, b, rtol=0, atol=within)


# --- the three directions ----------------------------------------------------------------------------


def test_the_eulerian_direction_is_the_derivative_of_the_map_along_the_flow():
    """lineage.md, check 2: the closed form, zero at the exact map, at any factor."""
    x, t, factor, u = points()
    v = velocity(x, t)
    ours = eulerian_direction(some_to(u), x, t, u, v, factor)
    by_hand = jvp(lambda x, t: whole(some_to, x, t, u), (x, t), (v, torch.ones_like(t)))[1]
    close(ours.g, col(factor) * by_hand, 1e-14)
    assert torch.equal(ours.F, some_to(u)(x, t)) and by_hand.abs().max() > 0.1
    assert eulerian_direction(exact_to(u), x, t, u, v, factor).g.abs().max() < 1e-14
    scm = segment_direction(some_to(u), x, t, u, v)
    close(eulerian_direction(some_to(u), x, t, u, v, torch.cos(t - u)).g, scm.g, 1e-15)


def test_another_velocity_may_stand_in_the_derivative_alone():
    x, t, _, u = points(1)
    v, other = velocity(x, t), x.flip(0)
    one = torch.ones_like(t)
    ours = eulerian_direction(some_to(u), x, t, u, v, one, along=other).g
    dF = jvp(some_to(u), (x, t), (other, one))[1]
    close(ours, -col(torch.cos(t - u)) * (some_to(u)(x, t) - v) - col(torch.sin(t - u)) * (x + dF), 1e-14)
    assert (ours - eulerian_direction(some_to(u), x, t, u, v, one).g).abs().max() > 1e-2


@pytest.mark.parametrize("method", ["auto", "pairs", "func", "difference"])
def test_the_lagrangian_direction_is_the_velocity_less_the_derivative_in_the_end(method):
    """lineage.md, check 4."""
    x, t, _, u = points(2)

    def derivative(*arguments):
        return derivative_along(*arguments, method=method)

    ours = lagrangian_direction(some_to, x, t, u, velocity, derivative)
    ends, by_hand = jvp(lambda u: whole(some_to, x, t, u), (u,), (torch.ones_like(u),))[:2]
    close(ours.g, velocity(ends, u) - by_hand, 1e-7 if method == "difference" else 1e-14)
    assert torch.equal(ours.F, some_to(u)(x, t)) and ours.g.abs().max() > 0.1
    exact = lagrangian_direction(exact_to, x, t, u, velocity, derivative).g
    assert exact.abs().max() < (1e-7 if method == "difference" else 1e-14)


def test_where_a_map_does_not_move_both_derivatives_are_velocity_matching():
    x, t, _, _ = points(3)
    v = velocity(x, t)
    for direction in (
        eulerian_direction(some_to(t), x, t, t, v, torch.ones_like(t)),
        lagrangian_direction(some_to, x, t, t, velocity),
        semigroup_direction(some_to, x, t, t, t, v),
    ):
        close(direction.g, v - some_to(t)(x, t), 1e-15)


def test_the_semigroup_s_target_maps_to_where_two_maps_end():
    """lineage.md, check 5: the midpoint's closed form; and zero at the exact map, by any middle."""
    x, t, m, u = points(4)
    middle = whole(some_to, x, t, m)
    ours = semigroup_direction(some_to, x, t, m, u)
    close(rotate(x, ours.F + ours.g, t, u), whole(some_to, middle, m, u), 1e-13)
    assert semigroup_direction(exact_to, x, t, m, u).g.abs().max() < 1e-12
    half = (t - u) / 2
    first, second = some_to(t - half)(x, t), x.flip(0)
    mean = first / 2 + second / (2 * col(half.cos())) - col(half.tan()) * x / 2
    close(semigroup_target(x, first, second, t, t - half, u), mean, 1e-14)


def test_short_maps_lose_no_digits_where_a_difference_of_points_does():
    """At a gap of 1e-6 in float32: the mean of two fields, and not rounding over the gap."""
    x, t, _, _ = (part.float() for part in points(5))
    gap = 1e-5
    first, second = some_to(t.double())(x.double(), t.double()).float(), x.flip(0)
    t, m, u = (t.double() - shift for shift in (0, gap / 2, gap))
    ours = semigroup_target(x, first, second, t, m, u)
    close(ours, (first + second) / 2, 1e-4)
    end = rotate(rotate(x, first, t, m), second, m, u)
    assert (chord_velocity(x, end, t, u) - ours).abs().max() > 1e-3


def test_the_second_map_may_be_an_average_s_and_counts_nothing_where_it_does_not_move():
    x, t, m, u = points(6)
    v = velocity(x, t)
    nan = lambda u: lambda x, t: x * math.nan  # noqa: E731 - as a network has no value at 0
    direction = semigroup_direction(some_to, x, t, u, u, v, target_to=nan)
    close(direction.g, v - some_to(u)(x, t), 1e-15)
    averaged = semigroup_direction(some_to, x, t, m, u, v, target_to=exact_to)
    x_m = rotate(x, v, t, m)
    close(rotate(x, averaged.F + averaged.g, t, u), whole(exact_to, x_m, m, u), 1e-13)


def test_no_direction_carries_a_gradient_and_each_keeps_its_field_s():
    x, t, m, u = points(7)
    scale = torch.ones((), dtype=torch.float64, requires_grad=True)

    def student_to(u: Tensor) -> Field:
        return lambda x, t: scale * some_to(u)(x, t)

    for direction in (
        eulerian_direction(student_to(u), x, t, u, velocity(x, t), torch.ones_like(t)),
        lagrangian_direction(student_to, x, t, u, lambda x, t: student_to(t)(x, t)),
        semigroup_direction(student_to, x, t, m, u),
    ):
        assert direction.F.requires_grad and not direction.g.requires_grad


# --- controls ----------------------------------------------------------------------------------------


def gradient_of(loss, g: Tensor) -> Tensor:
    """Of loss(F - F_target) in F, at F - F_target = -g, as the mean over samples."""
    gap = (-g).requires_grad_()
    return torch.autograd.grad(loss(gap).mean(), gap)[0]


def regressed(g: Tensor, control) -> Tensor:
    F = torch.zeros_like(g, requires_grad=True)
    return torch.autograd.grad(regress(Direction(F, g), torch.ones(len(g)), control=control).loss, F)[0]


def some_g() -> Tensor:
    lengths = torch.logspace(-3, 2, BATCH, dtype=torch.float64)
    return col(lengths) * torch.randn(BATCH, 5, generator=torch.Generator().manual_seed(8), dtype=torch.float64)


@pytest.mark.parametrize("p", [0.0, 0.5, 1.0, 1.3])
def test_the_power_control_is_meanflow_s_loss(p):
    def loss(gap: Tensor) -> Tensor:
        square = gap.square().sum(1)
        return square / (square.detach() + 1e-3) ** p

    control = control_of(DirectionControl(direction_power=p), control="power")
    torch.testing.assert_close(regressed(some_g(), control), gradient_of(loss, some_g()), rtol=1e-12, atol=0)


@pytest.mark.parametrize("each", [False, True])
def test_the_huber_control_is_the_pseudo_huber_loss(each):
    def loss(gap: Tensor) -> Tensor:
        if each:
            return ((gap.square() + 0.3**2).sqrt() - 0.3).mean(1)
        return (gap.square().sum(1) + 0.3**2).sqrt() - 0.3

    ours = regressed(some_g(), lambda g: huber(g, 0.3, each))
    torch.testing.assert_close(ours, gradient_of(loss, some_g()), rtol=1e-12, atol=0)


def test_at_half_the_power_is_normalisation_and_at_one_it_falls_as_one_over_the_length():
    """lineage.md, check 9: rCM's footnote 4 takes p = 1 for the tangent normalisation that p = 1/2 is."""
    g = some_g()[g_long()]
    length = g.norm(dim=1)
    half, one = (power(g, p, 1e-3).norm(dim=1) / g.shape[1] for p in (0.5, 1.0))
    torch.testing.assert_close(half, torch.ones_like(half), rtol=1e-3, atol=0)
    torch.testing.assert_close(one, 1 / length, rtol=1e-2, atol=0)
    torch.testing.assert_close(normalise(g, 1e-9).norm(dim=1), half, rtol=1e-3, atol=0)


def g_long() -> Tensor:
    return some_g().norm(dim=1) > 1


def test_a_control_s_name_is_the_arm_s_or_the_method_s_in_the_papers_units():
    g = some_g()
    assert control_of(DirectionControl()) is None
    assert control_of(DirectionControl(direction_control="none"), control="power") is None
    for told, expected in (
        (DirectionControl(sigma_d=0.25, direction_control="normalise"), normalise(g, 0.4)),
        (DirectionControl(direction_control="normalise", direction_constant=0.3), normalise(g, 0.6)),
        (DirectionControl(direction_control="clip"), clip(g, 0.5)),
        (DirectionControl(direction_control="power", direction_constant=0.1, direction_power=0.7), power(g, 0.7, 0.1)),
        (DirectionControl(direction_control="huber"), huber(g, 1e-3)),
    ):
        control = control_of(told)
        assert control is not None and torch.equal(control(g), expected)
    assert isinstance(control_of(DirectionControl(), control="clip"), Clip)  # whose share a run logs


def test_an_unknown_control_is_refused(unchecked):
    with unchecked(), pytest.raises(ValueError, match="unknown control 'norm'; choose none, clip"):
        control_of(DirectionControl(direction_control="norm"))  # type: ignore[arg-type]


# --- the weight of two times -------------------------------------------------------------------------


def test_the_weight_of_two_times_learns_the_error_at_each_gap(time_net):
    """Its optimum is e^-w = the mean square, here of g that grows with the gap; w(t) alone cannot reach it."""
    x, t, _, u = points(9)
    fields = Fields(lambda x, t: x, log_weight=time_net(), score_log_weight=time_net())
    weight = weight_of_pair(fields, u)
    assert weight is not None
    of_start, of_gap = fields.log_weight, fields.score_log_weight
    assert of_start is not None and of_gap is not None
    close(weight(t), of_start(t) + of_gap(t - u), 0)
    assert weight_of_pair(Fields(lambda x, t: x), u) is None
    assert weight_of_pair(Fields(lambda x, t: x, log_weight=of_start), u) is of_start

    g = torch.exp(-(1 + torch.cos(2 * col(t - u)))) * torch.ones_like(x)
    loss = regress(Direction(torch.zeros_like(x), g), t, weight).loss
    gradients = torch.autograd.grad(loss, [*of_start.parameters(), *of_gap.parameters()])  # type: ignore[union-attr]
    assert len(gradients) == 2 and all(gradient.abs().max() > 1e-3 for gradient in gradients)
    with torch.no_grad():  # w = 2 (1 + cos(2 gap)) = -ln g^2 is where nothing moves it
        of_start.abc.copy_(torch.zeros(3)), of_gap.abc.copy_(torch.tensor([2.0, 2.0, 2.0]))  # type: ignore[union-attr]
    loss = regress(Direction(torch.zeros_like(x), g), t, weight).loss
    rest = torch.autograd.grad(loss, [*of_start.parameters(), *of_gap.parameters()])  # type: ignore[union-attr]
    assert max(float(gradient.abs().max()) for gradient in rest) < 1e-12


def test_the_order_of_a_middle_s_first_step_shows_in_the_direction():
    """A step of DDIM to the middle, then the exact map: what is left shrinks with the square of the step."""
    x, t, _, u = points(10)
    left = []
    for h in (0.02, 0.01, 0.005):
        m = t - h * (t - u)
        left.append(float(semigroup_direction(exact_to, x, t, m, u, velocity(x, t)).g.norm()))
    assert [math.log2(a / b) for a, b in pairwise(left)] == pytest.approx([2, 2], abs=0.05)
