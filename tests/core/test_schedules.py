"""Schedules and grids against values of the papers (papers.md 1.5, 2.10, 3.2, sec. 10's table)."""

import ast
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trigbench.core import schedules

KARRAS_18 = [
    *(80, 57.586, 40.7856, 28.3746, 19.3525, 12.9101, 8.4009, 5.3152, 3.2568),
    *(1.9233, 1.0882, 0.5853, 0.2964, 0.1395, 0.0599, 0.0229, 0.0075, 0.002),
]
# papers.md 3.2: N, largest and smallest interval (first interval always 0.0040)
DSCD_GRIDS = [
    (256, 0.0223, 1.35e-4),
    (512, 0.0111, 6.7e-5),
    (1024, 0.0056, 3.3e-5),
    (2048, 0.0040, 1.7e-5),
    (4096, 0.0040, 8.3e-6),
]


def test_ict_doubles_its_points_as_published():
    """Table of sec. 10: 11, 21, ..., 1281, each for 50k of 400k iterations."""
    starts = [schedules.ict_points(50_000 * i, 400_000) for i in range(8)]
    ends = [schedules.ict_points(50_000 * (i + 1) - 1, 400_000) for i in range(8)]
    assert starts == ends == [11, 21, 41, 81, 161, 321, 641, 1281]
    assert schedules.ict_points(400_000, 400_000) == 1281  # never beyond


@given(step=st.integers(0, 800_000))
def test_cm_points_follow_the_published_formula(step):
    total, s0, s1 = 800_000, 2, 150
    exact = math.ceil(math.sqrt(step / total * ((s1 + 1) ** 2 - s0**2) + s0**2) - 1) + 1
    assert schedules.cm_points(step, total, s0, s1) == exact
    assert s0 <= exact <= s1 + 1


def test_cm_points_run_from_first_to_last():
    assert schedules.cm_points(0, 1000, 2, 150) == 2
    assert schedules.cm_points(1000, 1000, 2, 150) == 151
    counts = [schedules.cm_points(k, 1000, 2, 150) for k in range(1001)]
    assert counts == sorted(counts)


def test_warmup_rises_linearly_over_ten_thousand_steps_then_stays():
    assert [schedules.tangent_warmup(k, 10_000) for k in (0, 1, 5_000, 10_000, 99_999)] == [0, 1e-4, 0.5, 1, 1]
    assert schedules.tangent_warmup(0, 0) == 1.0


@given(n=st.integers(1, 4_000_000_000))
def test_inverse_sqrt_rate_is_edm2s_in_images_seen(n):
    """lr(n) = alpha_ref / sqrt(max(n / (t_ref B), 1)) min(n / 10e6, 1)."""
    rate, t_ref, batch = 1e-2, 35_000, 2048
    exact = rate / math.sqrt(max(n / (t_ref * batch), 1)) * min(n / 10e6, 1)
    assert schedules.inverse_sqrt_rate(n, rate, t_ref * batch, rampup=10_000_000) == pytest.approx(exact, rel=1e-12)


def test_constant_rate_is_constant_after_its_ramp():
    assert schedules.constant_rate(0, 1e-3) == 1e-3
    assert [schedules.constant_rate(k, 1e-3, 10) for k in (0, 5, 10, 1000)] == [0, 5e-4, 1e-3, 1e-3]
    assert [schedules.fixed_intervals(k, 1024) for k in (0, 10**6)] == [1024, 1024]


def test_karras_noise_levels_of_the_18_step_teacher():
    levels = schedules.karras_noise_levels(18)
    assert levels.dtype == torch.float64
    assert levels.tolist() == pytest.approx(KARRAS_18, abs=6e-5)


def test_karras_noise_levels_are_evenly_spaced_in_the_seventh_root():
    roots = schedules.karras_noise_levels(50, 0.01, 10.0, rho=5.0) ** (1 / 5)
    steps = roots.diff()
    torch.testing.assert_close(steps, steps[:1].expand_as(steps), rtol=1e-9, atol=0)
    assert roots[0].item() ** 5 == pytest.approx(10.0) and roots[-1].item() ** 5 == pytest.approx(0.01)


@pytest.mark.parametrize(("intervals", "largest", "smallest"), DSCD_GRIDS)
def test_dscd_grid_has_the_facts_of_the_papers_grid(intervals, largest, smallest):
    grid = schedules.karras_angles(intervals, 0.5)
    gaps = grid.diff()
    assert grid[0] == 0 and len(grid) == intervals + 1 and bool((gaps > 0).all())
    assert grid[-1].item() == pytest.approx(math.atan(160), abs=1e-14)
    assert gaps[0].item() == pytest.approx(0.0040, abs=5e-5)
    assert gaps.max().item() == pytest.approx(largest, abs=6e-5)
    assert gaps.min().item() == pytest.approx(smallest, rel=0.02)
    widest_inside = 1 + int(gaps[1:].argmax())
    assert grid[widest_inside].item() == pytest.approx(0.71, abs=0.02)


@given(intervals=st.integers(1, 300), t_max=st.floats(0.1, 1.57))
def test_uniform_angles_are_equal_steps_from_zero(intervals, t_max):
    grid = schedules.uniform_angles(intervals, t_max)
    assert len(grid) == intervals + 1 and grid[0] == 0 and grid[-1].item() == pytest.approx(t_max, rel=1e-15)
    steps = torch.full((intervals,), t_max / intervals, dtype=torch.float64)
    torch.testing.assert_close(grid.diff(), steps, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("points", [2, 18, 40, 151])
def test_cms_grid_is_the_published_one_and_starts_at_sigma_min(points):
    """t_i = (eps^(1/rho) + (i-1)/(N-1) (T^(1/rho) - eps^(1/rho)))^rho, i = 1..N ascending (papers.md 7.1)."""
    low, high = 0.002 ** (1 / 7), 80 ** (1 / 7)
    exact = [math.atan((low + i / (points - 1) * (high - low)) ** 7 / 0.5) for i in range(points)]
    grid = schedules.cm_angles(points, 0.5)
    assert grid.dtype == torch.float64 and grid.tolist() == pytest.approx(exact, rel=1e-12)
    assert torch.equal(grid, schedules.karras_angles(points, 0.5)[1:])  # without the zero of dsCD's


# papers.md 7.3: stage, t, r / t at q = 2
ECT_RATIOS = [
    *((0, 0.01, 0.0), (0, 1.0, 0.0), (0, 5.0, 0.473), (0, 80.0, 0.5)),
    *((7, 0.01, 0.9805), (7, 80.0, 0.9961)),
]


@pytest.mark.parametrize(("stage", "sigma", "ratio"), ECT_RATIOS)
def test_ects_lower_level_has_the_published_ratios(stage, sigma, ratio):
    level = schedules.ect_lower_level(torch.tensor([sigma], dtype=torch.float64), stage)
    assert level.item() / sigma == pytest.approx(ratio, abs=5e-5 if stage else 5e-4)


@given(
    sigma=st.floats(1e-3, 80),
    recipe=st.sampled_from([*((q, stage) for q in (2.0, 4.0) for stage in range(8)), (256.0, 0)]),
    k=st.floats(0, 10),
    b=st.floats(0.5, 2),
)
def test_ects_lower_level_is_the_formula(sigma, recipe, k, b):
    q, stage = recipe
    exact = max(0.0, sigma * (1 - q ** -(stage + 1) * (1 + k / (1 + math.exp(b * sigma)))))
    level = schedules.ect_lower_level(torch.tensor([sigma], dtype=torch.float64), stage, q, k, b).item()
    assert level == pytest.approx(exact, rel=1e-12, abs=1e-12)
    assert 0 <= level < sigma


def test_ects_target_is_the_clean_image_up_to_ln_7_at_stage_0():
    """1 + 8 logistic(-sigma) = 2 at sigma = ln 7: below, ECT starts as ordinary denoising."""
    around = math.log(7) * torch.tensor([0.01, 0.999, 1.001], dtype=torch.float64)
    assert (schedules.ect_lower_level(around, 0) > 0).tolist() == [False, False, True]
    assert (schedules.ect_lower_level(around, 3) > 0).all()


@given(points=st.integers(2, 1281), first=st.integers(2, 20), initial=st.floats(0.5, 0.999))
def test_cms_target_decay_is_the_published_formula(points, first, initial):
    """mu(k) = exp(s0 ln mu0 / N(k)): mu0 itself while N = s0, then nearer to 1."""
    decay = schedules.cm_target_decay(points, first, initial)
    assert decay == pytest.approx(math.exp(first * math.log(initial) / points), rel=1e-14)
    assert schedules.cm_target_decay(first, first, initial) == pytest.approx(initial, rel=1e-14)
    assert decay < schedules.cm_target_decay(points + 1, first, initial) < 1


def test_cms_target_decay_of_the_published_cifar_run():
    """s0 = 2, mu0 = 0.9, N from 2 to 151."""
    decays = [schedules.cm_target_decay(schedules.cm_points(k, 800_000, 2, 150)) for k in (0, 400_000, 800_000)]
    assert decays == pytest.approx([0.9, 0.9980325, 0.9986055], abs=1e-7)


@pytest.mark.slow
def test_edms_noise_levels_stand_in_one_place():
    """Those of the plan once stood beside the core's, and the middle angle in three files."""
    root = Path(__file__).parents[2]
    places: dict[str, set[str]] = {"0.002": set(), "80.0": set(), "1.1": set()}
    elsewhere = {  # 1.1 of something else: a width of a line, a round factor, an angle of a grid of them
        "workflow/report/kinds/theory.py", "workflow/report/pages/plot.py", "workflow/data/kinds/mixture/making.py",
    }  # fmt: skip
    for path in (*root.glob("core/**/*.py"), *root.glob("workflow/**/*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and type(node.value) is float and repr(node.value) in places:
                places[repr(node.value)].add(path.relative_to(root).as_posix())
    places["1.1"] -= elsewhere
    assert places == {constant: {"core/constants.py"} for constant in places}
