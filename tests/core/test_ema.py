"""Averages of parameters and their reconstruction (papers.md 2.10; sec. 10's table)."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trigbench.core import ema

# papers.md 2.10: sigma_rel -> gamma
GAMMAS = {
    **{0.015: 63.66, 0.02: 46.99, 0.025: 36.99, 0.03: 30.32, 0.04: 21.98},
    **{0.05: 16.97, 0.06: 13.63, 0.075: 10.29, 0.10: 6.94},
}
TRACKED = (16.97, 6.94)


def run_of(steps: int, dimension: int = 16) -> torch.Tensor:
    """Parameters that drift towards a limit and jitter on the way, (steps, dimension)."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(2, steps, dimension, generator=generator, dtype=torch.float64)
    limit = torch.randn(dimension, generator=generator, dtype=torch.float64)
    progress = torch.linspace(0, 1, steps, dtype=torch.float64)[:, None]
    return limit * (1 - torch.exp(-3 * progress)) + 0.02 * noise[0].cumsum(0) + 0.1 * noise[1]


def average_of(run: torch.Tensor, gamma: float) -> torch.Tensor:
    average = {"p": torch.full_like(run[0], 1e6)}  # the first step forgets the start
    for step, parameters in enumerate(run, start=1):
        average = ema.update(average, {"p": parameters}, ema.power_function_beta(step, gamma))
    return average["p"]


@pytest.mark.parametrize("gamma", [0.0, 6.94, 16.97])
def test_power_function_average_is_the_integral_of_its_profile(gamma):
    """The weight of step k is exactly the integral of (gamma + 1) tau^gamma / T^(gamma + 1) over (k - 1, k]."""
    run, steps = run_of(300), 300
    edges = (torch.arange(steps + 1, dtype=torch.float64) / steps) ** (gamma + 1)
    torch.testing.assert_close(average_of(run, gamma), edges.diff() @ run, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(("width", "gamma"), GAMMAS.items())
def test_gamma_of_every_width_the_papers_use(width, gamma):
    ours = ema.gamma_from_relative_width(width)
    assert round(ours, 2) == gamma
    assert (ours + 1) / ((ours + 2) ** 2 * (ours + 3)) == pytest.approx(width**2, rel=1e-9)


@given(width=st.floats(0.011, 0.27))
def test_width_is_the_relative_standard_deviation_of_the_profile(width):
    gamma = ema.gamma_from_relative_width(width)
    tau = (np.arange(200_000) + 0.5) / 200_000
    p = (gamma + 1) * tau**gamma / len(tau)
    mean = (p * tau).sum()
    assert ((p * (tau - mean) ** 2).sum()) ** 0.5 == pytest.approx(width, rel=1e-4)


@given(t=st.floats(1, 1000), u=st.floats(1, 1000), g=st.floats(0, 70), h=st.floats(0, 70))
def test_profile_products_are_the_integrals_of_products(t, u, g, h):
    tau = (np.arange(100_000) + 0.5) / 100_000 * min(t, u)
    p, q = ((a + 1) * (tau / b) ** a / b for a, b in ((g, t), (h, u)))
    ours = ema.profile_products(*(np.array([v], float) for v in (t, g, u, h)))
    assert float(ours[0, 0]) == pytest.approx(float((p * q).mean() * min(t, u)), rel=1e-4, abs=1e-12)


@pytest.mark.one_in(5)
@pytest.mark.parametrize("width", [0.05, 0.06, 0.075, 0.10, 0.15])
def test_any_width_is_reconstructed_from_two_tracked_averages(width):
    """2000 steps, a snapshot of both averages every 100, against the average tracked directly."""
    run, gamma = run_of(2000), ema.gamma_from_relative_width(width)
    snapshots, times, gammas = [], [], []
    for tracked in TRACKED:
        average = {"p": run[0]}
        for step, parameters in enumerate(run, start=1):
            average = ema.update(average, {"p": parameters}, ema.power_function_beta(step, tracked))
            if step % 100 == 0:
                snapshots.append(average)
                times.append(float(step))
                gammas.append(tracked)
    coefficients = ema.posthoc_coefficients(times, gammas, 2000.0, gamma)
    assert coefficients.sum() == pytest.approx(1.0, abs=2e-3)
    error = ema.reconstruct(snapshots, coefficients)["p"] - average_of(run, gamma)
    spread = snapshots[19]["p"] - snapshots[39]["p"]  # the two tracked averages at the end
    assert error.norm() < 0.01 * spread.norm()


def test_reconstructing_a_tracked_average_returns_it_and_the_clock_has_no_unit():
    times, gammas = [100.0, 200.0, 300.0] * 2, [16.97] * 3 + [6.94] * 3
    coefficients = ema.posthoc_coefficients(times, gammas, 200.0, 6.94)
    assert coefficients == pytest.approx([0, 0, 0, 0, 1, 0], abs=1e-9)
    one = ema.posthoc_coefficients(times, gammas, 300.0, 10.0)
    kimg = ema.posthoc_coefficients([2.048 * t for t in times], gammas, 2.048 * 300, 10.0)
    assert kimg == pytest.approx(one, rel=1e-6, abs=1e-9)


def test_reconstruction_sums_in_float64_and_returns_the_snapshots_dtype():
    """Large coefficients of opposite sign must not cancel in float16."""
    snapshots = [{"p": torch.full((3,), v, dtype=torch.float16)} for v in (1.0, 1.0)]
    result = ema.reconstruct(snapshots, np.array([3001.0, -3000.0]))["p"]
    assert result.dtype == torch.float16
    assert result.tolist() == [1.0, 1.0, 1.0]


def test_half_life_of_the_papers_cifar_runs():
    """Table of sec. 10: beta 0.99929047 for half a million images at batch 512."""
    assert ema.half_life_beta(512, 0.5e6) == pytest.approx(0.99929047, abs=5e-9)


@given(batch=st.integers(1, 4096), steps=st.integers(1, 1000))
def test_half_of_the_memory_is_gone_after_the_half_life(batch, steps):
    beta = ema.half_life_beta(batch, float(batch * steps))
    assert beta**steps == pytest.approx(0.5, rel=1e-9)


def test_ramp_up_forgets_the_start_and_ends_at_the_half_life():
    """EDM: half-life = min(0.5M, 0.05 images seen)."""
    assert ema.half_life_beta(512, 0.5e6, seen=0) == 0.0
    assert ema.half_life_beta(512, 0.5e6, seen=1_000_000) == pytest.approx(0.5 ** (512 / 50_000))
    assert ema.half_life_beta(512, 0.5e6, seen=10_000_000) == ema.half_life_beta(512, 0.5e6)
    assert ema.half_life_beta(512, 0.5e6, seen=10_000_000_000) == ema.half_life_beta(512, 0.5e6)


def test_an_update_is_a_new_tensor_without_gradient():
    average, parameter = {"p": torch.tensor([1.0])}, torch.tensor([3.0], requires_grad=True)
    moved = ema.update(average, {"p": parameter}, 0.75)["p"]
    assert moved.item() == 1.5 and not moved.requires_grad
    assert average["p"].item() == 1.0
