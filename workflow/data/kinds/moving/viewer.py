"""What samples are judged by beside their motion: features of a small network that tells shape, place and velocity."""

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from trigbench.workflow.data.features.dimensions import CLASSIFIER
from trigbench.workflow.data.features.small import fitted, kept_under
from trigbench.workflow.data.kinds.moving.dimensions import FRAMES, SIDE

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

    def loss_of(network: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
        answers = network(x[rows])
        loss = nn.functional.cross_entropy(answers[:, :classes], labels[rows])
        return loss + (answers[:, classes:] - motions[rows]).square().mean()

    make = partial(viewer, classes + motions.shape[1])
    return fitted(make, loss_of, len(x), seed=seed, purpose="viewer", epochs=EPOCHS, batch=BATCH, rate=RATE)


def features(x: Tensor, arrays: Mapping[str, np.ndarray]) -> Tensor:
    """64 features of each video in unit variance, float64 on the CPU."""
    with torch.no_grad():
        return _network(arrays)[:-1](x.float()).double()


def answers(features: Tensor, arrays: Mapping[str, np.ndarray]) -> Tensor:
    """What the network says of features: scores of the shapes, then the four numbers."""
    with torch.no_grad():
        return _network(arrays)[-1](features.float())


def _network(arrays: Mapping[str, np.ndarray]) -> nn.Sequential:
    weights = kept_under(PREFIX, arrays)
    network = viewer(len(weights[f"{LAST}.bias"]))
    network.load_state_dict(weights)
    return network
