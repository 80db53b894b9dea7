"""Draws of latents of grey images, each from its image's own distribution."""

import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from trigbench.core.condition import Condition
from trigbench.workflow.data.dataset import Dataset
from trigbench.workflow.data.files.drawing import AGAIN, shares_of
from trigbench.workflow.data.files.shards import open_shards
from trigbench.workflow.data.kinds.idx.latents.dimensions import CHANNELS
from trigbench.workflow.machine.files import Arrays


def open_dataset(arrays: Arrays, sigma_d: float) -> Dataset:
    """Latents in unit variance, drawn with repetition from each image's own distribution, with its label."""
    about = json.loads(str(arrays["latents"]))
    folder = Path(about["folder"])
    shards = open_shards(folder, about["train"], AGAIN)
    labels = shards.labels
    assert labels is not None  # IDX files come with them
    _, *side = shards.manifest.shape

    def draw(g: torch.Generator, batch: int) -> tuple[Tensor, Condition]:
        chosen = torch.randint(len(shards), (batch,), generator=g).numpy()
        mean, std = torch.from_numpy(shards.rows(chosen)).float().chunk(2, dim=1)
        latents = mean + std * torch.randn(mean.shape, generator=g)
        return latents, Condition(label=torch.from_numpy(np.array(labels[chosen])))

    shares = shares_of(shards, folder)
    return Dataset((CHANNELS, *side), len(shares), draw, None, arrays, shares)
