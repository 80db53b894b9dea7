"""Draws of moving shapes: videos in unit variance, with the shape's number."""

import torch
from torch import Tensor

from trigbench.core.condition import Condition
from trigbench.workflow.data.dataset import Dataset, checked_labels
from trigbench.workflow.machine.files import Arrays


def open_dataset(arrays: Arrays, sigma_d: float) -> Dataset:
    """Data units divided by sigma_d; a label is a shape."""
    videos, numbers = torch.from_numpy(arrays["train"]).float() / sigma_d, torch.from_numpy(arrays["train_labels"])
    classes = int(numbers.max()) + 1
    labels = checked_labels(numbers, len(videos), classes)

    def draw(g: torch.Generator, batch: int) -> tuple[Tensor, Condition]:
        chosen = torch.randint(len(videos), (batch,), generator=g)
        return videos[chosen], Condition(label=labels[chosen])

    shares = tuple(torch.bincount(labels, minlength=classes).tolist())
    return Dataset(tuple(videos.shape[1:]), classes, draw, None, arrays, shares)
