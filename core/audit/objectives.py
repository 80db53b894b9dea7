"""Which losses can be audited: Algorithm 1's own form, and an objective of the contract (core.objectives) made one."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from trigbench.core.audit.probe import Call, Loss, noted, watched
from trigbench.core.constants import PROPOSAL_MEAN, PROPOSAL_STD
from trigbench.core.fields import Draws, Fields
from trigbench.core.objectives.regression import settings_for
from trigbench.core.trigflow import Batch, Field, ProposalGrid, Times

LOWER = 0.9
"""The lower time of a discrete objective, of its upper one."""


def loss_of(objective: Callable[..., Any], sigma_d: float) -> Loss:
    """(field, teacher, x0, z, t, r) -> the loss of an objective (fields, x0, draws, settings) at these times.

    Its uniform draws are those that lognormal_angle turns into t or, of a discrete objective, draw_interval; sigma_d,
    the proposal, the grid and r are told to it, and the rest of its settings is as it says itself. The loss raises
    ValueError where the objective draws its times in another way.
    """

    def run(fields: Fields, x0: Batch, z: Batch, t: Times, r: float, uniform: Times) -> Tensor:
        proposal = {"proposal_mean": PROPOSAL_MEAN, "proposal_std": PROPOSAL_STD, "grid": _grid(t)}
        settings = settings_for(objective, sigma_d=sigma_d, warmup=r, **proposal)
        return objective(fields, x0 / sigma_d, Draws(uniform, z / sigma_d), settings).loss

    def loss(field: Field, teacher: Field | None, x0: Batch, z: Batch, t: Times, r: float) -> Tensor:
        for uniform in (_of_noise_level(t, sigma_d), _of_interval(t)):
            calls: list[Call] = []
            with torch.random.fork_rng(devices=[]):
                run(Fields(watched(_simple, "the field", x0, t, calls), teacher and _simple), x0, z, t, r, uniform)
            if any(torch.allclose(call.time, t, rtol=1e-9, atol=0) for call in calls):
                return run(Fields(field, teacher), x0, z, t, r, uniform)
        raise ValueError("it trains at other times than lognormal_angle or draw_interval make of draws.uniform")

    return loss


def uses_teacher(loss: Loss, x0: Batch, z: Batch, t: Times) -> bool:
    """Whether a loss that is given a teacher calls it: distillation, and training on data otherwise."""
    calls: list[Call] = []
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        loss(_simple, noted(_simple, x0, t, calls), x0, z, t, 1.0)
    return bool(calls)


def _simple(x: Tensor, t: Tensor) -> Tensor:
    """Depends on both, as a field must."""
    return x * torch.cos(t).reshape(-1, *[1] * (x.ndim - 1))


def _of_noise_level(t: Times, sigma_d: float) -> Times:
    return torch.special.ndtr((torch.log(sigma_d * torch.tan(t)) - PROPOSAL_MEAN) / PROPOSAL_STD)


def _grid(t: Times) -> ProposalGrid:
    """Of intervals from LOWER t to t, and what lies between them."""
    upper = t.unique()
    lower = torch.maximum(LOWER * upper, torch.cat([upper.new_zeros(1), upper[:-1]]))
    edges = torch.cat([upper.new_zeros(1), lower, upper]).unique()
    return ProposalGrid(edges, torch.linspace(0, 1, len(edges), dtype=edges.dtype))


def _of_interval(t: Times) -> Times:
    grid = _grid(t)
    upper = torch.searchsorted(grid.angles, t)
    return (grid.cumulative[upper] + grid.cumulative[upper - 1]) / 2
