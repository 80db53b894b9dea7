"""Jumps between any angles of a map of two times (lineage.md 1.2): exact on the oracle, of the right variance."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from trigbench.core import oracle
from trigbench.core.fields import Jump
from trigbench.core.samplers.consistency import sample_consistency, sample_segments
from trigbench.core.samplers.jumps import sample_jumps
from trigbench.core.schedules import uniform_angles
from trigbench.core.trigflow import Field, rotate

STD = 0.6
TIMES = (math.pi / 2, 1.3, 0.8, 0.05)


def jump_of(exact) -> Jump:
    """F of the map that `exact(x, t, u)` is."""

    def to(u: Tensor) -> Field:
        def field(x: Tensor, t: Tensor) -> Tensor:
            gap = (t - u)[:, None]
            return (torch.cos(gap) * x - exact(x, t, u)) / torch.sin(gap)

        return field

    return to


def spread(t: Tensor) -> Tensor:
    return (torch.cos(t).square() * STD**2 + torch.sin(t).square()).sqrt()[:, None]


GAUSSIAN = jump_of(lambda x, t, u: x * spread(u) / spread(t))


def normals(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.slow
def test_without_noise_every_way_of_exact_jumps_ends_where_the_exact_map_does(mixture, unchecked):
    jump = jump_of(lambda x, t, u: oracle.segment_map(mixture, x, t, u, 128))
    noise, start = normals(1, 5, 2), torch.full((5,), 1.5, dtype=torch.float64)
    with unchecked():
        exact = oracle.consistency_map(mixture, math.sin(1.5) * noise[0], start)
        for times in ((1.5,), (1.5, 1.1), (1.5, 1.4, 0.9, 0.2)):
            torch.testing.assert_close(sample_jumps(jump, noise, times), exact, rtol=0, atol=1e-8)


@pytest.mark.parametrize("gamma", [0.0, 0.3, 0.8, 1.0])
def test_samples_of_exact_jumps_have_the_variance_of_the_data(gamma):
    """A Gaussian's maps are linear, so that the variance is the sum of squares of the answers to each slice alone."""
    slices = torch.eye(len(TIMES), dtype=torch.float64)[:, :, None]  # sample i has noise in slice i alone
    answers = sample_jumps(GAUSSIAN, slices, TIMES, gamma)[:, 0]
    assert answers.square().sum().sqrt() == pytest.approx(STD, rel=1e-12)
    assert int((answers.abs() > 1e-12).sum()) == (len(TIMES) if gamma else 1)


def test_all_noise_is_multistep_consistency_sampling_and_none_is_by_segments():
    noise, asked = normals(4, 6, 3), []
    wrong = lambda u: lambda x, t: asked.append((float(t[0]), float(u[0]))) or torch.tanh(x + u[:, None])  # noqa: E731
    few = sample_consistency(wrong(torch.zeros(6, dtype=torch.float64)), noise, TIMES)
    torch.testing.assert_close(sample_jumps(wrong, noise, TIMES, 1.0), few, rtol=1e-12, atol=1e-12)
    asked.clear()
    edges = uniform_angles(3, 1.5)
    through = sample_jumps(wrong, noise[:1], edges[1:].flip(0).tolist())
    assert asked == [(b, a) for a, b in reversed(list(itertools.pairwise(edges.tolist())))]
    assert torch.equal(through, sample_segments(wrong, noise[0], edges))


def test_half_way_goes_below_each_time_and_comes_back_up():
    noise = normals(2, 4, 3)
    s = math.atan(math.sqrt(1 - 0.6**2) * math.tan(1.1))
    asked: list[float] = []

    def field_to(u: Tensor) -> Field:
        asked.append(float(u[0]))
        return lambda x, t: 0.5 * x + u[:, None]

    t, low, mid, zero = (torch.full((4,), a, dtype=torch.float64) for a in (1.5, s, 1.1, 0.0))
    down = rotate(math.sin(1.5) * noise[0], 0.5 * math.sin(1.5) * noise[0] + s, t, low)
    up = math.cos(1.1) * (down / math.cos(s) + 0.6 * math.tan(1.1) * noise[1])
    expected = rotate(up, 0.5 * up, mid, zero)
    torch.testing.assert_close(sample_jumps(field_to, noise, (1.5, 1.1), 0.6), expected, rtol=1e-12, atol=1e-12)
    assert asked == pytest.approx([s, 0.0])


def test_the_callback_of_jumps_sees_both_ends_of_each_map_and_changes_nothing():
    seen: list[tuple[int, Tensor, Tensor, Tensor]] = []
    noise, times, gamma = normals(3, 4, 2), (1.5, 1.0, 0.5), 0.6
    samples = sample_jumps(GAUSSIAN, noise, times, gamma, callback=lambda *step: seen.append(step))
    assert torch.equal(samples, sample_jumps(GAUSSIAN, noise, times, gamma))
    assert [(number, float(t[0])) for number, t, _, _ in seen] == list(enumerate(times))
    torch.testing.assert_close(seen[0][2], math.sin(1.5) * noise[0])
    assert torch.equal(seen[-1][3], samples)
    for (_, _, _, lower), (_, _, x, _), time, fresh in zip(seen[:-1], seen[1:], times[1:], noise[1:], strict=True):
        kept = math.hypot(math.sqrt(1 - gamma**2) * math.sin(time), math.cos(time))
        torch.testing.assert_close(x, kept * lower + gamma * math.sin(time) * fresh)


@pytest.mark.parametrize(
    ("slices", "times", "gamma", "words"),
    [
        (2, (1.5, 1.1), 1.2, "gamma is from 0"), (2, (1.5, 1.1), -0.1, "gamma is from 0"),
        (1, (1.5, 1.1), 0.5, "one noise slice per time"), (2, (1.1, 1.5), 0.0, "descend"),
        (2, (1.5, 0.0), 0.0, "from above 0"),
    ],
)  # fmt: skip
def test_what_is_no_way_of_jumps_is_refused(slices, times, gamma, words):
    with pytest.raises(ValueError, match=words):
        sample_jumps(GAUSSIAN, normals(slices, 3, 2), times, gamma)
