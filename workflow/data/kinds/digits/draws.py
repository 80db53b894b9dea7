"""Draws of scikit-learn's digits."""

import torch
from torch import Tensor

from trigbench.core.condition import Condition
from trigbench.workflow.data.dataset import Dataset, checked_labels
from trigbench.workflow.data.kinds.digits.dimensions import DIGIT_CLASSES
from trigbench.workflow.machine.files import Arrays


def open_dataset(arrays: Arrays, sigma_d: float) -> Dataset:
    """Data units divided by sigma_d; labels are the digits."""
    images = torch.from_numpy(arrays["train"]).float() / sigma_d
    labels = checked_labels(torch.from_numpy(arrays["train_labels"]), len(images), DIGIT_CLASSES)

    def draw(g: torch.Generator, batch: int) -> tuple[Tensor, Condition]:
        chosen = torch.randint(len(images), (batch,), generator=g)
        return images[chosen], Condition(label=labels[chosen])

    shares = tuple(torch.bincount(labels, minlength=DIGIT_CLASSES).tolist())
    return Dataset(tuple(images.shape[1:]), DIGIT_CLASSES, draw, None, arrays, shares)
