"""Held-out digits and what reads them."""

import torch
from torch import Tensor

from trigbench.workflow.data.dataset import Dataset
from trigbench.workflow.data.kinds.digits.classifier import features, to_pixels
from trigbench.workflow.data.labelled import Labelled

LAST = "extractor/7"
"""The last layer of the classifier."""


def labelled(dataset: Dataset) -> Labelled:
    """Of the prepared arrays, which have the classifier."""
    arrays = dataset.arrays
    images = torch.from_numpy(arrays["held_out"]).float() / float(arrays["sigma_d"])
    weight, bias = (torch.from_numpy(arrays[f"{LAST}.{name}"]) for name in ("weight", "bias"))

    def read(x: Tensor) -> Tensor:
        return (features(to_pixels(x, arrays), arrays).float() @ weight.T + bias).argmax(1)

    return Labelled(torch.from_numpy(arrays["held_out_labels"]).long(), lambda rows: images[rows], read)
