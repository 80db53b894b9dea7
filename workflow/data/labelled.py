"""Held-out images of known classes: what edits are made of, and by what their classes are read."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from trigbench.workflow.data.dataset import Dataset
from trigbench.workflow.data.features.extractors import BATCH, classifier_of
from trigbench.workflow.data.features.judging import about_of
from trigbench.workflow.data.files.drawing import AGAIN
from trigbench.workflow.data.files.shards import check_file, open_shards
from trigbench.workflow.machine.tensors import read_tensors


@dataclass(frozen=True)
class Truth:
    """The law of images given what an edit sees of them."""

    draw: Callable[[Tensor, Tensor, torch.Generator], Tensor]
    """(images, their labels, generator) -> for each an exact draw given what is seen of it."""
    judge: Callable[[Tensor, Tensor, Tensor], dict[str, float]]
    """(edits, the images, their labels) -> how far edits are from it."""
    measures: tuple[str, ...]
    """What that is called, as study.edits knows it."""


@dataclass(frozen=True)
class Labelled:
    """Held-out images, by their rows."""

    labels: Tensor
    """Of every row, int64."""
    images: Callable[[Tensor], Tensor]
    """Rows -> images (n, *shape) in unit variance."""
    read: Callable[[Tensor], Tensor]
    """Images -> the classes that a classifier reads, which was trained on the training part."""
    truths: Mapping[str, Truth] = field(default_factory=dict)
    """By the edit, where that law is known."""


def of_shards(
    dataset: Dataset, to_points: Callable[[Tensor], Tensor], to_pixels: Callable[[Tensor], Tensor]
) -> Labelled:
    """Of prepared shards: from uint8 (n, channels, side, side) to points, and to what the classifier sees of points.

    Raises LookupError for data without labels, or judged in features of anything but a classifier trained here.
    """
    about = about_of(dataset.arrays)
    held = open_shards(Path(about["folder"]) / "held_out", about["parts"]["held_out"], AGAIN)
    origin = about["extractor"]
    if held.labels is None or origin["kind"] != "classifier":
        raise LookupError("no labels" if held.labels is None else f"features of {origin['kind']}, which reads no class")
    check_file(Path(origin["weights"]), origin["sha256"], AGAIN)
    network = classifier_of(read_tensors(Path(origin["weights"]), AGAIN))

    def read(x: Tensor) -> Tensor:
        with torch.no_grad():
            return torch.cat([network(rows.float() / 127.5 - 1).argmax(1) for rows in to_pixels(x).split(BATCH)])

    labels = torch.from_numpy(np.array(held.labels)).long()
    return Labelled(labels, lambda rows: to_points(torch.from_numpy(held.rows(rows.numpy()))), read)
