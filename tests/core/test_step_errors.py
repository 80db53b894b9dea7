"""A controlled error of a map over several steps: the closed form, and what holds without one."""

import math

import pytest
import torch

from trigbench.core.samplers.jumps import sample_jumps
from trigbench.core.step_errors import erring, gaussian_excess
from trigbench.core.trigflow import rotate

STD = 0.6


def even(steps: int) -> list[float]:
    return [math.pi / 2 * left / steps for left in range(steps, 0, -1)]


def test_the_closed_form_is_that_of_the_table():
    """lineage: the standard deviation's error at 0.6 and a factor of 1 + 0.02 sin, of 1, 2, 4, 8 and 16 steps."""
    renoised = [STD * gaussian_excess(STD, 0.02, even(n), 1.0) for n in (1, 2, 4, 8, 16)]
    jumps = [STD * gaussian_excess(STD, 0.02, even(n), 0.0) for n in (1, 2, 4, 8, 16)]
    assert renoised == pytest.approx((0.0120, 0.0117, 0.0126, 0.0139, 0.0158), abs=6e-5)
    assert jumps == pytest.approx((0.0120, 0.0171, 0.0186, 0.0190, 0.0191), abs=6e-5)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0])
def test_without_an_error_nothing_is_left(gamma: float):
    assert gaussian_excess(STD, 0.0, even(8), gamma) == pytest.approx(0, abs=1e-14)


def test_an_erring_map_is_the_exact_one_times_its_error():
    x = torch.linspace(-2, 2, 10, dtype=torch.float64).reshape(5, 2)
    t, u = torch.full((5,), 1.2, dtype=torch.float64), torch.full((5,), 0.5, dtype=torch.float64)
    found = rotate(x, erring(lambda x, t, u: torch.tanh(x), 0.1)(u)(x, t), t, u)
    torch.testing.assert_close(found, (1 + 0.1 * math.sin(0.7)) * torch.tanh(x), rtol=1e-13, atol=1e-14)


def test_samples_of_an_erring_gaussian_have_the_closed_form_s_deviation():
    noise = torch.randn(4, 200_000, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    spread = lambda t: ((torch.cos(t) * STD).square() + torch.sin(t).square()).sqrt()[:, None]  # noqa: E731
    x = sample_jumps(erring(lambda x, t, u: spread(u) / spread(t) * x, 0.1), noise, even(4), 1.0)
    assert float(x.std()) / STD - 1 == pytest.approx(gaussian_excess(STD, 0.1, even(4), 1.0), abs=0.006)
