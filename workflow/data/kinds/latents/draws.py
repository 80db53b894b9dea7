"""Draws of latents, each from its image's own distribution."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from trigbench.core.condition import Condition
from trigbench.workflow.data.dataset import Dataset
from trigbench.workflow.data.files.drawing import AGAIN, drawn_from, shares_of
from trigbench.workflow.data.files.shards import open_shards
from trigbench.workflow.data.kinds.latents.autoencoder import CHANNELS, normalise
from trigbench.workflow.machine.files import Arrays


def open_dataset(arrays: Arrays, sigma_d: float) -> Dataset:
    """Latents in unit variance, drawn with repetition from each image's own distribution."""
    about = drawn_from(arrays)
    shards = open_shards(Path(about["folder"]) / "train", about["parts"]["train"], AGAIN)
    _, *image = shards.manifest.shape

    def draw(g: torch.Generator, batch: int) -> tuple[Tensor, Condition]:
        assert shards.labels is not None  # folders of ImageNet have them
        chosen = torch.randint(len(shards), (batch,), generator=g).numpy()
        noise = torch.randn(batch, CHANNELS, *image, generator=g)
        latents = normalise(torch.from_numpy(shards.rows(chosen)), noise)
        return latents, Condition(label=torch.from_numpy(np.array(shards.labels[chosen])))

    shares = shares_of(shards, Path(about["folder"]))
    return Dataset((CHANNELS, *image), len(shares), draw, None, arrays, shares)
