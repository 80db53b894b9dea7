"""Draws of images, from their shards."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trigbench.core.condition import Condition
from trigbench.workflow.data.dataset import Dataset, checked_labels
from trigbench.workflow.data.files.shards import Shards, open_shards
from trigbench.workflow.machine.files import Arrays

AGAIN = "delete the prepared .npz of this data set; the workflow makes it again, and only what is missing"


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


def shares_of(shards: Shards, folder: Path) -> tuple[int, ...]:
    """How many rows there are of each class. Raises BenchError for a label that is none of them."""
    manifest = shards.manifest
    checked_labels(torch.from_numpy(np.array(shards.labels)), len(shards), len(manifest.classes), folder)
    return tuple(manifest.rows_of_class[name] for name in manifest.classes)


def to_unit_variance(pixels: Tensor, sigma_d: float) -> Tensor:
    """uint8 -> [-1, 1] / sigma_d."""
    return (pixels.float() / 127.5 - 1) / sigma_d


def drawn_from(arrays: Arrays) -> dict[str, Any]:
    """Where the shards lie, their digests, and how they are drawn."""
    return json.loads(str(arrays["about"]))
