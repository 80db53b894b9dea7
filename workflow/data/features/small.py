"""Small networks that a kind of data trains by itself, in seconds, to judge its samples: kept among its arrays."""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from trigbench.core.optimiser import adam_step, initial_state
from trigbench.workflow.data.features.dimensions import CLASSIFIER
from trigbench.workflow.data.randomness import generator, seed_for


def of_8x8(channels: int, outputs: int) -> nn.Sequential:
    """(batch, channels, 8, 8) -> (batch, outputs); all but the last layer give 64 features."""
    return nn.Sequential(
        nn.Conv2d(channels, 32, 3, padding=1),
        nn.SiLU(),
        nn.Conv2d(32, 64, 3, stride=2, padding=1),
        nn.SiLU(),
        nn.Flatten(),
        nn.Linear(64 * 16, CLASSIFIER),
        nn.SiLU(),
        nn.Linear(CLASSIFIER, outputs),
    )


def fitted(
    make: Callable[[], nn.Module],
    loss_of: Callable[[Callable[[Tensor], Tensor], Tensor], Tensor],
    count: int,
    *,
    seed: int,
    purpose: str,
    epochs: int,
    batch: int,
    rate: float,
) -> dict[str, Tensor]:
    """Weights after some passes of Adam over `count` rows in random order, drawn with that order for a purpose.

    `loss_of` is told the network and the rows of a batch.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for(seed, purpose))
        module = make()
    parameters = {name: p.detach().clone().requires_grad_() for name, p in module.named_parameters()}
    state = initial_state(parameters)
    for epoch in range(epochs):
        order = torch.randperm(count, generator=generator(seed, purpose, epoch))
        for rows in order.split(batch):
            loss = loss_of(lambda x: functional_call(module, parameters, (x,)), rows)
            gradients = torch.autograd.grad(loss, list(parameters.values()))
            adam_step(parameters, dict(zip(parameters, gradients, strict=True)), state, rate=rate)
    return {name: p.detach() for name, p in parameters.items()}


def kept_under(prefix: str, arrays: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    """The weights that prepared arrays have under names that begin so."""
    return {name.removeprefix(prefix): torch.from_numpy(a) for name, a in arrays.items() if name.startswith(prefix)}
