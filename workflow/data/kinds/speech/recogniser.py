"""What reads spoken words: a small network that the workflow trains on the training part, and its features."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from trigbench.core.optimiser import adam_step, initial_state
from trigbench.workflow.data.features.dimensions import CLASSIFIER
from trigbench.workflow.data.kinds.speech.dimensions import BANDS, FRAMES
from trigbench.workflow.data.randomness import generator, seed_for

EPOCHS, BATCH, RATE = 15, 64, 1e-3
WIDTH = 32
LAST = "6"
"""Of the layers, that of the classes."""
PREFIX = "recogniser/"
"""Of its weights, among prepared arrays."""


def recogniser(classes: int) -> nn.Sequential:
    """Spectrograms (n, 1, BANDS, FRAMES) in unit variance -> logits; all but the last layer give 64 features."""
    sizes = (BANDS // 4) * (FRAMES // 4)
    return nn.Sequential(
        nn.Conv2d(1, WIDTH, 3, stride=2, padding=1),
        nn.SiLU(),
        nn.Conv2d(WIDTH, WIDTH, 3, stride=2, padding=1),
        nn.Flatten(),
        nn.Linear(sizes * WIDTH, CLASSIFIER),
        nn.SiLU(),
        nn.Linear(CLASSIFIER, classes),
    )


def train_recogniser(x: Tensor, labels: Tensor, classes: int, seed: int) -> dict[str, Tensor]:
    """Its weights after a few passes over spectrograms in unit variance and their classes."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for(seed, "recogniser"))
        module = recogniser(classes)
    parameters = {name: p.detach().clone().requires_grad_() for name, p in module.named_parameters()}
    state = initial_state(parameters)
    for epoch in range(EPOCHS):
        order = torch.randperm(len(x), generator=generator(seed, "recogniser", epoch))
        for rows in order.split(BATCH):
            loss = nn.functional.cross_entropy(functional_call(module, parameters, (x[rows],)), labels[rows])
            gradients = torch.autograd.grad(loss, list(parameters.values()))
            adam_step(parameters, dict(zip(parameters, gradients, strict=True)), state, rate=RATE)
    return {name: p.detach() for name, p in parameters.items()}


def features(x: Tensor, arrays: Mapping[str, np.ndarray]) -> Tensor:
    """64 of each spectrogram in unit variance, float64 on the CPU."""
    with torch.no_grad():
        return _network(arrays)[:-1](x.float()).double()


def read(features: Tensor, arrays: Mapping[str, np.ndarray]) -> Tensor:
    """The classes that features are read as, int64."""
    with torch.no_grad():
        return _network(arrays)[-1](features.float()).argmax(1)


def _network(arrays: Mapping[str, np.ndarray]) -> nn.Sequential:
    weights = {
        name.removeprefix(PREFIX): torch.from_numpy(value) for name, value in arrays.items() if name.startswith(PREFIX)
    }
    network = recogniser(len(weights[f"{LAST}.bias"]))
    network.load_state_dict(weights)
    return network
