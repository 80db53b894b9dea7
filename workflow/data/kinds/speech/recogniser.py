"""What reads spoken words: a small network that the workflow trains on the training part, and its features."""

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from trigbench.workflow.data.features.dimensions import CLASSIFIER
from trigbench.workflow.data.features.small import fitted, kept_under
from trigbench.workflow.data.kinds.speech.dimensions import BANDS, FRAMES

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

    def loss_of(network: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
        return nn.functional.cross_entropy(network(x[rows]), labels[rows])

    make = partial(recogniser, classes)
    return fitted(make, loss_of, len(x), seed=seed, purpose="recogniser", epochs=EPOCHS, batch=BATCH, rate=RATE)


def features(x: Tensor, arrays: Mapping[str, np.ndarray]) -> Tensor:
    """64 of each spectrogram in unit variance, float64 on the CPU."""
    with torch.no_grad():
        return _network(arrays)[:-1](x.float()).double()


def read(features: Tensor, arrays: Mapping[str, np.ndarray]) -> Tensor:
    """The classes that features are read as, int64."""
    with torch.no_grad():
        return _network(arrays)[-1](features.float()).argmax(1)


def _network(arrays: Mapping[str, np.ndarray]) -> nn.Sequential:
    weights = kept_under(PREFIX, arrays)
    network = recogniser(len(weights[f"{LAST}.bias"]))
    network.load_state_dict(weights)
    return network
