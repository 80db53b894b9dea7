"""Methods that match laws, trained shortly from scratch: their samples have the data's law, by moments and modes."""

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from trigbench.core import oracle
from trigbench.core.condition import Condition
from trigbench.core.fields import Draws, Fields, bind
from trigbench.core.networks.mlp import ResidualMLP
from trigbench.core.objectives.distribution_matching import DMD2Settings, RCMSettings, dmd2, rcm
from trigbench.core.objectives.moment_matching import IMMSettings, imm
from trigbench.core.objectives.score_identity import SiDSettings, sid
from trigbench.core.schedules import largest_angle
from trigbench.core.trigflow import Field, consistency_map

SIGMA_D, BATCH = 0.5, 512
DATA = oracle.standardised(
    oracle.Mixture(torch.tensor([0.3, 0.7]), torch.tensor([[-1.5], [0.6]]), torch.full((2,), 0.25))
)
"""Two modes of different weight, far apart."""


def drawn(g: torch.Generator) -> tuple[Tensor, Draws]:
    normal = lambda: torch.randn(BATCH, 1, generator=g)  # noqa: E731
    uniform = lambda: 1e-3 + (1 - 2e-3) * torch.rand(BATCH, generator=g)  # noqa: E731
    pair = lambda: Draws(uniform(), normal())  # noqa: E731
    whole = replace(pair(), start=normal(), score=pair(), fake=pair(), lower=uniform(), middle=uniform())
    return oracle.sample(DATA, uniform(), normal()), whole


Unchecked = Callable[[], AbstractContextManager[None]]


def trained(
    objective: Callable, settings: Any, steps: int, rate: float, fake_rate: float, unchecked: Unchecked
) -> Tensor:
    """Samples in one step of a student that starts at random; its fake starts so, too.

    Shapes are checked in the first step; the others' are the same.
    """
    torch.manual_seed(0)
    student, fake = (ResidualMLP((1,), width=32, blocks=1, told=("target_time",) if n == 0 else ()) for n in (0, 1))

    def student_to(u: Tensor) -> Field:
        return bind(student, condition=Condition(target_time=u))

    def to_data(x: Tensor, t: Tensor) -> Tensor:
        return student_to(torch.zeros_like(t))(x, t)

    fields = Fields(to_data, lambda x, t: oracle.velocity(DATA, x, t), fake=bind(fake), student_to=student_to)
    optimiser = torch.optim.Adam(
        [{"params": student.parameters(), "lr": rate}, {"params": fake.parameters(), "lr": fake_rate}],
        betas=(0.5, 0.99),
        fused=True,
    )
    decay = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda k: min(1.0, 3 * (1 - k / steps) + 0.02))
    g = torch.Generator().manual_seed(1)
    with ExitStack() as after_the_first:
        for step in range(steps):
            if step == 1:
                after_the_first.enter_context(unchecked())
            optimiser.zero_grad()
            objective(fields, *drawn(g), settings).loss.backward()
            optimiser.step()
            decay.step()
    with torch.no_grad():
        t = torch.full((4000,), largest_angle(SIGMA_D))
        return consistency_map(to_data, torch.randn(4000, 1, generator=g), t)[:, 0]


TRAININGS = {
    "rcm": (rcm, RCMSettings(reverse_weight=1.0, rollout_steps=2), 250, 4e-3, 1e-2),
    "dmd2": (dmd2, DMD2Settings(), 250, 3e-3, 1e-2),
    "sid": (sid, SiDSettings(alpha=1.0), 350, 3e-3, 1e-2),
    "imm": (imm, IMMSettings(gap_halvings=4, particles=16), 600, 1e-2, 1e-3),
}
"""Objective, settings, steps, and the rates of student and fake."""


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAININGS)
def test_samples_of_a_short_training_have_the_data_s_moments_and_both_modes(name: str, unchecked: Unchecked) -> None:
    objective, settings, steps, rate, fake_rate = TRAININGS[name]
    samples = trained(objective, settings, steps, rate, fake_rate, unchecked)
    means, stds = DATA.means[:, 0], DATA.stds
    third = float((DATA.weights * (means**3 + 3 * means * stds**2)).sum())
    assert float(samples.mean()) == pytest.approx(0, abs=0.2)
    assert float(samples.std()) == pytest.approx(1, abs=0.2)
    assert float(samples.pow(3).mean()) == pytest.approx(third, abs=0.6 * abs(third))
    assert float((samples < means.mean()).float().mean()) == pytest.approx(0.3, abs=0.1)
