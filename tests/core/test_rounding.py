"""What float32 costs where neighbouring angles are subtracted."""

from dataclasses import replace

import torch
from torch import Tensor

from trigbench.core.fields import Draws, Fields
from trigbench.core.objectives.discrete import DiscreteSettings, dscd
from trigbench.core.samplers.ode import ddim_step
from trigbench.core.schedules import karras_angles
from trigbench.core.trigflow import proposal_grid


def _student(x: Tensor, t: Tensor) -> Tensor:
    return torch.sin(x + t.to(x.dtype)[:, None])


def _teacher(x: Tensor, t: Tensor) -> Tensor:
    return torch.cos(x)


def test_in_float32_dscd_keeps_the_digits_that_a_difference_of_points_would_lose() -> None:
    g = torch.Generator().manual_seed(0)
    x0, noise = torch.randn(2, 512, 4, generator=g, dtype=torch.float64)
    draws = Draws(torch.rand(512, generator=g, dtype=torch.float64), noise)
    settings = DiscreteSettings(grid=proposal_grid(karras_angles(65536, 0.5), -1.0, 1.4, 0.5))
    fields = Fields(_student, _teacher)
    exact = dscd(fields, x0, draws, settings).direction_norm
    single = Draws(draws.uniform, noise.float())

    def error(chosen: DiscreteSettings) -> float:
        found = dscd(fields, x0.float(), single, chosen).direction_norm
        return float((found.double() - exact).abs().mean())

    assert error(settings) < 0.5 * error(replace(settings, solver=ddim_step))
