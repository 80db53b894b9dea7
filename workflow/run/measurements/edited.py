"""Ways to edit data, by a map in few steps and by a velocity in many, all from the same noise."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from trigbench.core.condition import Condition
from trigbench.core.samplers.editing import edit as edited
from trigbench.core.samplers.editing import from_guide
from trigbench.core.samplers.ode import heun_step, solve
from trigbench.core.samplers.teacher_editing import pseudoinverse_guided, repaint
from trigbench.core.solvers import of_velocities
from trigbench.core.trigflow import Field, interpolate
from trigbench.workflow.data.randomness import generator
from trigbench.workflow.run.editing import Edit, even_times
from trigbench.workflow.run.sampling import solved

STEPS = (1, 2, 4, 8, 16, 40)
"""In which a map edits."""
PAINTED, RESAMPLINGS = 20, 4
"""Steps of RePaint, and how often each is done."""
SOLVED, FOLLOWED = 35, 18
"""Evaluations of Heun's method along a guided velocity, and its steps from a guide."""


@dataclass(frozen=True)
class Seen:
    """What is edited: one row an edit."""

    edit: Edit
    observation: Tensor
    condition: Condition
    noise: Callable[[], Iterator[Tensor]]
    """Standard normal noise, a slice of all rows after the other, the same from the start at every call."""
    sigma_d: float


@dataclass(frozen=True)
class Way:
    """One way to edit."""

    sampler: str
    """What the tables call it."""
    evaluations: int
    """Of the map or the velocity; a guided one takes a gradient beside each."""
    draw: Callable[[Seen], Tensor]


def noise_of(seed: int, name: str, shape: Sequence[int], like: Tensor) -> Callable[[], Iterator[Tensor]]:
    """Noise for the edits of that name: (rows, *shape) a slice, on the device and in the precision of `like`."""

    def slices() -> Iterator[Tensor]:
        g = generator(seed, "editing", name)
        while True:
            yield torch.randn(len(like), *shape, generator=g).to(like)

    return slices


def by_map(field_of: Callable[[Condition], Field], boundary: float = 0.0) -> list[Way]:
    """CM's Alg. 4, and SDEdit where a guide is given, in every number of steps."""

    def draw(seen: Seen, steps: int) -> Tensor:
        slices, edit = seen.noise(), seen.edit
        noise = torch.stack([next(slices) for _ in range(steps)])
        field, times = field_of(seen.condition), even_times(steps, edit.top(seen.sigma_d))
        if edit.guided:
            return from_guide(field, edit.guide(seen.observation), noise, times, boundary)
        return edited(field, edit.operator, seen.observation, noise, times, boundary)

    return [Way("edit", steps, partial(draw, steps=steps)) for steps in STEPS]


def by_velocity(field_of: Callable[[Condition], Field], guided: bool) -> list[Way]:
    """RePaint and PiGDM; where a guide is given, SDEdit."""
    if guided:
        return [Way("sdedit", 2 * FOLLOWED - 1, partial(_from_guide, field_of))]
    painted = Way("repaint", PAINTED * RESAMPLINGS, partial(_painted, field_of))
    return [painted, Way("pigdm", SOLVED, partial(_guided, field_of))]


def _painted(field_of: Callable[[Condition], Field], seen: Seen) -> Tensor:
    slices, top = seen.noise(), seen.edit.top(seen.sigma_d)
    times = torch.tensor([*even_times(PAINTED, top), 0.0], dtype=torch.float64)
    field, x = field_of(seen.condition), next(slices)
    return repaint(field, seen.edit.operator, seen.observation, x, times, slices, RESAMPLINGS)


def _guided(field_of: Callable[[Condition], Field], seen: Seen) -> Tensor:
    field = pseudoinverse_guided(field_of(seen.condition), seen.edit.operator, seen.observation)
    return solved(field, next(seen.noise()), of_velocities(), SOLVED, seen.sigma_d)


def _from_guide(field_of: Callable[[Condition], Field], seen: Seen) -> Tensor:
    guide, top = seen.edit.guide(seen.observation), seen.edit.top(seen.sigma_d)
    times = torch.tensor([*even_times(FOLLOWED, top), 0.0], dtype=torch.float64)
    x = interpolate(guide, next(seen.noise()), torch.full((len(guide),), top, dtype=torch.float64))
    return solve(heun_step, field_of(seen.condition), x, times)
