"""Draws of coloured digits: painted anew each time, so that their colours have exactly the law."""

import torch
from torch import Tensor

from trigbench.core.condition import UNTOLD, Condition
from trigbench.workflow.data.dataset import Dataset, checked_labels
from trigbench.workflow.data.kinds.coloured.dimensions import DIGIT_CLASSES
from trigbench.workflow.data.kinds.coloured.painting import drawn_colours, painted
from trigbench.workflow.machine.files import Arrays


def open_dataset(arrays: Arrays, sigma_d: float) -> Dataset:
    """In unit variance over all colours; networks are not told the digit."""
    levels = torch.from_numpy(arrays["train"])
    digits = checked_labels(torch.from_numpy(arrays["train_labels"]), len(levels), DIGIT_CLASSES)
    mean, std = float(arrays["mean"]), float(arrays["std"])

    def draw(g: torch.Generator, batch: int) -> tuple[Tensor, Condition]:
        chosen = torch.randint(len(levels), (batch,), generator=g)
        pictures = painted(levels[chosen], drawn_colours(digits[chosen], g))
        return (pictures - mean) / std, UNTOLD

    return Dataset((3, *levels.shape[1:]), 0, draw, None, arrays)
