"""Fields: networks bound to parameters and condition, all that objectives and samplers see."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.func import functional_call

from trigbench.core.condition import Condition, given_to
from trigbench.core.recomputing import again_with
from trigbench.core.trigflow import Field, TimeFunction, check_floating, time_dtype

Jump = Callable[[Tensor], Field]
"""u of (batch,) -> the field of the map from each t down to its u: f(x, t, u) = rotate(x, F(x, t; u), t, u)."""


@dataclass(frozen=True)
class OwnGuidance:
    """What a student of two times is guided by while it learns: itself, where it is told no label."""

    unlabelled_to: Jump
    """`student_to` without labels, and at a scale of 1 where it is told one."""
    labelled: Bool[Tensor, " batch"]
    """The samples whose label the student is told; from the others it learns what it is without."""
    scale: Float[Tensor, " batch"] | None = None
    """The scales that it is told, if it is."""


@dataclass(frozen=True)
class Fields:
    """The functions a method may use; what it does not use is None."""

    student: Field
    """Where the network is told a target time, `student_to` at 0."""
    teacher: Field | None = None
    log_weight: TimeFunction | None = None
    """w(t) of the adaptive weight e^w (arXiv 2410.11081, App. D)."""
    target: Field | None = None
    """An average of the student that gives the targets of CM's objectives; None is the student itself."""
    student_to: Jump | None = None
    """The student of a method of two times; all that an objective sees of a target time."""
    target_to: Jump | None = None
    """`target` of such a student."""
    fake: Field | None = None
    """The diffusion model of the student's own samples (score distillation)."""
    score_log_weight: TimeFunction | None = None
    """The w(t) with which scores are compared."""
    fake_log_weight: TimeFunction | None = None
    """The fake's own w(t)."""
    own_guidance: OwnGuidance | None = None
    """Of a student of two times some of whose labels are withheld."""


@dataclass(frozen=True)
class Draws:
    """The randomness of one training step."""

    uniform: Float[Tensor, " batch"]
    """In (0, 1), float64; turned into angles by the proposal."""
    noise: Float[Tensor, "batch *shape"]
    """Standard normal, in the dtype of the data."""
    start: Float[Tensor, "batch *shape"] | None = None
    """Standard normal, from which the student generates (score distillation)."""
    score: "Draws | None" = None
    """Of the times and noise at which scores are compared."""
    fake: "Draws | None" = None
    """Of the times and noise at which the fake learns."""
    lower: Float[Tensor, " batch"] | None = None
    """As `uniform`, of a second time; of methods of two times."""
    middle: Float[Tensor, " batch"] | None = None
    """As `uniform`, of a time between the two; of methods of two times."""


def bind(
    module: nn.Module,
    parameters: Mapping[str, Tensor] | None = None,
    condition: Condition | Any = None,
    precision: torch.dtype = torch.float32,
    frozen: bool = False,
) -> Field:
    """(x, t) -> module(x, t, condition) with `parameters`, or the module's own; the output has x's dtype.

    A module that takes no Condition is given its label alone (core.condition.given_to, which says how that is told, and
    raises ValueError where it would be told more).

    Under `precision` float16 or bfloat16 the module runs in autocast and everything around it, the
    objective's arithmetic included, stays in x's dtype. The module gets t in x's dtype too, but in float32 where x is
    narrower. `parameters` may hold buffers too; a module that writes to these writes to copies, so that every
    evaluation starts from what was given. A `frozen` field has no gradient in parameters, keeps the one in x, t
    and condition, and leaves the module's buffers alone. Raises ValueError for points of integers.
    """
    told = given_to(module, condition)
    buffers = {name for name, _ in module.named_buffers(remove_duplicate=False)} if frozen or parameters else set()

    def field(x: Tensor, t: Tensor) -> Tensor:
        check_floating(x)
        with torch.autocast(x.device.type, dtype=precision, enabled=precision.itemsize < 4):
            arguments = (x, t.to(time_dtype(x)), told)
            if parameters is None and not frozen:
                output = module(*arguments)
            else:
                given = {**(_state_of(module) if frozen else {}), **(parameters or {})}
                given = {name: p.clone() if name in buffers else p for name, p in given.items()}
                given = {name: p.detach() for name, p in given.items()} if frozen else given
                with again_with(module, given):
                    output = functional_call(module, given, arguments)
        return output.to(x.dtype)

    return field


def _state_of(module: nn.Module) -> dict[str, Tensor]:
    return dict(module.named_parameters()) | dict(module.named_buffers())
