"""What samples are judged by beside their motion: features of a small network that tells shape, place and velocity."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from trigbench.core.optimiser import adam_step, initial_state
from trigbench.workflow.data.features.dimensions import CLASSIFIER
from trigbench.workflow.data.kinds.moving.dimensions import FRAMES, SIDE
from trigbench.workflow.data.randomness import generator, seed_for

EPOCHS, BATCH, RATE = 10, 64, 1 / 500
WIDTH = 32
LAST = "6"
"""Of the layers, that of the answers."""
PREFIX = "viewer/"
"""Of its weights, among prepared arrays."""


def viewer(answers: int) -> nn.Sequential:
    """Videos (n, FRAMES, SIDE, SIDE) in unit variance -> answers; all but the last layer give 64 features."""
    return nn.Sequential(
        nn.Conv2d(FRAMES, WIDTH, 3, stride=2, padding=1),
        nn.SiLU(),
        nn.Conv2d(WIDTH, WIDTH, 3, stride=2, padding=1),
        nn.Flatten(),
        nn.Linear((SIDE // 4) ** 2 * WIDTH, CLASSIFIER),
        nn.SiLU(),
        nn.Linear(CLASSIFIER, answers),
    )


def train_viewer(x: Tensor, labels: Tensor, motions: Tensor, seed: int) -> dict[str, Tensor]:
    """Its weights after a few passes over videos in unit variance, their shapes, and of each four numbers of about unit
    size, which its last answers are."""
    classes = int(labels.max()) + 1
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for(seed, "viewer"))
        module = viewer(classes + motions.shape[1])
    parameters = {name: p.detach().clone().requires_grad_() for name, p in module.named_parameters()}
    state = initial_state(parameters)
    for epoch in range(EPOCHS):
        order = torch.randperm(len(x), generator=generator(seed, "viewer", epoch))
        for rows in order.split(BATCH):
            answers = functional_call(module, parameters, (x[rows],))
            loss = nn.functional.cross_entropy(answers[:, :classes], labels[rows])
            loss = loss + (answers[:, classes:] - motions[rows]).square().mean()
            gradients = torch.autograd.grad(loss, list(parameters.values()))
            adam_step(parameters, dict(zip(parameters, gradients, strict=True)), state, rate=RATE)
    return {name: p.detach() for name, p in parameters.items()}


def features(x: Tensor, arrays: Mapping[str, np.ndarray]) -> Tensor:
    """64 features of each video in unit variance, float64 on the CPU."""
    with torch.no_grad():
        return _network(arrays)[:-1](x.float()).double()


def answers(features: Tensor, arrays: Mapping[str, np.ndarray]) -> Tensor:
    """What the network says of features: scores of the shapes, then the four numbers."""
    with torch.no_grad():
        return _network(arrays)[-1](features.float())


def _network(arrays: Mapping[str, np.ndarray]) -> nn.Sequential:
    weights = {
        name.removeprefix(PREFIX): torch.from_numpy(value) for name, value in arrays.items() if name.startswith(PREFIX)
    }
    network = viewer(len(weights[f"{LAST}.bias"]))
    network.load_state_dict(weights)
    return network
