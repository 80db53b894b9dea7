"""Draws of grey images, from their shards: pixels in unit variance, folded into channels where that is asked for."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from trigbench.core.condition import UNTOLD, Condition
from trigbench.workflow.data.dataset import Dataset
from trigbench.workflow.data.files.drawing import AGAIN, drawn_from, shares_of
from trigbench.workflow.data.files.shards import open_shards
from trigbench.workflow.machine.files import Arrays


def open_dataset(arrays: Arrays, sigma_d: float) -> Dataset:
    """Grey levels less their mean over their standard deviation in the training part, drawn with repetition."""
    about = drawn_from(arrays)
    shards = open_shards(Path(about["folder"]) / "train", about["parts"]["train"], AGAIN)
    labels = shards.labels
    assert labels is not None  # IDX files come with them
    fold, mean, std = about["fold"], about["mean"], about["std"]
    _, side, _ = shards.manifest.shape
    shares = shares_of(shards, Path(about["folder"])) if about["conditional"] else ()

    def draw(g: torch.Generator, batch: int) -> tuple[Tensor, Condition]:
        chosen = torch.randint(len(shards), (batch,), generator=g).numpy()
        images = to_unit_variance(torch.from_numpy(shards.rows(chosen)), mean, std, fold)
        return images, Condition(label=torch.from_numpy(np.array(labels[chosen]))) if shares else UNTOLD

    shape = (fold**2, side // fold, side // fold)
    return Dataset(shape, len(shares), draw, None, arrays, shares or None)


def to_unit_variance(
    levels: UInt8[Tensor, "n 1 side side"], mean: float, std: float, fold: int
) -> Float[Tensor, "n channels folded folded"]:
    """Grey levels from 0 to 255 -> unit variance; `fold` x `fold` neighbours become channels."""
    return pixel_unshuffle((levels.float() - mean) / std, fold)


def to_levels(
    samples: Float[Tensor, "n channels folded folded"], mean: float, std: float, fold: int
) -> UInt8[Tensor, "n 1 side side"]:
    """Back, rounded to the nearest level."""
    return (pixel_shuffle(samples, fold) * std + mean).round().clamp(0, 255).to(torch.uint8)
