"""What is edited, in which steps, by what map: for the measurement `editing` and for `trigbench edit`."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from trigbench.core.condition import Condition
from trigbench.core.map_samplers import by_edges, is_everywhere
from trigbench.core.operators import Operator, averages, colour, fill, mask, observe, rearranged
from trigbench.core.schedules import largest_angle
from trigbench.core.solvers import SOLVERS
from trigbench.core.trigflow import Field
from trigbench.workflow.run.assembly import jump_of, student_field, to_data
from trigbench.workflow.run.task import Task
from trigbench.workflow.run.weights import Tensors
from trigbench.workflow.study.schema import Arm

GUIDED_FROM = 1.2
"""The angle to which strokes are noised: a third of their size is kept."""
STROKE = 2
"""Pixels a side of the squares in which strokes are even."""
ENLARGED = 4
"""By how much an image is enlarged, a side."""


@dataclass(frozen=True)
class Edit:
    """One way to see data in part."""

    name: str
    operator: Operator
    """What is seen; of strokes, what should be kept."""
    guided: bool = False
    """Whether what is seen is a guide to begin with, and not put back."""

    def top(self, sigma_d: float) -> float:
        """The angle of the first step."""
        return GUIDED_FROM if self.guided else largest_angle(sigma_d)

    def guide(self, observation: Tensor) -> Tensor:
        """What is seen, as points: nothing else is in them."""
        return fill(self.operator, observation)


def edits_of(shape: tuple[int, ...], fold: int = 1) -> list[Edit]:
    """What is asked of data of a shape: of images the lower half, four times the size, strokes, and colour where there
    is any; of vectors their second half, and two coordinates of three by a weighted sum. Pixels that are folded into
    channels are seen as the image that they are."""
    if fold > 1:
        plain = edits_of(unfolded(shape, fold))
        return [replace(edit, operator=of_folded(edit.operator, shape, fold)) for edit in plain]
    if len(shape) == 1:
        found = [Edit("inpaint", mask(_halves(shape)))] if shape[0] > 1 else []
        return [*found, Edit("colourise", colour(shape))] if shape == (3,) else found
    found = [Edit("inpaint", mask(_halves(shape)))]
    if not any(side % ENLARGED for side in shape[1:]):
        found.append(Edit("enlarge", averages(shape, ENLARGED)))
    if not any(side % STROKE for side in shape[1:]):
        found.append(Edit("strokes", averages(shape, STROKE), guided=True))
    return [*found, Edit("colourise", colour(shape))] if shape[0] == 3 else found


def unfolded(shape: tuple[int, ...], fold: int) -> tuple[int, ...]:
    """The shape of images whose pixels are folded into the channels of points of this shape.

    >>> unfolded((4, 14, 14), 2)
    (1, 28, 28)
    """
    channels, height, width = shape
    return (channels // fold**2, height * fold, width * fold)


def of_folded(operator: Operator, shape: tuple[int, ...], fold: int) -> Operator:
    """What an operator sees of images, of points of this shape into whose channels they are folded."""
    to, back = partial(pixel_shuffle, upscale_factor=fold), partial(pixel_unshuffle, downscale_factor=fold)
    return rearranged(operator, shape, to, back)


def _halves(shape: tuple[int, ...]) -> Tensor:
    """The first half of a vector, the upper half of an image."""
    seen = torch.zeros(shape, dtype=torch.bool)
    seen[..., : shape[0] // 2 if len(shape) == 1 else shape[-2] // 2, *([slice(None)] * (len(shape) > 1))] = True
    return seen


def even_times(steps: int, top: float) -> list[float]:
    """So many angles from `top` on, evenly down to 0, which is left out.

    >>> even_times(4, 1.2)
    [1.2, 0.9, 0.6, 0.3]
    """
    return [round(top * (steps - step) / steps, 12) for step in range(steps)]


def is_velocity(arm: Arm) -> bool:
    """Whether an arm is a diffusion model, whose velocity takes many steps."""
    return arm.method.sampler in SOLVERS


def is_map(arm: Arm) -> bool:
    """Whether it is a map from every angle to data, told nothing but labels and the time to which it goes."""
    sampler = arm.method.sampler
    return arm.is_map or (arm.told == ("target_time",) and is_everywhere(sampler) and not by_edges(sampler))


def bound(task: Task, network: nn.Module, weights: Tensors) -> Callable[[Condition], Field]:
    """The condition -> the arm's map to data, or its velocity, as a field."""
    told = partial(student_field, task, network, weights)
    if "target_time" not in task.arm.told:
        return told
    return lambda condition: to_data(jump_of(told, condition))


def seen_of(edit: Edit, images: Tensor) -> Tensor:
    """The observation of each; a stroke has one of three levels of grey."""
    observation = observe(edit.operator, images)
    if not edit.guided:
        return observation
    low, high = (float(end) for end in observation.aminmax())
    share = (observation - low) / max(high - low, torch.finfo(observation.dtype).tiny)
    return low + (high - low) * (2 * share).round() / 2
