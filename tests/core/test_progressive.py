"""Progressive distillation against its Algorithm 2, and what halving leaves of a solver (lineage.md 1.1).

The paper's side is written by hand in its own terms: z_t = alpha x + sigma e, x^ of a network in v, DDIM in x^.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import reduce

import pytest
import torch
from torch import Tensor, nn

from tests.core.gradients import assert_same_gradients
from trigbench.core import oracle
from trigbench.core.fields import Draws, Fields
from trigbench.core.guidance import guided
from trigbench.core.objectives.progressive import PDSettings, SnrWeight, error_weight, pd, step_of, steps_in_one
from trigbench.core.objectives.regression import Regression
from trigbench.core.samplers.even import solve_ddim_even
from trigbench.core.schedules import largest_angle, uniform_angles
from trigbench.core.trigflow import Field

BATCH, SIZE, SIGMA_D, STD = 24, 3, 0.5, 0.6
T_MAX = largest_angle(SIGMA_D)


def col(t: Tensor) -> Tensor:
    return t[:, None]


def settings(steps: int, snr_weight: SnrWeight = "truncated") -> PDSettings:
    return PDSettings(uniform_angles(steps, T_MAX)[:-1], SIGMA_D, snr_weight)


def drawn(seed: int = 0) -> tuple[Tensor, Draws]:
    g = torch.Generator().manual_seed(seed)
    x0, noise = torch.randn(2, BATCH, SIZE, generator=g, dtype=torch.float64)
    return STD * x0, Draws(torch.rand(BATCH, generator=g, dtype=torch.float64), noise)


def trained(student: Field, teacher: Field, steps: int) -> Regression:
    x0, draws = drawn()
    return pd(Fields(student, teacher), x0, draws, settings(steps))


def velocity(x: Tensor, t: Tensor) -> Tensor:
    return oracle.gaussian_velocity(x, t, STD)


def segment_map(steps: int) -> Field:
    """F of a Gaussian's exact map to the lower end of its step, of so many."""
    edges = uniform_angles(steps, T_MAX)

    def spread(t: Tensor) -> Tensor:
        return (t.cos().square() * STD**2 + t.sin().square()).sqrt()

    def field(x: Tensor, t: Tensor) -> Tensor:
        u = edges[(t / T_MAX * steps - 0.5).long()]
        return col((torch.cos(t - u) - spread(u) / spread(t)) / torch.sin(t - u)) * x

    return field


@pytest.mark.parametrize("snr_weight", ["truncated", "plus_one"])
@pytest.mark.parametrize("steps", [1, 4])
def test_the_gradient_is_that_of_the_published_loss(tanh_net: Callable, steps: int, snr_weight: SnrWeight) -> None:
    student, teacher = tanh_net(SIZE, 0), tanh_net(SIZE, 1)
    x0, draws = drawn()
    index = (draws.uniform * steps).floor() + 1  # t = i / N
    angles = [T_MAX * place / steps for place in (index, index - 0.5, index - 1)]
    (a, s), (a1, s1), (a2, s2) = [(col(t.cos()), col(t.sin())) for t in angles]
    z = a * x0 + s * draws.noise

    def data(net: nn.Module, z: Tensor, a: Tensor, s: Tensor, t: Tensor) -> Tensor:
        return a * z - s * net(z, t)

    x_hat = data(teacher, z, a, s, angles[0])
    z1 = a1 * x_hat + s1 / s * (z - a * x_hat)
    x_hat = data(teacher, z1, a1, s1, angles[1])
    z2 = a2 * x_hat + s2 / s1 * (z1 - a1 * x_hat)
    target = (z2 - s2 / s * z) / (a2 - s2 / s * a)
    snr = (a / s).square()
    weight = snr.clamp(min=1) if snr_weight == "truncated" else snr + 1
    loss = (weight * (target.detach() - data(student, z, a, s, angles[0])).square()).mean()

    ours = pd(Fields(student, teacher), x0, draws, settings(steps, snr_weight)).loss
    assert_same_gradients(ours, loss, student)


@pytest.mark.parametrize("steps", [1, 2])
def test_a_guided_stage_is_that_of_the_published_loss(tanh_net: Callable, steps: int) -> None:
    """x^ of the guided teacher is (1 + w) x^_c - w x^_none (arXiv 2210.03142), which the first stage is a regression
    onto, and of which the next takes two DDIM steps."""
    student, cond, none = (tanh_net(SIZE, seed) for seed in range(3))
    x0, draws = drawn(3)
    w = torch.linspace(0, 4, BATCH, dtype=torch.float64)
    index = (draws.uniform * 4).floor() + 1
    angles = [T_MAX * place / 4 for place in (index, index - 0.5, index - 1)]
    (a, s), (a1, s1), (a2, s2) = [(col(t.cos()), col(t.sin())) for t in angles]
    z = a * x0 + s * draws.noise

    def data(z: Tensor, a: Tensor, s: Tensor, t: Tensor) -> Tensor:
        of_cond, of_none = (a * z - s * net(z, t) for net in (cond, none))
        return (col(1 + w) * of_cond - col(w) * of_none).detach()

    target = data(z, a, s, angles[0])
    if steps == 2:
        z1 = a1 * target + s1 / s * (z - a * target)
        x_hat = data(z1, a1, s1, angles[1])
        z2 = a2 * x_hat + s2 / s1 * (z1 - a1 * x_hat)
        target = (z2 - s2 / s * z) / (a2 - s2 / s * a)
    loss = ((a / s).square().clamp(min=1) * (target - (a * z - s * student(z, angles[0]))).square()).mean()
    told = replace(settings(4), teacher_steps=steps)
    ours = pd(Fields(student, guided(cond, none, 1 + w)), x0, draws, told)
    assert_same_gradients(ours.loss, loss, student)
    alone = pd(Fields(student, cond), x0, draws, told)
    assert torch.equal(ours.direction_norm == alone.direction_norm, w == 0)


def test_the_first_stage_of_gaussian_classes_is_the_velocity_of_a_moved_mean() -> None:
    """Of one covariance, velocities are affine in the mean: guided at s, they are those of none + s (mean - none)."""
    mean, none, s = (torch.tensor(values, dtype=torch.float64) for values in ([1.0, 0.5, -1.0], [0.2, 0.0, 0.1], 2.5))

    def of(mean: Tensor) -> Field:
        def field(x: Tensor, t: Tensor) -> Tensor:
            return velocity(x - col(t.cos()) * mean, t) - col(t.sin()) * mean

        return field

    x0, draws = drawn(5)
    teacher = guided(of(mean), of(none), s.expand(BATCH))
    t, u = step_of(draws.uniform, settings(4).segments, SIGMA_D)
    first = steps_in_one(teacher, x0, t, u, steps=1)
    torch.testing.assert_close(first, of(none + s * (mean - none))(x0, t), rtol=0, atol=1e-12)


def test_another_number_of_the_teacher_s_steps_is_refused() -> None:
    x, t = drawn()[0], torch.full((BATCH,), 0.7, dtype=torch.float64)
    with pytest.raises(ValueError, match="1 of its teacher's or 2, got 3"):
        steps_in_one(velocity, x, t, t / 2, steps=3)


def test_where_the_teacher_s_steps_are_exact_so_is_the_student() -> None:
    """Of its grid's exact maps, two in a row are the exact map of the coarser grid's step."""
    assert trained(segment_map(4), segment_map(8), 4).direction_norm.max() < 1e-12
    assert trained(segment_map(4), segment_map(16), 4).direction_norm.max() > 1e-2, "of another grid they are not"


def test_halving_to_the_end_leaves_the_teacher_s_solver_in_one_step() -> None:
    """Each stage's optimum taught the next: one step is then 16 of DDIM, on a Gaussian a product of their scalars."""
    x, field, steps = drawn()[1].noise, velocity, 16
    edges = uniform_angles(steps, T_MAX)
    while steps > 1:
        steps //= 2
        field = _optimum(field, steps)
    one = solve_ddim_even(field, x, torch.tensor([T_MAX, 0.0], dtype=torch.float64))

    def scalar(t: float, h: float) -> float:
        spread = math.cos(t) ** 2 * STD**2 + math.sin(t) ** 2
        return math.cos(h) - math.sin(h) * (1 - STD**2) * math.cos(t) * math.sin(t) / spread

    product = reduce(lambda whole, t: whole * scalar(t, T_MAX / 16), edges[1:].tolist(), 1.0)
    torch.testing.assert_close(one, product * x, rtol=0, atol=1e-12)
    torch.testing.assert_close(solve_ddim_even(velocity, x, edges.flip(0)), product * x, rtol=0, atol=1e-12)
    assert abs(product - STD) > 1e-3, "which is not the exact map"


def _optimum(teacher: Field, steps: int) -> Field:
    """What a student of so many steps that sees everything becomes; no direction moves it."""
    segments = settings(steps).segments

    def field(x: Tensor, t: Tensor) -> Tensor:
        _, u = step_of(t / T_MAX - 0.5 / steps, segments, SIGMA_D)  # of the step that starts at t
        return steps_in_one(teacher, x, t, u)

    assert trained(field, teacher, steps).direction_norm.max() < 1e-13
    return field


def test_the_teacher_is_asked_at_its_own_steps_alone_and_never_recorded() -> None:
    asked = []

    def teacher(x: Tensor, t: Tensor) -> Tensor:
        asked.append(t)
        assert not torch.is_grad_enabled()
        return velocity(x, t)

    trained(lambda x, t: x.requires_grad_(), teacher, 4)
    places = torch.cat(asked) / T_MAX * 8
    assert len(asked) == 2 and places.min() > 0.5, "at 0 a network may have no value"
    torch.testing.assert_close(places, places.round(), rtol=0, atol=1e-12)


def test_every_step_of_the_student_is_drawn_as_often_as_another() -> None:
    uniform = (torch.arange(400, dtype=torch.float64) + 0.5) / 400
    t, u = step_of(torch.cat([uniform, torch.ones(1, dtype=torch.float64)]), settings(4).segments, SIGMA_D)
    torch.testing.assert_close(t - u, torch.full_like(t, T_MAX / 4))
    assert t[:400].unique(return_counts=True)[1].tolist() == [100] * 4 and t[-1] == T_MAX


def test_another_weight_is_refused(unchecked: Callable) -> None:
    with unchecked(), pytest.raises(ValueError, match="unknown weight 'snr'; choose truncated or plus_one"):
        error_weight(torch.ones(2), torch.ones(2, 3), "snr")  # type: ignore[arg-type]
