"""One network as fields that differ in what it is told: a target time, a scale of guidance, no label."""

import dataclasses
from collections.abc import Callable, Collection

import torch
from torch import nn

from trigbench.core.condition import Condition
from trigbench.core.fields import Jump, OwnGuidance, bind
from trigbench.core.guidance import guided
from trigbench.core.trigflow import Field
from trigbench.workflow.run.weights import Tensors
from trigbench.workflow.study.schema import Arm


def jump_of(field: Callable[[Condition], Field], condition: Condition) -> Jump:
    """u -> the field that is told the condition with the target time u."""
    return lambda u: field(dataclasses.replace(condition, target_time=u))


def to_data(jump: Jump) -> Field:
    """The jump's field to 0, where data are."""
    return lambda x, t: jump(torch.zeros_like(t))(x, t)


def own_guidance(
    arm: Arm, classes: int, student: Callable[[Condition], Field], condition: Condition
) -> OwnGuidance | None:
    """What a student of two times is guided by while it learns, where its arm withholds labels from it."""
    if arm.label_dropout is None or condition.label is None or "target_time" not in arm.told:
        return None
    scale = condition.scale
    none = dataclasses.replace(condition, label=None, scale=None if scale is None else torch.ones_like(scale))
    return OwnGuidance(jump_of(student, none), condition.label < classes, scale)


def guided_field(network: nn.Module, weights: Tensors, condition: Condition, told: Collection[str] = ()) -> Field:
    """A diffusion model, guided by its own branch without labels where a scale is given.

    One that is `told` its scale, as a stage of distillation, is guided by that alone, and not a second time.
    """
    if "scale" in told:
        return bind(network, weights, dataclasses.replace(condition, target_time=None))
    alone = dataclasses.replace(condition, scale=None, target_time=None)
    conditional = bind(network, weights, alone)
    if condition.scale is None:
        return conditional
    return guided(conditional, bind(network, weights, dataclasses.replace(alone, label=None)), condition.scale)
