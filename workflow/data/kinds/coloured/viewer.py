"""What pictures are judged by: features of a small network that tells a digit and its colour."""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from trigbench.workflow.data.features.small import fitted, kept_under, of_8x8
from trigbench.workflow.data.kinds.coloured.dimensions import DIGIT_CLASSES, LAW
from trigbench.workflow.data.kinds.coloured.painting import Levels, Numbers, Pictures, painted

EPOCHS, BATCH, RATE = 30, 64, 1e-3
LAST = "7"
"""Of the layers, that of the answers."""
PREFIX = "viewer/"
"""Of its weights, among prepared arrays."""


def viewer() -> nn.Sequential:
    """8x8 pictures -> logits of the digits, then of the colours; all but the last layer give 64 features."""
    return of_8x8(3, DIGIT_CLASSES + len(LAW[0]))


def train_viewer(levels: Levels, digits: Numbers, seed: int) -> dict[str, Tensor]:
    """Its weights, of every digit in all colours alike: so it reads the digit by the shape alone."""

    def loss_of(network: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
        colours = torch.arange(len(rows)) % len(LAW[0])  # rows come in random order
        logits = network(painted(levels[rows], colours))
        loss = nn.functional.cross_entropy(logits[:, :DIGIT_CLASSES], digits[rows])
        return loss + nn.functional.cross_entropy(logits[:, DIGIT_CLASSES:], colours)

    return fitted(viewer, loss_of, len(levels), seed=seed, purpose="viewer", epochs=EPOCHS, batch=BATCH, rate=RATE)


def features(pictures: Pictures, arrays: Mapping[str, np.ndarray]) -> Tensor:
    """64 features of each picture, as far as it can be shown, float64 on the CPU."""
    module = viewer()
    module.load_state_dict(kept_under(PREFIX, arrays))
    with torch.no_grad():
        return module[:-1](pictures.float().clamp(0, 1)).double()


def read(pictures: Pictures, arrays: Mapping[str, np.ndarray]) -> tuple[Numbers, Numbers]:
    """The digit and the colour that it reads of each."""
    weight, bias = (torch.from_numpy(arrays[f"{PREFIX}{LAST}.{name}"]).double() for name in ("weight", "bias"))
    logits = features(pictures, arrays) @ weight.T + bias
    return logits[:, :DIGIT_CLASSES].argmax(1), logits[:, DIGIT_CLASSES:].argmax(1)
