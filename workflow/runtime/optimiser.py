"""Adam on plain dictionaries of tensors, so that its state is checkpointed like any other.

torch's functional form is used: the Optimizer class imports the compiler on its first step, which
takes longer than a small run's training.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim.adam import adam


@dataclass(frozen=True)
class AdamState:
    """Moments by parameter name, updated in place."""

    first: dict[str, Tensor]
    second: dict[str, Tensor]
    steps: dict[str, Tensor]


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
) -> None:
    """One step of Adam with betas (0.9, 0.99), those of the paper's students; epsilon 1e-8 (App. G).

    Of all parameters, or of those that are named.
    """
    names = list(parameters if names is None else names)
    with torch.no_grad():
        adam(
            [parameters[n] for n in names],
            [gradients[n] for n in names],
            [state.first[n] for n in names],
            [state.second[n] for n in names],
            [],
            [state.steps[n] for n in names],
            fused=True,
            amsgrad=False,
            beta1=0.9,
            beta2=0.99,
            lr=rate,
            weight_decay=0.0,
            eps=1e-8,
            maximize=False,
        )
