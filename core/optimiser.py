"""Adam and RAdam on plain dictionaries of tensors, so that its state is checkpointed like any other.

torch's functional form is used: the Optimizer class imports the compiler on its first step, which
takes longer than a small run's training.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim.adam import adam
from torch.optim.radam import radam

from trigbench.core.constants import ADAM_BETAS, ADAM_EPSILON


@dataclass(frozen=True)
class AdamSettings:
    """Of the paper's students on ImageNet but for their epsilon, and of all runs that name nothing else (App. G)."""

    method: Literal["adam", "radam"] = "adam"
    """Adam, or rectified Adam (arXiv 1908.03265)."""
    beta1: float = ADAM_BETAS[0]
    """beta_1: decay per step of the running mean of gradients, in [0, 1)."""
    beta2: float = ADAM_BETAS[1]
    """beta_2: decay per step of that of their squares, in (0, 1)."""
    epsilon: float = ADAM_EPSILON
    """Added to the root of the second mean, above 0."""


@dataclass(frozen=True)
class AdamState:
    """Moments by parameter name, updated in place."""

    first: dict[str, Tensor]
    """Running means of gradients, shaped as the parameters."""
    second: dict[str, Tensor]
    """Running means of their squares."""
    steps: dict[str, Tensor]
    """How many steps each has taken, a scalar in float32."""


def initial_state(parameters: Mapping[str, Tensor]) -> AdamState:
    """Zero moments."""
    return AdamState(
        {name: torch.zeros_like(p) for name, p in parameters.items()},
        {name: torch.zeros_like(p) for name, p in parameters.items()},
        {name: torch.zeros((), dtype=torch.float32, device=p.device) for name, p in parameters.items()},
    )


def adam_step(
    parameters: Mapping[str, Tensor],
    gradients: Mapping[str, Tensor],
    state: AdamState,
    rate: float,
    names: Sequence[str] | None = None,
    settings: AdamSettings | None = None,
) -> None:
    """One step, of Adam as the paper's students have it unless told otherwise (App. G).

    Of all parameters, or of those that are named.
    """
    settings, names = settings or AdamSettings(), list(parameters if names is None else names)
    first, second = ([values[n] for n in names] for values in (state.first, state.second))
    steps = [state.steps[n] for n in names]
    constants: dict[str, Any] = {
        "beta1": settings.beta1, "beta2": settings.beta2, "lr": rate, "weight_decay": 0.0, "eps": settings.epsilon,
    }  # fmt: skip
    own, theirs = [parameters[n] for n in names], [gradients[n] for n in names]
    with torch.no_grad():
        if settings.method == "radam":
            radam(own, theirs, first, second, steps, **constants)
        else:
            adam(own, theirs, first, second, [], steps, fused=True, amsgrad=False, maximize=False, **constants)
