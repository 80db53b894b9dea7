"""Samples from weights, in every way that a study asks for; equal noise in all of them."""

import dataclasses
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from trigbench.core.condition import Condition
from trigbench.core.map_samplers import MAP_SAMPLERS
from trigbench.core.samplers.ode import solve
from trigbench.core.schedules import karras_noise_levels, largest_angle
from trigbench.core.solvers import SOLVERS
from trigbench.core.trigflow import Field, angle_from_noise_level
from trigbench.workflow.data.randomness import seed_globals
from trigbench.workflow.machine.devices import on, products
from trigbench.workflow.machine.named import named
from trigbench.workflow.machine.progress import Progress, sign_of_life
from trigbench.workflow.run.assembly import (
    Tensors,
    boundary_of,
    check_weights,
    guided_field,
    jump_of,
    make_network,
    student_field,
    to_data,
)
from trigbench.workflow.run.batches import mapped
from trigbench.workflow.run.distributed import is_first
from trigbench.workflow.run.noise import condition_of_samples, noise_of_rows, noise_of_steps
from trigbench.workflow.run.settings import segment_edges
from trigbench.workflow.run.task import Task
from trigbench.workflow.study.study import Sampling

Place = tuple[str, int]
"""(Sampling.key, first row) of samples that are drawn together."""
BATCH, LARGEST = 1000, 2**22
"""Samples at a time, and numbers in them."""


@dataclass(frozen=True)
class Part:
    """Samples that are drawn together."""

    rows: range
    sampling: Sampling

    @property
    def place(self) -> Place:
        """Where it lies among all samples."""
        return self.sampling.key, self.rows.start


def draw_samples(task: Task, weights: Tensors, samplings: list[Sampling], count: int) -> dict[str, Tensor]:
    """`count` samples of each sampling by its key, on the CPU: equal noise and labels in all of them."""
    shape = task.data.shape
    drawn = room_for_samples(shape, samplings, count)
    for place, made in draw_parts(task, weights, samplings, parts_of(shape, samplings, count)):
        put(drawn, place, made)
    return drawn


def room_for_samples(shape: Sequence[int], samplings: list[Sampling], count: int) -> dict[str, Tensor]:
    """By the key of each sampling, for `count` samples."""
    return {sampling.key: torch.empty(count, *shape) for sampling in samplings}


def put(drawn: Mapping[str, Tensor], place: Place, made: Tensor) -> None:
    """Put a part's samples where they belong."""
    key, first = place
    drawn[key][first : first + len(made)] = made


def parts_of(shape: Sequence[int], samplings: list[Sampling], count: int) -> list[Part]:
    """The parts of `count` samples of each sampling, those of the same rows one after the other."""
    at_once = max(1, min(BATCH, LARGEST // math.prod(shape)))
    rows = [range(first, min(first + at_once, count)) for first in range(0, count, at_once)]
    return [Part(own, sampling) for own in rows for sampling in samplings]


def draw_parts(
    task: Task, weights: Tensors, samplings: list[Sampling], parts: Sequence[Part]
) -> Iterator[tuple[Place, Tensor]]:
    """(place, samples on the CPU) of one part after the other; a sample does not depend on others.

    `samplings` are all that the study asks for, as every sample has noise for each of them.
    """
    device, seed = task.device, task.study.evaluation.noise_seed(task.run.seed)
    network, weights = make_network(task), on(device, weights)
    check_weights(task, network, weights)
    slices = max([len(s.times) + 1 for s in samplings], default=1)
    progress, drawn = Progress("samples", sum(len(part.rows) for part in parts)), 0
    for rows, alike in itertools.groupby(parts, lambda part: part.rows):
        noise = noise_of_rows(seed, rows, slices, task.data).to(device)
        told = mapped(lambda part: part.to(device), condition_of_samples(rows, task.data))
        for part in alike:
            further = (z.to(device) for z in noise_of_steps(seed, rows, task.data))
            seed_globals(seed, "sample", *part.place)  # of a network of one's own that draws
            with torch.no_grad(), products(device, tf32=False):
                made = draw(task, network, weights, told, noise, further, part.sampling)
            yield part.place, made.cpu()
            drawn += len(rows)
            if is_first():
                progress.update(drawn)
            else:
                sign_of_life()


def draw(
    task: Task, network: nn.Module, weights: Tensors, told: Condition, noise: Tensor, further: Iterable[Tensor],
    how: Sampling,
) -> Tensor:  # fmt: skip
    """Samples (batch, *shape) in one way, from noise (slices, batch, *shape) and, by a stochastic solver, `further`.

    They are `told` labels and observations; the scale is the way's.
    """
    arm, sigma_d = task.arm, task.study.sigma_d
    scale = None if how.guidance is None else torch.full((noise.shape[1],), how.guidance, device=noise.device)
    condition, bound = dataclasses.replace(told, scale=scale), partial(student_field, task, network, weights)
    known, jump = MAP_SAMPLERS.get(how.solver), jump_of(bound, condition)
    if known is None:
        field = guided_field(network, weights, condition, arm.told)
        return solved(field, noise[0], how.solver, how.steps, sigma_d, how.settings, further)
    down = jump if known.told else to_data(jump) if "target_time" in arm.told else bound(condition)
    beside = {
        "times": [largest_angle(sigma_d), *how.times],
        "edges": segment_edges(arm, sigma_d).to(noise.device),
        "gamma": how.gamma or 0.0,
        "boundary": boundary_of(arm, sigma_d),
    }
    own = noise[: how.steps] if "times" in known.takes else noise[0]
    return named(known.path)(down, own, **{name: beside[name] for name in known.takes})


def solved(
    field: Field, noise: Tensor, solver: str, evaluations: int, sigma_d: float,
    settings: Mapping[str, Any] | None = None, further: Iterable[Tensor] = (),
) -> Tensor:  # fmt: skip
    """Samples (batch, *shape) from standard normal noise by a solver of the table, on EDM's grid.

    `settings` are of the solver's own, `further` is noise for a stochastic one, a slice a step.
    """
    known, beside = SOLVERS[solver], {"noise": further, "sigma_d": sigma_d}
    told = {**(settings or {}), **{name: beside[name] for name in known.takes}}
    levels = torch.cat([karras_noise_levels(known.steps(evaluations)), torch.zeros(1, dtype=torch.float64)])
    angles, function = angle_from_noise_level(levels, sigma_d).to(noise.device), named(known.path)
    x = torch.sin(angles[0]).to(noise.dtype) * noise
    if known.whole:
        return function(field, x, angles, **told)
    return solve(partial(function, **told) if told else function, field, x, angles)
