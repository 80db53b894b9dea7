"""Fields: networks bound to parameters and condition, all that objectives and samplers see."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from trigbench.core.trigflow import Field, TimeFunction, check_floating, time_dtype


@dataclass(frozen=True)
class Fields:
    """The functions a method may use; what it does not use is None."""

    student: Field
    teacher: Field | None = None
    log_weight: TimeFunction | None = None
    """w(t) of the adaptive weight e^w (arXiv 2410.11081, App. D)."""
    target: Field | None = None
    """An average of the student that gives the targets of CM's objectives; None is the student itself."""
    student_to: Callable[[Tensor], Field] | None = None
    """u of (batch,) -> the student told that it maps down to u (multi-step sCD)."""
    fake: Field | None = None
    """The diffusion model of the student's own samples (score distillation)."""
    score_log_weight: TimeFunction | None = None
    """The w(t) with which scores are compared."""
    fake_log_weight: TimeFunction | None = None
    """The fake's own w(t)."""


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


def bind(
    module: nn.Module,
    parameters: Mapping[str, Tensor] | None = None,
    condition: Any = None,
    precision: torch.dtype = torch.float32,
) -> Field:
    """(x, t) -> module(x, t, condition) with `parameters`, or the module's own; the output has x's dtype.

    Under `precision` float16 or bfloat16 the module runs in autocast and everything around it, the
    objective's arithmetic included, stays in x's dtype. The module gets t in x's dtype too, but in float32 where x is
    narrower. `parameters` may hold buffers too; a module that writes to these writes to copies, so that every
    evaluation starts from what was given. Raises ValueError for points of integers.
    """
    buffers = set() if parameters is None else {name for name, _ in module.named_buffers(remove_duplicate=False)}

    def field(x: Tensor, t: Tensor) -> Tensor:
        check_floating(x)
        with torch.autocast(x.device.type, dtype=precision, enabled=precision.itemsize < 4):
            arguments = (x, t.to(time_dtype(x)), condition)
            if parameters is None:
                output = module(*arguments)
            else:
                given = {name: p.clone() if name in buffers else p for name, p in parameters.items()}
                output = functional_call(module, given, arguments)
        return output.to(x.dtype)

    return field
