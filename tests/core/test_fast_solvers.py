"""Solvers of higher order and multistep ones, on data whose ODE is known (lineage.md 1.8; sec. 4, row 16)."""

import math
from collections.abc import Callable
from functools import partial
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from trigbench.core import oracle
from trigbench.core.samplers.multistep import VARIANTS, solve_dpm_solver_pp_3m, solve_unipc
from trigbench.core.samplers.ode import ddim_step, solve, solve_dpm_solver_pp_2m
from trigbench.core.samplers.singlestep import dpm_solver_3s_step
from trigbench.core.schedules import karras_noise_levels
from trigbench.core.trigflow import angle_from_noise_level, interpolate, velocity

START, END = 1.4, 0.3
DPM_3S = partial(solve, dpm_solver_3s_step)
UNIPC = {
    f"unipc {order} {variant}{' uncorrected' * (not corrector)}": (
        partial(solve_unipc, order=order, variant=variant, corrector=corrector),
        order + corrector,
    )
    for order in (1, 2, 3)
    for variant in VARIANTS
    for corrector in (True, False)
}
MULTISTEP = UNIPC | {"++3m": (solve_dpm_solver_pp_3m, 2)}
SOLVERS = {name: solver for name, (solver, _) in MULTISTEP.items()} | {"3s": DPM_3S}


def points(batch: int, dimension: int, seed: int = 0) -> Tensor:
    return torch.randn(batch, dimension, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def log_snr(t: float) -> float:
    return -math.log(math.tan(t))


def angles(log_snrs: list[float]) -> Tensor:
    return torch.atan(torch.exp(-torch.tensor(log_snrs, dtype=torch.float64)))


def grown(steps: int) -> Tensor:
    """From START to END by about `steps` equal steps in ln tan, h, begun by h^2, 2 h^2, ..., h.

    So what the first steps, which are of lower order, leave behind is of order 4 too.
    """
    low, high = log_snr(START), log_snr(END)
    found, size = [low], (high - low) / steps / 2 ** math.log2(steps)
    while size < 0.99 * (high - low) / steps:
        found.append(found[-1] + size)
        size *= 2
    rest = round((high - found[-1]) / (high - low) * steps)
    return angles([*found, *(found[-1] + (high - found[-1]) * i / rest for i in range(1, rest + 1))])


@pytest.fixture(scope="module")
def exact(mixture: oracle.Mixture) -> tuple[Callable[[Tensor, Tensor], Tensor], Tensor, Tensor]:
    """(field, points at START, where their ODE is at END)."""
    x, times = points(8, 2), [torch.full((8,), t, dtype=torch.float64) for t in (START, END)]
    return partial(oracle.velocity, mixture), x, oracle.segment_map(mixture, x, *times, 512)


def orders(solver: Callable[..., Tensor], exact: tuple[Callable, Tensor, Tensor], grids: list[Tensor]) -> list[float]:
    field, x, ends = exact
    errors = [float((solver(field, x, grid) - ends).norm()) for grid in grids]
    return [math.log2(a / b) for a, b in pairwise(errors)]


@pytest.mark.parametrize("name", MULTISTEP)
def test_multistep_solvers_converge_at_their_order_where_the_start_does_not_spoil_it(exact, unchecked, name):
    solver, order = MULTISTEP[name]
    with unchecked():
        found = orders(partial(solver, lower_order_final=False), exact, [grown(n) for n in (32, 64, 128)])
    print(name, found)
