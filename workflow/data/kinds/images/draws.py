"""Draws of images, from their shards."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from trigbench.core.condition import Condition
from trigbench.workflow.data.dataset import Dataset
from trigbench.workflow.data.files.drawing import AGAIN, drawn_from, shares_of
from trigbench.workflow.data.files.shards import open_shards
from trigbench.workflow.machine.files import Arrays


def open_dataset(arrays: Arrays, sigma_d: float) -> Dataset:
    """Pixels in [-1, 1] divided by sigma_d, drawn with repetition."""
    about = drawn_from(arrays)
    shards = open_shards(Path(about["folder"]) / "train", about["parts"]["train"], AGAIN)
    told = about["conditional"] and shards.labels is not None
    shares = shares_of(shards, Path(about["folder"])) if told else ()

    def draw(g: torch.Generator, batch: int) -> tuple[Tensor, Condition]:
        chosen = torch.randint(len(shards), (batch,), generator=g).numpy()
        images = to_unit_variance(torch.from_numpy(shards.rows(chosen)), sigma_d)
        if about["flips"]:
            images = torch.where(torch.rand(batch, 1, 1, 1, generator=g) < 0.5, images, images.flip(-1))
        labels = torch.from_numpy(np.array(shards.labels[chosen])) if told and shards.labels is not None else None
        return images, Condition(label=labels)

    return Dataset(shards.manifest.shape, len(shares), draw, None, arrays, shares or None)


def to_unit_variance(pixels: Tensor, sigma_d: float) -> Tensor:
    """uint8 -> [-1, 1] / sigma_d."""
    return (pixels.float() / 127.5 - 1) / sigma_d
