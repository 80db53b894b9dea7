"""The process: boundary, rotation, angles, proposals (papers.md sec. 10, rows 8 and 10)."""

import math
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from trigbench.core import oracle
from trigbench.core.schedules import karras_angles, uniform_angles
from trigbench.core.trigflow import (
    angle_from_noise_level,
    consistency_map,
    cos_sin,
    draw_interval,
    even_grid,
    interpolate,
    lognormal_angle,
    lower_edge,
    noise_level_from_angle,
    proposal_grid,
    rotate,
    score,
    velocity,
)

DTYPES = st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64])
SHAPES = st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple)
SEEDS = st.integers(0, 2**31)
ANGLES = st.floats(0.0, math.pi / 2)

# papers.md 1.6: (P_mean, P_std) and t at -1 std, median, +1 std
PROPOSALS = [
    (-1.2, 1.2, 0.180, 0.542, 1.107),
    (-0.8, 1.6, 0.180, 0.732, 1.350),
    (-0.4, 1.0, 0.458, 0.930, 1.303),
    (-1.0, 1.4, 0.180, 0.634, 1.247),
    (-1.0, 1.6, 0.148, 0.634, 1.303),
    (-1.0, 1.8, 0.121, 0.634, 1.350),
    (0.4, 2.0, 0.384, 1.247, 1.526),
]


def normal(seed: int, shape: tuple[int, ...], count: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for _ in range(count)]


def angles(batch: int, *values: float) -> list[Tensor]:
    return [torch.full((batch,), v, dtype=torch.float64) for v in values]


@given(shape=SHAPES, dtype=DTYPES, seed=SEEDS, time_dtype=DTYPES, scale=st.sampled_from([1e-3, 1.0, 1e4]))
def test_boundary_condition_holds_exactly_for_any_field(shape, dtype, seed, time_dtype, scale):
    """Row 10: f(x, 0) = x to the last bit, whatever the network says."""
    x, F = normal(seed, shape, 2, dtype)
    mapped = consistency_map(lambda x, t: F * scale, x, torch.zeros(len(x), dtype=time_dtype))
    assert mapped.dtype == dtype
    assert torch.equal(mapped, x)


@given(shape=SHAPES, dtype=DTYPES, seed=SEEDS, t=ANGLES)
def test_rotating_to_the_same_angle_is_the_identity(shape, dtype, seed, t):
    x, F = normal(seed, shape, 2, dtype)
    (same,) = angles(len(x), t)
    assert torch.equal(rotate(x, F, same, same), x)


@given(shape=SHAPES, seed=SEEDS, t=ANGLES, u=ANGLES)
def test_rotation_follows_a_pair_of_data_and_noise_exactly(shape, seed, t, u):
    x0, z = normal(seed, shape, 2)
    t_, u_ = angles(len(x0), t, u)
    moved = rotate(interpolate(x0, z, t_), velocity(x0, z, t_), t_, u_)
    torch.testing.assert_close(moved, interpolate(x0, z, u_), rtol=0, atol=1e-14)


@given(shape=SHAPES, seed=SEEDS, t=ANGLES, u=ANGLES, w=ANGLES)
def test_rotating_point_and_velocity_together_composes(shape, seed, t, u, w):
    x, F = normal(seed, shape, 2)
    t_, u_, w_ = angles(len(x), t, u, w)
    x_u, F_u = rotate(x, F, t_, u_), rotate(F, -x, t_, u_)
    torch.testing.assert_close(rotate(x_u, F_u, u_, w_), rotate(x, F, t_, w_), rtol=0, atol=1e-14)


@given(shape=SHAPES, seed=SEEDS, t=ANGLES)
def test_point_and_velocity_are_a_rotation_of_data_and_noise(shape, seed, t):
    x0, z = normal(seed, shape, 2)
    (t_,) = angles(len(x0), t)
    energy = interpolate(x0, z, t_).square() + velocity(x0, z, t_).square()
    torch.testing.assert_close(energy, x0.square() + z.square(), rtol=1e-14, atol=1e-14)


@given(shape=SHAPES, seed=SEEDS, t=ANGLES)
def test_velocity_is_the_time_derivative_of_the_point(shape, seed, t):
    x0, z = normal(seed, shape, 2)
    (t_,) = angles(len(x0), t)
    derivative = torch.func.jvp(lambda t: interpolate(x0, z, t), (t_,), (torch.ones_like(t_),))[1]
    torch.testing.assert_close(velocity(x0, z, t_), derivative, rtol=0, atol=1e-14)


def test_samples_have_their_own_angle():
    x0, z = normal(0, (3, 2, 2), 2)
    t = torch.tensor([0.0, 0.5, math.pi / 2], dtype=torch.float64)
    x = interpolate(x0, z, t)
    assert torch.equal(x[0], x0[0])
    torch.testing.assert_close(x[1], math.cos(0.5) * x0[1] + math.sin(0.5) * z[1], rtol=1e-15, atol=1e-15)
    torch.testing.assert_close(x[2], z[2], rtol=0, atol=1e-15)


def test_trigonometry_is_done_in_the_dtype_of_the_angle_not_of_the_points():
    """Neighbouring float64 angles must not collapse on half-precision points."""
    t, u = angles(1, 1.0, 1.0 - 1e-5)
    x = torch.zeros(1, 1, dtype=torch.float16)
    F = torch.ones(1, 1, dtype=torch.float16)
    assert -rotate(x, F, t, u).item() == pytest.approx(1e-5, rel=5e-3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_cosine_near_pi_half_survives_points_of_half_precision(dtype):
    """cos(t_max) = 0.00625; of an angle rounded to half precision it would be off by a tenth and more."""
    (t_max,) = angles(1, math.atan(160))
    one = torch.ones(1, 1, dtype=dtype)
    assert cos_sin(t_max, one)[0].item() == pytest.approx(0.00625, rel=5e-3)
    assert consistency_map(lambda x, t: 0 * x, one, t_max).item() == pytest.approx(0.00625, rel=5e-3)


@given(seed=SEEDS, t=st.floats(1e-3, math.pi / 2), std=st.sampled_from([0.2, 0.5, 1.3]))
def test_score_identity_on_a_gaussian_in_the_papers_units(seed, t, std):
    """Row 8: -(cos t sigma_d F + sin t X) / (sigma_d^2 sin t) is the Gaussian's score, and sigma_d times ours."""
    sigma_d = 0.5
    (X,) = normal(seed, (5, 1), 1)
    (t_,) = angles(5, t)
    exact = -X / (math.cos(t) ** 2 * std**2 + math.sin(t) ** 2 * sigma_d**2)
    ours = score(lambda x, t: oracle.gaussian_velocity(x, t, std / sigma_d), X / sigma_d, t_) / sigma_d
    torch.testing.assert_close(ours, exact, rtol=1e-12, atol=1e-12)


@given(seed=SEEDS, t=st.floats(0.01, math.pi / 2))
def test_score_identity_on_a_mixture(mixture, seed, t):
    (x,) = normal(seed, (6, 2), 1)
    (t_,) = angles(6, t)
    ours = score(lambda x, t: oracle.velocity(mixture, x, t), x, t_)
    torch.testing.assert_close(ours, oracle.score(mixture, x, t_), rtol=1e-11, atol=1e-11)


@given(sigma=st.floats(1e-4, 1e3), sigma_d=st.sampled_from([0.3, 0.5, 1.0]))
def test_angle_and_noise_level_invert_each_other(sigma, sigma_d):
    t = angle_from_noise_level(sigma, sigma_d)
    assert 0 <= t < math.pi / 2
    assert noise_level_from_angle(t, sigma_d).item() == pytest.approx(sigma, rel=1e-12)


def test_angles_of_the_paper():
    """Table of papers.md sec. 10: t_max and the noise level of the middle time; plain floats become float64."""
    assert angle_from_noise_level(80.0, 0.5).item() == pytest.approx(1.5645464081731977, abs=1e-15)
    assert noise_level_from_angle(1.1, 0.5).item() == pytest.approx(0.9823798286243262, abs=1e-15)
    assert angle_from_noise_level(0.0, 0.5) == 0.0


@pytest.mark.parametrize(("mean", "std", "low", "median", "high"), PROPOSALS)
def test_lognormal_proposal_has_the_papers_quantiles(mean, std, low, median, high):
    uniform = torch.special.ndtr(torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64))
    t = lognormal_angle(uniform, mean, std, 0.5)
    exact = [math.atan(math.exp(mean + k * std) / 0.5) for k in (-1, 0, 1)]
    assert t.tolist() == pytest.approx(exact, rel=1e-12)
    assert t.tolist() == pytest.approx([low, median, high], abs=6e-4)  # the sheet's third digit is not always rounded


@given(uniform=st.floats(1e-6, 1 - 1e-6), mean=st.floats(-2, 1), std=st.floats(0.5, 2), sigma_d=st.floats(0.2, 2))
def test_log_noise_level_of_the_proposal_is_normal(uniform, mean, std, sigma_d):
    t = lognormal_angle(torch.tensor([uniform], dtype=torch.float64), mean, std, sigma_d)
    standardised = (noise_level_from_angle(t, sigma_d).log() - mean) / std
    assert torch.special.ndtr(standardised).item() == pytest.approx(uniform, rel=1e-8)


def ict_probabilities(sigmas: list[float], mean: float, std: float) -> list[float]:
    """p_i ~ erf((ln sigma_{i+1} - P_mean) / (sqrt 2 P_std)) - erf((ln sigma_i - P_mean) / (sqrt 2 P_std))."""
    edges = [math.erf((math.log(s) - mean) / (math.sqrt(2) * std)) if s > 0 else -1.0 for s in sigmas]
    parts = [b - a for a, b in pairwise(edges)]
    return [p / sum(parts) for p in parts]


@pytest.mark.parametrize("intervals", [1, 8, 256])
@pytest.mark.parametrize("from_zero", [True, False])
def test_proposal_grid_has_icts_probabilities(intervals, from_zero):
    grid = karras_angles(intervals, 0.5)[0 if from_zero else 1 :] if intervals > 1 else uniform_angles(1, 1.5)
    sigmas = noise_level_from_angle(grid, 0.5).tolist()
    ours = proposal_grid(grid, -1.0, 1.4, 0.5).cumulative
    assert ours[0] == 0 and ours[-1] == 1
    exact = torch.tensor(ict_probabilities(sigmas, -1.0, 1.4), dtype=torch.float64)
    torch.testing.assert_close(ours.diff(), exact, rtol=1e-9, atol=1e-13)


def test_draws_fall_into_intervals_as_often_as_the_grid_says():
    grid = proposal_grid(karras_angles(32, 0.5), -1.0, 1.4, 0.5)
    count = 100_000
    t, u = draw_interval(grid, (torch.arange(count, dtype=torch.float64) + 0.5) / count)
    index = torch.searchsorted(grid.angles, t)
    assert torch.equal(grid.angles[index - 1], u)  # neighbours
    frequency = torch.bincount(index - 1, minlength=32) / count
    assert (frequency - grid.cumulative.diff()).abs().max() <= 1.01 / count


def test_categorical_and_continuous_proposals_see_the_same_angle_for_the_same_draw():
    grid = proposal_grid(karras_angles(64, 0.5), -1.0, 1.4, 0.5)
    uniform = torch.rand(20_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    t, u = draw_interval(grid, uniform)
    inside = lognormal_angle(uniform, -1.0, 1.4, 0.5)
    agree = ((u <= inside) & (inside <= t)).double().mean()
    assert agree > 0.995  # the grid truncates the proposal at sigma = 80
    kept = torch.special.ndtr(torch.tensor((math.log(80) + 1.0) / 1.4, dtype=torch.float64))
    truncated = lognormal_angle(uniform * kept, -1.0, 1.4, 0.5)
    assert bool(((u <= truncated) & (truncated <= t)).all())


@given(uniform=st.floats(0, 1), intervals=st.integers(2, 2048))
def test_an_interval_is_never_empty_not_even_at_the_ends(uniform, intervals):
    grid = proposal_grid(karras_angles(intervals, 0.5), -1.0, 1.4, 0.5)
    t, u = draw_interval(grid, torch.tensor([uniform], dtype=torch.float64))
    assert (t > u).all() and (u >= 0).all()


@pytest.mark.parametrize("values", [[0.5], [0.0, 0.5, 0.5], [0.0, 1.0, 0.5]])
def test_a_grid_that_does_not_ascend_is_refused(values):
    with pytest.raises(ValueError, match="ascending"):
        proposal_grid(torch.tensor(values, dtype=torch.float64), -1.0, 1.4, 0.5)


@pytest.mark.parametrize("shape", [(), (2,), (3, 1)])
def test_times_that_are_not_one_per_sample_are_refused_with_their_shapes(unchecked: Callable, shape):
    with unchecked(), pytest.raises(ValueError, match="one angle per sample"):
        cos_sin(torch.zeros(shape), torch.zeros(3, 4))


@given(intervals=st.integers(1, 40), seed=SEEDS)
def test_every_interval_of_an_even_grid_is_drawn_equally_often_however_wide_it_is(intervals, seed):
    widths = torch.rand(intervals + 1, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + 1e-3
    edges = widths.cumsum(0) / widths.sum()
    uniform = (torch.arange(intervals * 6, dtype=torch.float64) + 0.5) / (intervals * 6)
    t, u = draw_interval(even_grid(edges), uniform)
    assert torch.equal(t, edges[1:].repeat_interleave(6)) and torch.equal(u, edges[:-1].repeat_interleave(6))


@given(edges=st.lists(st.floats(1e-3, 1.5), min_size=1, max_size=6, unique=True), seed=SEEDS)
def test_the_lower_edge_is_the_largest_below(edges, seed):
    """Segments are open below and closed above: the angle of an edge belongs to the segment it ends."""
    ascending = [0.0, *sorted(edges)]
    inside = (1e-6 + 1.55 * torch.rand(20, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)).tolist()
    t = [*inside, *ascending[1:]]
    exact = [max(edge for edge in ascending if edge < angle) for angle in t]
    ours = lower_edge(torch.tensor(ascending, dtype=torch.float64), torch.tensor(t, dtype=torch.float64))
    assert ours.tolist() == exact


def test_the_lower_edge_of_zero_is_zero_and_edges_take_the_angles_dtype():
    edges = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)
    ours = lower_edge(edges, torch.tensor([0.0, 0.3, 0.5, 0.7, 1.2]))
    assert ours.dtype == torch.float32 and ours.tolist() == [0.0, 0.0, 0.0, 0.5, 1.0]
    assert not lower_edge(edges[:1], torch.linspace(0, 1.5, 9)).any()  # one segment
